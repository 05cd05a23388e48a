//! Where SIP and MSRP are listened for, and what MSRP paths name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::BytesMut;
use restante_msrp::framing::{FramingLimits, Peek as FirstBytes, peek_to_path};
use restante_msrp::session_id::shard_of_session_id;
use restante_msrp::status::Status;
use restante_msrp::uri::{Host, MsrpUri};
use restante_transport::msrp::{HandedOver, HandedStream, Peek};
use restante_transport::queue::Lane;
use restante_transport::{Listener, ListenerId, Protocol, Transport, WebSockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::Shared;
use super::msrp_relay;
use super::offenders::{Standing, slow_down};
use super::shard::ToShard;
use crate::configuration::{Configuration, HostPort, ListenAddress};

/// Time for a refusal of what our own relay passes on.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What MSRP paths name.
#[derive(Clone, Debug)]
pub struct MsrpPlace {
    /// Host.
    pub host: Host,
    /// Port.
    pub port: Option<u16>,
    /// Over TLS.
    pub is_encrypted: bool,
    /// Family of the listener; none where a name is advertised, which may have addresses of both.
    pub is_ipv6: Option<bool>,
}

/// Never used: a server without an MSRP listener does not start.
pub(super) const NO_PLACE: MsrpPlace =
    MsrpPlace { host: Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: None, is_encrypted: false, is_ipv6: None };

/// Where SIP is to be listened for.
pub(super) fn sip_listeners(configuration: &Configuration) -> Vec<Listener> {
    configuration.sip.listen.iter().map(|it| sip_listener(it, configuration)).collect()
}

/// The MSRP listeners: what paths name must be known before anything is offered.
pub(super) struct BoundMsrp {
    listeners: Vec<Listener>,
    pub(super) places: Vec<MsrpPlace>,
}

impl BoundMsrp {
    /// Whether there are any, and paths can name them.
    pub(super) fn check(configuration: &Configuration) -> Result<()> {
        if configuration.msrp.listen.is_empty() {
            bail!("msrp.listen is empty: expected \"tcp:HOST:PORT\"");
        }
        let mut places =
            configuration.msrp.listen.iter().map(|listen| BoundMsrp::place(&msrp_listener(listen, configuration)));
        places.try_for_each(|place| place.map(drop))
    }

    /// Chooses ports where the system is to choose, by binding and letting go again.
    pub(super) fn reserve(configuration: &Configuration) -> Result<BoundMsrp> {
        BoundMsrp::check(configuration)?;
        let mut listeners = Vec::new();
        for listen in &configuration.msrp.listen {
            let mut listener = msrp_listener(listen, configuration);
            if listener.bind.port() == 0 {
                listener.bind = std::net::TcpListener::bind(listener.bind).and_then(|socket| socket.local_addr())?;
            }
            listeners.push(listener);
        }
        let places = listeners.iter().map(BoundMsrp::place).collect::<Result<_>>()?;
        Ok(BoundMsrp { listeners, places })
    }

    /// Opens them; gives where they are.
    pub(super) fn listen(self, transport: &Transport, shared: &Arc<Shared>) -> Result<Vec<(Protocol, SocketAddr)>> {
        let mut bound = Vec::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let (limits, shared, counting) = (shared.msrp_limits.clone(), shared.clone(), shared.clone());
            let peek = move |bytes: &[u8]| match peek_to_path(bytes, &limits) {
                FirstBytes::NeedMore => Peek::Incomplete,
                FirstBytes::Found(request) => {
                    request.session_id().map_or(Peek::Refused, |id| Peek::Session(id.to_owned()))
                }
                FirstBytes::Invalid => Peek::Refused,
            };
            let hand_over = move |handed: HandedOver<String>| {
                let handed = match shared.msrp_relay.accept(handed) {
                    Some(handed) => handed,
                    None => return,
                };
                let shard =
                    shard_of_session_id(&handed.session).map(usize::from).filter(|shard| *shard < shared.shards());
                match shard {
                    Some(shard) => {
                        let _ = shared.push(shard, Lane::Priority, ToShard::Connection(handed), 1024);
                    }
                    None => refuse_guess(&shared, handed),
                }
            };
            let id = ListenerId(u16::try_from(index).unwrap_or(u16::MAX).saturating_add(1000));
            // Whoever connects and says nothing takes a place from others.
            let unclaimed = Box::new(move |remote| _ = counting.note_garbage(remote, None, true));
            let local = transport.listen_msrp(listener, id, peek, hand_over, unclaimed)?.local;
            bound.push((listener.protocol, local));
        }
        Ok(bound)
    }

    /// Opens the listeners for MSRP over WebSocket.
    pub(super) fn listen_web(
        configuration: &Configuration,
        transport: &Transport,
        shared: &Arc<Shared>,
    ) -> Result<Vec<(Protocol, SocketAddr)>> {
        let mut bound = Vec::new();
        for (listen, number) in configuration.msrp.web_socket_listen.iter().zip(2000u16..) {
            let listener = Listener { protocol: listen.protocol, bind: listen.socket, advertise: None };
            let allowed = WebSockets { origins: configuration.sip.web_origins.clone(), may_connect: false };
            // Whoever serves a client must not keep the server's parts alive.
            let relay = Arc::downgrade(shared);
            let hand_over = move |client| {
                if let Some(shared) = relay.upgrade() {
                    msrp_relay::serve(&shared, client);
                }
            };
            let local = transport.listen_msrp_web(&listener, ListenerId(number), allowed, hand_over)?.local;
            bound.push((listen.protocol, local));
        }
        Ok(bound)
    }

    fn place(listener: &Listener) -> Result<MsrpPlace> {
        let place = listener.advertised(listener.bind);
        let example = format!("msrp://{}:1/a;tcp", place.host).parse::<MsrpUri>();
        let host = example.map_err(|_| anyhow::anyhow!("msrp.advertise: {:?} is not a host", place.host))?.host;
        let is_ipv6 = listener.advertise.is_none().then_some(listener.bind.is_ipv6());
        Ok(MsrpPlace { host, port: place.port, is_encrypted: listener.protocol.is_encrypted(), is_ipv6 })
    }
}

