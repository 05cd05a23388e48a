//! The running server: sockets, shards, store and policies, and what they share.

pub mod authentication;
pub mod certificates;
pub mod check;
mod content_encoding;
mod destinations;
pub mod directory;
mod facts;
mod failures;
mod flow;
mod limits;
mod listeners;
mod media;
mod msrp_relay;
mod name_service;
mod offenders;
mod openings;
pub mod policies;
mod rates;
mod receiver;
mod recovery;
mod relay_link;
pub mod roster;
mod scheduler;
mod secrets;
mod served;
pub mod shard;
mod starting;
pub mod usage;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use anyhow::Result;
use restante_deferral::breaker::Breaker;
use restante_deferral::commit::CommitError;
use restante_deferral::decision::{Question, Undecided};
use restante_deferral::model::{Profile, ProfileChange, RecipientKey, TenantName, Timestamp};
use restante_msrp::framing::FramingLimits;
use restante_sip::message::MessageLimits;
use restante_sip::transaction::OwnMark;
use restante_sip::uri::Uri;
use restante_store::spool::Spool;
use restante_store::sqlite::{Clock, OpenOptions, SqliteStore};
use restante_store::{Fatal, Sink, Store, StoreError, UserCredentials};
use restante_transport::destination::{DestinationPolicy, RefusedTarget};
use restante_transport::queue::Lane;
use restante_transport::resolution::Names;
use restante_transport::{Layers, Protocol, Sender, Transport, TransportCounters, WebSockets};
use tokio::sync::{oneshot, watch};

use self::authentication::Authentication;
use self::certificates::Certificates;
use self::directory::{Directory, Reservation};
use self::limits::transport_limits;
use self::listeners::{BoundMsrp, NO_PLACE, sip_listeners};
use self::msrp_relay::Clients;
use self::offenders::Offenders;
use self::openings::Openings;
use self::policies::{ConfiguredPolicies, PolicyParts};
use self::rates::Rates;
use self::relay_link::RelayLink;
use self::roster::Roster;
use self::shard::{CredentialsOrder, DecisionTicket, ProfileOrder, ToShard};
use self::starting::{Opened, load_credentials, start_policies, start_shards};
use self::usage::Inboxes;
use crate::configuration::{Configuration, Limits, NextHop};
use crate::metrics::Metrics;
use crate::policies::{Asker, Policies};

pub use self::listeners::MsrpPlace;

/// What sessions have to do with the relay of `[msrp.relay]`.
enum ThroughRelay {
    /// There is none.
    Nothing,
    /// They go through it: this stands before their URIs.
    Granted(Vec<restante_msrp::uri::MsrpUri>),
    /// They should, and cannot now.
    Missing,
}

/// What all shards and receivers see. Nothing in it is changed under a lock that is held for long.
pub struct Shared {
    /// Bounds.
    pub limits: Limits,
    /// Tenants and names.
    pub directory: Directory,
    /// Who shows who they are.
    pub authentication: Authentication,
    offenders: Offenders,
    /// MSRP sessions that others opened.
    open_sessions: Arc<Openings>,
    /// INVITEs that are passed on.
    open_calls: Arc<Openings>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Large bodies.
    pub spool: Spool,
    /// The time.
    pub clock: Clock,
    own_mark: OwnMark,
    /// Tells one run from another, so that what outlived one is known by the next.
    run: u32,
    rates: Rates,
    hops: Mutex<Breaker<SocketAddr>>,
    destinations: DestinationPolicy,
    outbound: Option<NextHop>,
    /// Next hops of SIP, and what else the configuration names.
    names: Arc<Names>,
    /// Hosts that peers name in MSRP.
    msrp_names: Arc<Names>,
    failed_msrp_places: media::FailedPlaces,
    congestion_safe: bool,
    count_unreported_as_delivered: bool,
    upstream_failure_header: String,
    keep_headers: Vec<String>,
    msrp_places: Vec<MsrpPlace>,
    msrp_offers_tls: bool,
    /// Clients that we are the relay of.
    msrp_relay: Clients,
    /// The relay of our sessions.
    relay: OnceLock<RelayLink>,
    msrp_limits: FramingLimits,
    sender: OnceLock<Sender>,
    policies: OnceLock<ConfiguredPolicies>,
    inboxes: Arc<Inboxes>,
    elsewhere: served::Elsewhere,
}

