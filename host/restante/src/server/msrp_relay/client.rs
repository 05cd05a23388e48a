//! One client of the relay, from its WebSocket's beginning to its end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use restante_deferral::model::RecipientKey;
use restante_msrp::relay::{AuthRequest, LegId, Output, RelayLimits, RelayedClient};
use restante_msrp::session_id::{new_relay_session_id, shard_of_session_id};
use restante_msrp::status::Status;
use restante_msrp::uri::{DEFAULT_PORT, Host, MsrpUri};
use restante_sip::message::Method;
use restante_sip::uri::Uri;
use restante_transport::msrp::{HandedOver, HandedStream, MsrpStream};
use restante_transport::queue::Lane;
use restante_transport::{ConnectionPermit, ListenerId, MsrpWebSocket};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep_until;

use super::leg::{self, FromLegs, Leg, Source};
use super::{Clients, MAX_WAITING_PEERS, PIPE_BYTES, Peer, Registered};
use crate::server::Shared;
use crate::server::authentication::{Asked, Presented, Unauthenticated};
use crate::server::directory::TenantEntry;
use crate::server::listeners::refuse_connection;
use crate::server::media::Place;
use crate::server::offenders::{Standing, slow_down};
use crate::server::shard::ToShard;

/// Reads of all legs that wait.
const MAX_WAITING: usize = 8;
/// Time for a peer to take a frame: it holds up the client, so it has less.
pub(super) const PEER_STALL: Duration = Duration::from_secs(5);
/// Shortest life of a session URI that may be asked for, in seconds.
const MIN_RELAY_SECONDS: u32 = 60;
/// Tenants that a client is asked for a password of, where the name of the relay is none of theirs.
const MAX_TENANTS: usize = 4;

/// Until the client is gone, does not show who it is, or lets its session run out.
pub(super) async fn run(shared: Weak<Shared>, web: MsrpWebSocket) {
    let Some((relay, may_wait)) = shared.upgrade().and_then(|shared| begin(&shared)) else { return };
    let MsrpWebSocket { remote, mut incoming, outgoing } = web;
    let (read, mut from_legs) = mpsc::channel(MAX_WAITING);
    let wrote = Arc::<Notify>::default();
    let (to_client, mut peers) = mpsc::channel(MAX_WAITING_PEERS);
    let mut client = Running {
        shared,
        remote,
        relay,
        registered: None,
        legs: HashMap::from([(LegId::CLIENT, Leg::of_client(outgoing.clone()))]),
        to_task: FromLegs { read, wrote: wrote.clone() },
        to_client,
    };
    let mut shown_until = Instant::now() + may_wait;
    loop {
        if !client.settle() {
            return;
        }
        if client.relay.granted_until().is_some() {
            shown_until = Instant::now() + may_wait;
        }
        let wake = client.relay.next_wake().unwrap_or(shown_until).min(shown_until);
        let wake = client.legs.values().filter_map(Leg::stalls_at).fold(wake, Instant::min);
        let now = Instant::now();
        // Each direction waits for itself alone: two clients that send to each other would wait for each other.
        let (client_is_behind, some_peer_is_behind) = client.who_is_behind();
        tokio::select! {
            came = incoming.recv(), if !some_peer_is_behind => {
                let Some(bytes) = came else { return };
                if client.relay.receive(Instant::now(), LegId::CLIENT, bytes).is_err() {
                    if client.sent_garbage() == Standing::Ignored {
                        slow_down((incoming, outgoing.clone()));
                    }
                    return;
                }
            }
            came = from_legs.recv(), if !client_is_behind => {
                let Some((leg, bytes)) = came else { return };
                client.came_from(leg, bytes);
            }
            peer = peers.recv() => {
                let Some(peer) = peer else { return };
                client.peer_came(peer);
            }
            () = wrote.notified() => {}
            room = outgoing.reserve(), if client_is_behind => if room.is_err() {
                return;
            },
            () = sleep_until(wake.max(now).into()) => {
                client.relay.handle_wake(Instant::now());
                if client.relay.granted_until().is_none() && shown_until <= Instant::now() {
                    return;
                }
            }
        }
    }
}

fn begin(shared: &Shared) -> Option<(RelayedClient, Duration)> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let most = u32::try_from(shared.limits.max_relay_seconds).unwrap_or(u32::MAX);
    let may_wait = Duration::from_secs(shared.limits.max_session_setup_seconds);
    let limits = RelayLimits {
        framing: shared.msrp_limits.clone(),
        lifetime_seconds: (MIN_RELAY_SECONDS.min(most), most),
        first_request_within: may_wait,
        ..RelayLimits::default()
    };
    Some((RelayedClient::new(limits, random), may_wait))
}

