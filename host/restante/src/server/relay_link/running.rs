//! The task of the link.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restante_msrp::authorization::{AuthorizationClient, AuthorizationConfiguration, AuthorizationEvent};
use restante_msrp::framing::{Framer, FramingLimits};
use restante_msrp::session_id::new_session_id;
use restante_msrp::uri::{Host, MsrpUri};
use restante_transport::Tls;
use restante_transport::msrp::{Believed, MsrpStream, connect, connect_encrypted};
use restante_transport::resolution::{Names, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::credentials::Password;
use super::sorting::Sorted;
use super::{Attached, Grant, STALL};
use crate::server::media::FailedPlaces;

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// First rest after a connection that was lost or not made, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Frames of all sessions that wait for the connection.
const MAX_WAITING_FRAMES: usize = 32;
/// Read at a time.
const READ_BYTES: usize = 64 * 1024;

type Known = Arc<Mutex<Option<Grant>>>;

/// A relay, and who we are there.
pub(super) struct Relay {
    pub(super) uri: MsrpUri,
    pub(super) password: Password,
}

/// The link.
pub(super) struct Link {
    relays: Vec<Relay>,
    tls: Arc<Tls>,
    names: Arc<Names>,
    /// What is known of relays' places says nothing of SIP's, nor of those that peers name.
    failed: FailedPlaces,
    known: Known,
}

impl Link {
    pub(super) fn new(relays: Vec<Relay>, (tls, names): (Arc<Tls>, Arc<Names>), known: Known) -> Link {
        Link { relays, tls, names, failed: FailedPlaces::default(), known }
    }

    /// Connects, and again when the connection is lost.
    pub(super) async fn run(self, mut attached: mpsc::Receiver<Attached>) {
        let mut rest = RESTS.0;
        loop {
            if self.try_all(&mut attached).await {
                rest = RESTS.0;
            }
            // Whoever asked for a stream meanwhile has none.
            while attached.try_recv().is_ok() {}
            sleep(rest).await;
            rest = (rest * 2).min(RESTS.1);
        }
    }

    /// One relay after the other, and one place of each after the other, until one took us and is lost again. Whether one did.
    async fn try_all(&self, attached: &mut mpsc::Receiver<Attached>) -> bool {
        for relay in &self.relays {
            let places = self.places(relay).await;
            // Where there is no other one, it is asked again on its connection.
            let is_only = self.relays.len() == 1 && places.len() == 1;
            for place in places {
                let Some(stream) = self.connect(relay, place).await else { continue };
                let was_granted = self.converse(relay, is_only, stream, attached).await;
                self.set(None);
                tracing::warn!(relay = %relay.uri, %place, "lost the connection to the MSRP relay");
                if was_granted {
                    return true;
                }
            }
        }
        false
    }

    async fn places(&self, relay: &Relay) -> Vec<SocketAddr> {
        let uri = &relay.uri;
        let Some(wanted) = Wanted::msrp_relay(&host_of(uri), uri.port, uri.secure) else { return Vec::new() };
        let places = self.names.places(&wanted.of_operator(), None).await;
        if places.is_empty() {
            tracing::warn!(relay = %uri, "the name of the MSRP relay cannot be resolved");
        }
        self.failed.sort(places.into_iter().map(|place| place.socket))
    }

    /// Over TLS it is believed by the name that the operator wrote, wherever that leads.
    async fn connect(&self, relay: &Relay, place: SocketAddr) -> Option<MsrpStream> {
        let connected = if relay.uri.secure {
            let name = host_of(&relay.uri);
            connect_encrypted(&self.tls, place, Believed::ByName(&name), CONNECT_TIMEOUT).await
        } else {
            connect(place, CONNECT_TIMEOUT).await.map(MsrpStream::Plain)
        };
        match connected {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::warn!(relay = %relay.uri, %place, %error, "cannot connect to the MSRP relay");
                self.failed.note(place);
                None
            }
        }
    }

    /// Until the connection is lost, or where it is not the only one, until the relay does not take us. Whether it took us
    /// meanwhile.
    async fn converse(
        &self,
        relay: &Relay,
        is_only: bool,
        stream: MsrpStream,
        attached: &mut mpsc::Receiver<Attached>,
    ) -> bool {
        let mut random = [0; 32];
        if getrandom::fill(&mut random).is_err() {
            return false;
        }
        let (ours, of_client) = random.split_at(16);
        let local = local_uri(relay, &stream, ours.try_into().unwrap_or_default());
        let link_session = local.session_id.clone().unwrap_or_default();
        let (mut reader, writer) = tokio::io::split(stream);
        let (frames, waiting) = mpsc::channel(MAX_WAITING_FRAMES);
        let mut writing = tokio::spawn(write_all(writer, waiting));
        let configuration = AuthorizationConfiguration { relay: relay.uri.clone(), local };
        let mut authorization = AuthorizationClient::new(configuration, of_client.try_into().unwrap_or_default());
        authorization.connected(Instant::now());
        let (over, mut ended) = mpsc::channel(MAX_WAITING_FRAMES);
        let mut sorted = Sorted::new(link_session, frames, over);
        let mut framer = Framer::new(FramingLimits::default());
        let mut input = BytesMut::new();
        let mut was_granted = false;
        loop {
            match self.settle(relay, &mut authorization, sorted.frames()).await {
                Settled::Granted => was_granted = true,
                Settled::NotTaken if !is_only => break,
                Settled::Nothing | Settled::NotTaken => {}
                // Another connection may find it alive.
                Settled::Silent => break,
            }
            let wake = authorization.next_wake().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            input.reserve(READ_BYTES);
            tokio::select! {
                read = reader.read_buf(&mut input) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {
                        // Who is told of a session is told after it was attached: what is sent to it finds it.
                        while let Ok(next) = attached.try_recv() {
                            sorted.attach(next);
                        }
                        framer.push(input.split().freeze());
                        if !sorted.take_all(&mut framer, &mut authorization).await {
                            break;
                        }
                    }
                },
                next = attached.recv() => match next {
                    Some(next) => sorted.attach(next),
                    None => break,
                },
                Some(session) = ended.recv() => sorted.detach(&session),
                () = tokio::time::sleep_until(wake.into()) => authorization.handle_wake(Instant::now()),
                _ = &mut writing => return was_granted,
            }
        }
        writing.abort();
        was_granted
    }

    /// Carries out what the client says.
    async fn settle(
        &self,
        relay: &Relay,
        authorization: &mut AuthorizationClient,
        frames: &mpsc::Sender<Bytes>,
    ) -> Settled {
        let mut settled = Settled::Nothing;
        while let Some(event) = authorization.poll_event() {
            match event {
                AuthorizationEvent::Challenged { challenges } => {
                    let answer = relay.password.answer(&challenges, &relay.uri);
                    authorization.answer(Instant::now(), answer.as_deref());
                }
                AuthorizationEvent::Granted => {
                    settled = Settled::Granted;
                    let until = authorization.granted_until();
                    let use_path = authorization.use_path(Instant::now()).map(<[MsrpUri]>::to_vec);
                    self.set(use_path.zip(until).map(|(use_path, until)| Grant { use_path, until }));
                    tracing::info!(relay = %relay.uri, "authorized at the MSRP relay");
                }
                AuthorizationEvent::Refused { status } => {
                    tracing::warn!(relay = %relay.uri, ?status, "not authorized at the MSRP relay");
                    if status.is_none() {
                        settled = Settled::Silent;
                    } else if authorization.use_path(Instant::now()).is_none() {
                        settled = Settled::NotTaken;
                    }
                }
                AuthorizationEvent::Expired => {
                    self.set(None);
                    settled = Settled::NotTaken;
                }
            }
        }
        while let Some(bytes) = authorization.poll_transmit() {
            let _ = timeout(STALL, frames.send(bytes)).await;
        }
        settled
    }

    fn set(&self, grant: Option<Grant>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = grant;
    }
}

fn host_of(uri: &MsrpUri) -> String {
    match &uri.host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}

/// Our URI on this connection. Nobody connects to it.
fn local_uri(relay: &Relay, stream: &MsrpStream, random: [u8; 16]) -> MsrpUri {
    let local = stream.addresses().map(|(local, _)| local);
    let (host, port) = local.map_or((IpAddr::from([127, 0, 0, 1]), 9), |it| (it.ip().to_canonical(), it.port()));
    MsrpUri::new(relay.uri.secure, Host::Address(host), port, new_session_id(u16::MAX, random))
}

/// What the client said.
enum Settled {
    Nothing,
    /// The relay took us.
    Granted,
    /// It does not, or no more.
    NotTaken,
    /// The relay did not answer.
    Silent,
}

/// Writes whole frames until nobody has any more, or the peer takes none.
async fn write_all(mut writer: WriteHalf<MsrpStream>, mut waiting: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = waiting.recv().await {
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        if !matches!(timeout(STALL, written).await, Ok(Ok(()))) {
            return;
        }
    }
}