impl Shared {
    fn shards(&self) -> usize {
        self.inboxes.len()
    }

    fn sender(&self) -> Option<&Sender> {
        self.sender.get()
    }

    /// The policies; none while the server starts.
    #[must_use]
    pub fn policies(&self) -> Option<&Arc<Policies>> {
        self.policies.get().map(ConfiguredPolicies::platform)
    }

    /// Gives the same to every shard.
    fn to_all_shards(&self, make: impl Fn() -> ToShard) {
        for shard in 0..self.shards() {
            let _ = self.push(shard, Lane::Ordered, make(), 64);
        }
    }

    fn push(&self, shard: usize, lane: Lane, item: ToShard, bytes: usize) -> Result<(), Box<ToShard>> {
        match self.inboxes.get(shard) {
            Some(inbox) => inbox.try_push(lane, item, bytes).map_err(|rejected| Box::new(rejected.item)),
            None => Err(Box::new(item)),
        }
    }

    /// Gives something to the shard of a recipient. False: there is no room for it.
    pub fn to_recipient_or_full(&self, key: &RecipientKey, item: ToShard) -> bool {
        self.push(receiver::shard_of(key, self.shards()), Lane::Ordered, item, 64).is_ok()
    }

    /// Gives something to the shard of a recipient.
    pub fn to_recipient(&self, key: &RecipientKey, item: ToShard) {
        if !self.to_recipient_or_full(key, item) {
            // The recipient has a wake-up in the store: it is looked at in any case.
            self.metrics.count_dropped("shard-busy");
        }
    }

    /// Changes a user's names or preferences; returns what they are when that is durable. Names that are new need a
    /// reservation.
    ///
    /// # Errors
    /// [`CommitError`]
    pub async fn change_profile(
        &self,
        user: &RecipientKey,
        change: ProfileChange,
        reservation: Option<Reservation>,
    ) -> Result<Profile, CommitError> {
        let (done, changed) = oneshot::channel();
        let order = ProfileOrder { user: user.clone(), change, reservation, done: Some(done) };
        self.to_recipient(user, ToShard::ChangeProfile(Box::new(order)));
        changed.await.unwrap_or(Err(CommitError::Failed))
    }

    /// Changes what a user authenticates with; returns when that is durable. The username is free: see
    /// [`authentication::KnownUsers::changing`].
    ///
    /// # Errors
    /// [`CommitError`]
    pub async fn change_credentials(
        &self,
        user: &RecipientKey,
        credentials: Option<UserCredentials>,
    ) -> Result<(), CommitError> {
        let (done, changed) = oneshot::channel();
        let order = CredentialsOrder { user: user.clone(), credentials, done };
        self.to_recipient(user, ToShard::ChangeCredentials(Box::new(order)));
        changed.await.unwrap_or(Err(CommitError::Failed))
    }

    /// A policy's answer could not be carried out.
    fn note_unusable(&self, tenant: &TenantName, hook: &str, why: &str) {
        let hook = restante_policy::Hook::ALL.into_iter().find(|known| known.name() == hook);
        if let (Some(policy), Some(hook)) = (self.policies.get(), hook) {
            policy.platform().host().note_unusable(tenant, hook, restante_policy::Party::Server, why);
        }
    }

    /// Whether one more line about a decision of this tenant's policy may be written now.
    fn may_log(&self, tenant: &TenantName) -> bool {
        self.policies.get().is_none_or(|policies| policies.platform().host().may_log(tenant))
    }

    fn ask(&self, ticket: DecisionTicket, question: Question) -> Result<(), Undecided> {
        match self.policies.get() {
            Some(policies) => {
                policies.platform().host().submit(Asker::Machine(ticket), question).map_err(|_| Undecided::Overloaded)
            }
            None => Err(Undecided::Declined),
        }
    }