struct Running {
    shared: Weak<Shared>,
    remote: SocketAddr,
    relay: RelayedClient,
    registered: Option<Registered>,
    legs: HashMap<LegId, Leg>,
    to_task: FromLegs,
    to_client: mpsc::Sender<Peer>,
}

impl Running {
    /// Does what the relay says, and what waited. False: the client is gone, or takes nothing.
    fn settle(&mut self) -> bool {
        let now = Instant::now();
        let is_lost = |leg: &mut Leg| !leg.go_on(now) || leg.stalls_at().is_some_and(|at| at <= now);
        let lost: Vec<LegId> = self.legs.iter_mut().filter_map(|(id, leg)| is_lost(leg).then_some(*id)).collect();
        for leg in lost {
            if leg == LegId::CLIENT {
                return false;
            }
            self.lose(leg, Status::TIMED_OUT);
        }
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Write(leg, bytes) => {
                    // Of a leg that is lost everything was reported.
                    match self.legs.get_mut(&leg).is_none_or(|known| known.put(bytes, now)) {
                        true => {}
                        false if leg == LegId::CLIENT => return false,
                        false => self.lose(leg, Status::TIMED_OUT),
                    }
                }
                Output::Connect(leg, uri) => self.connect(leg, &uri),
                Output::Close(leg) => self.close(leg),
                Output::Authenticate(request) => self.authenticate(&request),
                Output::Expired => self.registered = None,
            }
        }
        self.note_written();
        true
    }

    /// The client, and any of its peers.
    fn who_is_behind(&self) -> (bool, bool) {
        let is_any =
            |of_client: bool| self.legs.iter().any(|(id, leg)| (*id == LegId::CLIENT) == of_client && leg.is_behind());
        (is_any(true), is_any(false))
    }

    fn note_written(&mut self) {
        let now = Instant::now();
        self.legs.iter().for_each(|(leg, known)| self.relay.written(now, *leg, known.written()));
    }

    fn came_from(&mut self, leg: LegId, bytes: Option<Bytes>) {
        let is_readable = match bytes {
            Some(bytes) => self.relay.receive(Instant::now(), leg, bytes).is_ok(),
            None => false,
        };
        if !is_readable {
            self.lose(leg, Status::TIMED_OUT);
        }
    }

    fn lose(&mut self, leg: LegId, status: Status) {
        self.legs.remove(&leg);
        self.relay.leg_lost(leg, status);
    }

    /// A peer's of which nothing came.
    fn close(&mut self, leg: LegId) {
        self.legs.remove(&leg);
        if let Some(shared) = self.shared.upgrade() {
            shared.metrics.count_dropped("silent-relay-peer");
        }
    }

    fn peer_came(&mut self, peer: Peer) {
        let source = match peer {
            Peer::Here(stream) => Source::Stream(MsrpStream::Here(stream), Bytes::new(), None),
            // A path with msrps is no promise of ours that is kept in the clear.
            Peer::Connected(handed)
                if self.registered.as_ref().is_none_or(|it| it.is_secure != handed.stream.is_encrypted()) =>
            {
                let Some(shared) = self.shared.upgrade() else { return };
                shared.metrics.count_dropped("forbidden-msrp-connection");
                return refuse_connection(handed, &shared.msrp_limits, Status::FORBIDDEN);
            }
            Peer::Connected(handed) => {
                let Ok(stream) = handed.stream.attach() else { return };
                Source::Stream(stream, handed.received, Some(handed.permit))
            }
        };
        if let Some(leg) = self.relay.accept_leg(Instant::now()) {
            self.legs.insert(leg, leg::start(leg, source, self.to_task.clone()));
        }
    }

    /// To a session of ours or another client in memory, elsewhere where that is allowed.
    fn connect(&mut self, leg: LegId, uri: &MsrpUri) {
        let Some(shared) = self.shared.upgrade() else { return };
        let is_here = shared.msrp_places.iter().any(|place| {
            place.host.same_as(&uri.host)
                && place.port.unwrap_or(DEFAULT_PORT) == uri.port_or_default()
                && place.is_encrypted == uri.secure
        });
        let stream = match is_here {
            true => shared.msrp_relay.connect(uri).or_else(|| self.to_own_session(&shared, uri)),
            false => None,
        };
        let source = match stream {
            Some(stream) => Ok(Source::Stream(MsrpStream::Here(stream), Bytes::new(), None)),
            None => {
                let user = self.registered.as_ref().map(|it| (&it.user.tenant, &it.user.address));
                let asker = shared.msrp_names.asker(user);
                Place::of_next_hop(uri, shared, asker).map(|place| Source::Place(Box::new(place)))
            }
        };
        match source {
            Ok(source) => _ = self.legs.insert(leg, leg::start(leg, source, self.to_task.clone())),
            Err(_) => self.relay.leg_lost(leg, Status::FORBIDDEN),
        }
    }

    /// A session of this server is found by its id, as the listeners find it.
    fn to_own_session(&self, shared: &Arc<Shared>, uri: &MsrpUri) -> Option<DuplexStream> {
        let session = uri.session_id.clone()?;
        let client = self.registered.as_ref()?.session_id.clone();
        let shard = shard_of_session_id(&session).map(usize::from).filter(|shard| *shard < shared.shards())?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let handed = HandedOver {
            session,
            stream: HandedStream::Here(theirs, client),
            received: Bytes::new(),
            listener: ListenerId(u16::MAX),
            local: self.remote,
            remote: self.remote,
            permit: ConnectionPermit::uncounted(),
        };
        shared.push(shard, Lane::Priority, ToShard::Connection(handed), 1024).ok()?;
        Some(ours)
    }

    fn authenticate(&mut self, request: &AuthRequest) {
        let Some(shared) = self.shared.upgrade() else { return };
        let uri = request.uri().clone();
        let presented = Presented {
            method: Method::Other("AUTH".to_owned()),
            authorizations: request.authorizations().collect(),
            body: bytes::Bytes::new(),
            is_for: &|named| named.parse::<MsrpUri>().is_ok_and(|named| named.same_as(&uri)),
            auth_uri: Some(uri.to_string()),
        };
        let mut challenges = Vec::new();
        for tenant in tenants_of(&shared, &uri) {
            let asked = Asked { tenant: &tenant, source: self.remote.ip(), now: Instant::now() };
            let checked = shared.authentication.check_presented(&presented, asked);
            let outcome = checked.as_ref().map_or_else(Unauthenticated::outcome, |_| "accepted");
            shared.metrics.count_authentication(&tenant.name, outcome);
            match checked {
                Ok(user) => {
                    let info = shared.authentication.info_of_auth(&presented, &tenant, asked.now);
                    return self.grant(&shared, request, user, info);
                }
                Err(Unauthenticated::Challenged { challenges: of_tenant, .. }) => challenges.extend(of_tenant),
                Err(Unauthenticated::Malformed(_)) => return self.relay.refuse(request, Status::BAD_REQUEST),
                // Too many failures: RFC 4976 has no other word for it.
                Err(Unauthenticated::SlowDown { .. }) => return self.relay.refuse(request, Status::FORBIDDEN),
            }
        }
        match challenges.is_empty() {
            true => self.relay.refuse(request, Status::FORBIDDEN),
            false => self.relay.challenge(request, challenges),
        }
    }

    fn grant(&mut self, shared: &Arc<Shared>, request: &AuthRequest, user: RecipientKey, info: Option<String>) {
        // A connection is one user's from its first AUTH on.
        if self.registered.as_ref().is_some_and(|known| known.user != user) {
            return self.relay.refuse(request, Status::FORBIDDEN);
        }
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            return self.relay.refuse(request, Status::FORBIDDEN);
        }
        let session_id = new_relay_session_id(random);
        let place = shared.msrp_place(self.remote.ip(), shared.msrp_offers_tls);
        let port = place.port.unwrap_or(DEFAULT_PORT);
        let uri = MsrpUri::new(place.is_encrypted, place.host.clone(), port, session_id.clone());
        if self.registered.is_some() {
            _ = self.relay.grant(Instant::now(), request, uri, info);
            return;
        }
        match Clients::register(shared, (session_id, place.is_encrypted), user, self.to_client.clone()) {
            Some(registered) if self.relay.grant(Instant::now(), request, uri, info) => {
                self.registered = Some(registered)
            }
            Some(_) => {}
            None => {
                shared.metrics.count_dropped("relay-client");
                self.relay.refuse(request, Status::FORBIDDEN);
            }
        }
    }

    fn sent_garbage(&self) -> Standing {
        self.shared.upgrade().map_or(Standing::Answered, |shared| shared.note_garbage(self.remote, None, true))
    }
}

/// Whose user a client may be: the tenant of the host that it calls the relay by, else any that demands passwords.
fn tenants_of(shared: &Shared, uri: &MsrpUri) -> Vec<Arc<TenantEntry>> {
    let host = match &uri.host {
        Host::Address(_) => None,
        Host::Name(name) => Uri::parse(&format!("sip:{name}")).ok(),
    };
    let named = host.and_then(|host| shared.directory.tenant_of(&host));
    let demands = |tenant: &Arc<TenantEntry>| tenant.digest.is_demanded;
    match named.filter(demands) {
        Some(tenant) => vec![tenant],
        None => shared.directory.tenants().into_iter().filter(demands).take(MAX_TENANTS).collect(),
    }
}