/// A connection for no session: after some guesses there is no answer any more, and in the end the source is shut out.
pub(super) fn refuse_guess(shared: &Shared, handed: HandedOver<String>) {
    shared.metrics.count_dropped("no-such-session");
    match shared.note_garbage(handed.remote, None, true) {
        Standing::Answered => refuse_connection(handed, &shared.msrp_limits, Status::NO_SUCH_SESSION),
        Standing::Ignored => slow_down((handed.stream, handed.permit)),
        Standing::ShutOut(_) => {}
    }
}

/// A connection for a session that is not there (481), or that has one already (506): answered and closed
/// (RFC 4975 §7.3).
pub(super) fn refuse_connection(handed: HandedOver<String>, limits: &FramingLimits, status: Status) {
    if let HandedStream::Here(stream, _) = handed.stream {
        // What our own relay passes on is not read yet.
        let limits = limits.clone();
        let refusing = async move { timeout(LAST_WORDS, refuse_here(stream, &limits, status)).await };
        drop(tokio::spawn(refusing));
    } else if let FirstBytes::Found(request) = peek_to_path(&handed.received, limits)
        && let Some(answer) = request.refusal(status)
    {
        handed.stream.refuse(answer, handed.permit);
    }
}

/// Answers the first request, and reads what else comes so that its sender sees the answer before the end.
async fn refuse_here(mut stream: DuplexStream, limits: &FramingLimits, status: Status) -> std::io::Result<()> {
    let mut received = BytesMut::new();
    let answer = loop {
        match peek_to_path(&received, limits) {
            FirstBytes::Found(request) => break request.refusal(status),
            FirstBytes::NeedMore if stream.read_buf(&mut received).await? > 0 => {}
            _ => return Ok(()),
        }
    };
    if let Some(answer) = answer {
        stream.write_all(&answer).await?;
    }
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ())
}

fn sip_listener(listen: &ListenAddress, configuration: &Configuration) -> Listener {
    Listener {
        protocol: listen.protocol,
        bind: listen.socket,
        advertise: advertised(configuration.sip.advertise.as_ref()),
    }
}

fn msrp_listener(listen: &ListenAddress, configuration: &Configuration) -> Listener {
    Listener {
        protocol: listen.protocol,
        bind: listen.socket,
        advertise: advertised(configuration.msrp.advertise.as_ref()),
    }
}

fn advertised(place: Option<&HostPort>) -> Option<restante_transport::HostPort> {
    place.map(|place| restante_transport::HostPort { host: place.host.clone(), port: place.port })
}