    fn domain_of(&self, tenant: &TenantName) -> Arc<str> {
        self.directory.tenant(tenant).map_or_else(|| "localhost".into(), |tenant| tenant.domain.clone())
    }

    fn is_deferred_uri(&self, uri: &Uri) -> bool {
        let user = uri.as_sip().and_then(|uri| uri.user.as_deref());
        user.is_some_and(|user| self.directory.tenant_of(uri).is_some_and(|tenant| *tenant.deferred_user == *user))
    }

    /// What our MSRP paths name towards a peer: of the listeners of this kind the one of its address family, where
    /// there is one.
    fn msrp_place(&self, peer: IpAddr, is_encrypted: bool) -> &MsrpPlace {
        let of_family = |place: &&MsrpPlace| place.is_ipv6 == Some(peer.is_ipv6());
        let of_kind = || self.msrp_places.iter().filter(|place| place.is_encrypted == is_encrypted);
        of_kind().find(of_family).or_else(|| of_kind().next()).unwrap_or(&NO_PLACE)
    }

    /// What our sessions have to do with a relay now.
    fn relay(&self, is_encrypted: bool) -> ThroughRelay {
        match self.relay.get().map(|link| (link.is_secure() == is_encrypted, link.use_path())) {
            // The media's protocol is that of the hop that peers connect to: whoever wants the other one comes without
            // relay.
            None | Some((false, _)) => ThroughRelay::Nothing,
            Some((true, Some(use_path))) => ThroughRelay::Granted(use_path),
            Some((true, None)) => ThroughRelay::Missing,
        }
    }

    /// Whether our offers are encrypted: as the relay's connections are, where there is one.
    fn offers_tls(&self) -> bool {
        self.relay.get().map_or(self.msrp_offers_tls, RelayLink::is_secure)
    }

    /// Whether MSRP is listened for in this way, here or at the relay.
    fn takes_msrp(&self, is_encrypted: bool) -> bool {
        let by_relay = self.relay.get().is_some_and(|link| link.is_secure() == is_encrypted);
        by_relay || self.msrp_places.iter().any(|place| place.is_encrypted == is_encrypted)
    }

    /// Notes that a Contact, Path, Route or Request-URI leads where we may not connect to.
    fn note_forbidden_target(&self, place: SocketAddr, error: RefusedTarget) {
        tracing::debug!(%place, %error, "a peer names a destination that is not allowed; see sip.allow_targets");
        self.metrics.count_dropped("forbidden-target");
    }

    fn message_limits(&self) -> MessageLimits {
        transport_limits(&self.limits).message
    }

    /// Next hops whose refusals for good are not believed now, because too many came in a row.
    #[must_use]
    pub fn disbelieved_hops(&self) -> usize {
        self.hops.lock().unwrap_or_else(PoisonError::into_inner).open((self.clock)())
    }

    /// Notes a final answer through a hop. True: its refusals for good are not to be believed now.
    fn hop_refused(&self, now: Timestamp, hop: SocketAddr, for_good: bool) -> bool {
        let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
        hops.record(now, &hop, for_good);
        hops.is_open(now, &hop)
    }
}

/// Opens what the server keeps things in, told where and by whom completions are awaited.
pub type StoreOpener = Box<dyn FnOnce(OpenOptions, Sink) -> Result<(Arc<dyn Store>, Spool), StoreError> + Send>;

/// What a server is made of where that is not always the same. The default is what serves; a test puts something else
/// in its place, to hold commits back or to let time pass.
pub struct Parts {
    /// The store.
    pub store: StoreOpener,
    /// The time, for the store too.
    pub clock: Clock,
    /// Told when the disk cannot be trusted any more; it must end the process.
    pub fatal: Fatal,
    /// How policies are compiled and activated.
    pub policies: PolicyParts,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            store: Box::new(|options, sink| {
                let store = SqliteStore::open(options, sink)?;
                let spool = store.spool().clone();
                Ok((Arc::new(store), spool))
            }),
            clock: Arc::new(wall_clock),
            fatal: Arc::new(end_the_process),
            policies: PolicyParts::default(),
        }
    }
}

/// A server that runs.
pub struct Server {
    shared: Arc<Shared>,
    transport: Transport,
    certificates: Arc<Certificates>,
    roster: Arc<Roster>,
    shards: Vec<JoinHandle<()>>,
    releasing: tokio::task::JoinHandle<()>,
    scheduler: tokio::task::JoinHandle<()>,
    stop_scheduler: watch::Sender<bool>,
    sip: Vec<(Protocol, SocketAddr)>,
    msrp: Vec<(Protocol, SocketAddr)>,
}

impl Server {
    /// Opens the store, loads the policies, opens the sockets and starts the shards. Sockets are served by the runtime
    /// that this is called on.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub async fn start(configuration: &Configuration) -> Result<Server> {
        Server::start_with(configuration, Parts::default()).await
    }

    /// The same with other parts.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(configuration: &Configuration, parts: Parts) -> Result<Server> {
        let Opened { shared, bound, tls, outboxes } = Opened::of(configuration, parts.clock, parts.fatal, parts.store)?;
        let roster = start_policies(&shared, configuration, parts.policies).await?;
        shared.directory.load(shared.store.profiles()?);
        load_credentials(&shared)?;
        let transport_limits = transport_limits(&configuration.limits);
        let listeners = sip_listeners(configuration);
        let handler = receiver::handler(&shared);
        let web_sockets = WebSockets { origins: configuration.sip.web_origins.clone(), may_connect: false };
        let layers = Layers { tls: tls.clone(), web_sockets };
        let transport = Transport::start_with(&listeners, transport_limits, layers, handler).await?;
        let _ = shared.sender.set(transport.sender());
        let sip = transport.listeners().iter().map(|bound| (bound.protocol, bound.local)).collect();
        let mut msrp = bound.listen(&transport, &shared)?;
        msrp.extend(BoundMsrp::listen_web(configuration, &transport, &shared)?);
        if let Some(link) = RelayLink::start(&configuration.msrp.relay, tls.clone(), shared.names.clone())? {
            let _ = shared.relay.set(link);
        }
        let shards = start_shards(&shared, outboxes)?;
        let names = shared.clone();
        let releasing = tokio::task::spawn_blocking(move || recovery::release_names(&names));
        let (stop_scheduler, stopped) = watch::channel(false);
        let scheduler = tokio::spawn(scheduler::schedule(shared.clone(), stopped));
        let certificates = Certificates::watch(tls);
        Ok(Server { shared, transport, certificates, roster, shards, releasing, scheduler, stop_scheduler, sip, msrp })
    }

    /// What shards share, for the administration.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The tenants, for the administration.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The files of TLS, for the administration.
    #[must_use]
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Where SIP is listened for.
    #[must_use]
    pub fn sip(&self) -> &[(Protocol, SocketAddr)] {
        &self.sip
    }

    /// Where MSRP is.
    #[must_use]
    pub fn msrp(&self) -> &[(Protocol, SocketAddr)] {
        &self.msrp
    }

    /// What the transport counts.
    #[must_use]
    pub fn transport_counters(&self) -> Arc<TransportCounters> {
        self.transport.counters()
    }

    /// SIP connections that are open or being opened.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.transport.open_connections()
    }

    /// Takes nothing new, finishes what is in flight within the configured time, and ends.
    pub async fn stop(self) {
        self.transport.stop_accepting();
        let _ = self.stop_scheduler.send(true);
        self.shared.to_all_shards(|| ToShard::Drain);
        let shards = self.shards;
        let joined = tokio::task::spawn_blocking(move || {
            for shard in shards {
                let _ = shard.join();
            }
        });
        let _ = joined.await;
        self.transport.shutdown().await;
        // The store closes with the last that knows it.
        let _ = self.scheduler.await;
        let _ = self.releasing.await;
    }
}

/// Nobody knows what is on a disk that failed an fsync: the next process goes on with what is readable there. The
/// status is EX_IOERR of sysexits.h.
fn end_the_process(why: &str) {
    tracing::error!("{why}");
    std::process::exit(74);
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
