//! The running server: sockets, shards, store and policies, and what they share.

pub mod directory;
mod facts;
mod flow;
mod media;
mod policies;
mod rates;
mod receiver;
pub mod shard;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use restante_deferral::breaker::{Breaker, BreakerLimits};
use restante_deferral::commit::CommitError;
use restante_deferral::decision::{HostAbilities, Question, Undecided};
use restante_deferral::model::{Duration as Span, Profile, ProfileChange, RecipientKey, TenantName, Timestamp};
use restante_deferral::participating_function::Limits as DeferralLimits;
use restante_msrp::framing::{FramingLimits, Peek as FirstBytes, peek_to_path};
use restante_msrp::session_id::shard_of_session_id;
use restante_msrp::status::Status;
use restante_policy::PolicyHost;
use restante_sip::message::MessageLimits;
use restante_sip::registration::Bindings;
use restante_sip::transaction::OwnMark;
use restante_sip::uri::Uri;
use restante_store::spool::Spool;
use restante_store::sqlite::{Clock, OpenOptions, SqliteStore, WriteLimits};
use restante_store::{Sink, Store, StoreError};
use restante_transport::destination::{AllowedTarget, DestinationPolicy};
use restante_transport::msrp::{HandedOver, Peek};
use restante_transport::queue::{Lane, QueueLimits, QueueSender, channel};
use restante_transport::{Listener, ListenerId, Protocol, Sender, Transport, TransportLimits};

use self::directory::{Directory, Reservation};
use self::rates::Rates;
use self::shard::{DecisionTicket, ProfileOrder, SavedBindings, Shard, ToShard};
use crate::configuration::{Configuration, Limits, ListenAddress};
use crate::metrics::Metrics;

/// Responses, ACK, BYE, CANCEL and REGISTER that wait for a shard; more are dropped and come again.
const MAX_PRIORITY_ITEMS: usize = 65_536;
/// Bytes of them.
const MAX_PRIORITY_BYTES: usize = 64 * 1024 * 1024;
/// A core that lost its database answers 404 to everything, for as long as its operator needs.
const HOP_LIMITS: BreakerLimits =
    BreakerLimits { row: 5, open_for: Span::from_secs(600), within: Span::from_secs(300), max_hops: 10_000 };
/// How often due recipients are looked for.
const DUE_INTERVAL: Duration = Duration::from_millis(500);
/// Due recipients taken at once.
const DUE_BATCH: usize = 2_000;
/// Registrations read at once at start.
const REGISTRATION_PAGE: usize = 10_000;
/// Recipients read at once at start.
const RECIPIENT_PAGE: usize = 10_000;

/// What MSRP paths name.
#[derive(Clone, Debug)]
pub struct MsrpPlace {
    /// Host.
    pub host: restante_msrp::uri::Host,
    /// Port.
    pub port: Option<u16>,
    /// Family of the listener; none where a name is advertised, which may have addresses of both.
    pub is_ipv6: Option<bool>,
}

/// Never used: a server without an MSRP listener does not start.
const NO_PLACE: MsrpPlace =
    MsrpPlace { host: restante_msrp::uri::Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: None, is_ipv6: None };

/// What all shards and receivers see. Nothing in it is changed under a lock that is held for long.
pub struct Shared {
    /// Bounds.
    pub limits: Limits,
    /// Tenants and names.
    pub directory: Directory,
    /// What is counted.
    pub metrics: Metrics,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Large bodies.
    pub spool: Spool,
    /// The time.
    pub clock: Clock,
    own_mark: OwnMark,
    rates: Rates,
    hops: Mutex<Breaker<SocketAddr>>,
    destinations: DestinationPolicy,
    outbound: Option<ListenAddress>,
    congestion_safe: bool,
    count_unreported_as_delivered: bool,
    upstream_failure_header: String,
    msrp_places: Vec<MsrpPlace>,
    msrp_limits: FramingLimits,
    sender: OnceLock<Sender>,
    policy: OnceLock<Arc<PolicyHost<DecisionTicket>>>,
    deferral: HashMap<TenantName, Arc<DeferralLimits>>,
    inboxes: Arc<Vec<QueueSender<ToShard>>>,
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
    pub fn policies(&self) -> Option<&PolicyHost<DecisionTicket>> {
        self.policy.get().map(Arc::as_ref)
    }

    fn push(&self, shard: usize, lane: Lane, item: ToShard, bytes: usize) -> Result<(), Box<ToShard>> {
        match self.inboxes.get(shard) {
            Some(inbox) => inbox.try_push(lane, item, bytes).map_err(|rejected| Box::new(rejected.item)),
            None => Err(Box::new(item)),
        }
    }

    /// Gives something to the shard of a recipient.
    pub fn to_recipient(&self, key: &RecipientKey, item: ToShard) {
        if self.push(receiver::shard_of(key, self.shards()), Lane::Ordered, item, 64).is_err() {
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
        let (done, changed) = tokio::sync::oneshot::channel();
        let order = ProfileOrder { user: user.clone(), change, reservation, done: Some(done) };
        self.to_recipient(user, ToShard::ChangeProfile(Box::new(order)));
        changed.await.unwrap_or(Err(CommitError::Failed))
    }

    fn ask(&self, ticket: DecisionTicket, question: Question) -> Result<(), Undecided> {
        match self.policy.get() {
            Some(policy) => policy.submit(ticket, question).map_err(|_| Undecided::Overloaded),
            None => Err(Undecided::Declined),
        }
    }

    fn deferral_limits(&self, tenant: &TenantName) -> Arc<DeferralLimits> {
        self.deferral.get(tenant).cloned().unwrap_or_default()
    }

    fn domain_of(&self, tenant: &TenantName) -> Arc<str> {
        self.directory.tenant(tenant).map_or_else(|| "localhost".into(), |tenant| tenant.domain.clone())
    }

    fn is_deferred_uri(&self, uri: &Uri) -> bool {
        let user = uri.as_sip().and_then(|uri| uri.user.as_deref());
        user.is_some_and(|user| self.directory.tenant_of(uri).is_some_and(|tenant| *tenant.deferred_user == *user))
    }

    /// What our MSRP paths name towards a peer: the listener of its address family, where there is one.
    fn msrp_place(&self, peer: IpAddr) -> &MsrpPlace {
        let of_family = |place: &&MsrpPlace| place.is_ipv6 == Some(peer.is_ipv6());
        let any = || self.msrp_places.first().unwrap_or(&NO_PLACE);
        self.msrp_places.iter().find(of_family).unwrap_or_else(any)
    }

    fn message_limits(&self) -> MessageLimits {
        transport_limits(&self.limits).message
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

/// What a server is made of where that is not always the same. The default is what serves; a test puts something else in
/// its place, to hold commits back or to let time pass.
pub struct Parts {
    /// The store.
    pub store: StoreOpener,
    /// The time, for the store too.
    pub clock: Clock,
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
        }
    }
}

/// A server that runs.
pub struct Server {
    shared: Arc<Shared>,
    transport: Transport,
    shards: Vec<JoinHandle<()>>,
    releasing: tokio::task::JoinHandle<()>,
    scheduler: tokio::task::JoinHandle<()>,
    stop_scheduler: tokio::sync::watch::Sender<bool>,
    sip: Vec<(Protocol, SocketAddr)>,
    msrp: Vec<SocketAddr>,
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
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(usize::from(u8::MAX));
        let limits = configuration.limits.clone();
        let queue_limits = QueueLimits {
            max_ordinary_items: size(limits.max_receive_queue),
            max_ordinary_bytes: size(limits.max_receive_queue_bytes),
            max_priority_items: MAX_PRIORITY_ITEMS,
            max_priority_bytes: MAX_PRIORITY_BYTES,
        };
        let (inboxes, outboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| channel::<ToShard>(queue_limits)).unzip();
        let inboxes = Arc::new(inboxes);
        let (store, spool) = open_store(configuration, &inboxes, &parts.clock, parts.store)?;
        let secrets = Secrets::open(&configuration.data)?;
        let transport_limits = transport_limits(&limits);
        let directory = Directory::new(configuration).map_err(anyhow::Error::msg)?;
        directory.load(store.profiles()?);
        // MSRP listeners are bound with the transport below; their ports may be chosen by the system, so paths are made
        // from what was bound.
        let bound = BoundMsrp::reserve(configuration)?;
        let shared = Arc::new(Shared {
            own_mark: OwnMark::new(
                secrets.own_mark,
                directory.tenants().first().map_or("localhost", |tenant| &tenant.domain),
            ),
            deferral: deferral_limits(configuration, &directory),
            directory,
            metrics: Metrics::new(),
            spool,
            store: store.clone(),
            clock: parts.clock,
            rates: Rates::default(),
            hops: Mutex::new(Breaker::new(HOP_LIMITS)),
            destinations: destinations(configuration),
            outbound: configuration.sip.outbound,
            congestion_safe: configuration.sip.congestion_safe,
            count_unreported_as_delivered: configuration.msrp.count_unreported_as_delivered,
            upstream_failure_header: configuration.sip.upstream_failure_header.clone(),
            msrp_places: bound.places.clone(),
            msrp_limits: framing_limits(&limits),
            sender: OnceLock::new(),
            policy: OnceLock::new(),
            inboxes: inboxes.clone(),
            limits,
        });
        let policy = policies::start(configuration, inboxes.clone()).await?;
        let _ = shared.policy.set(Arc::new(policy));
        let listeners: Vec<Listener> = configuration.sip.listen.iter().map(|it| listener(it, configuration)).collect();
        let transport = Transport::start(&listeners, transport_limits, receiver::handler(&shared)).await?;
        let _ = shared.sender.set(transport.sender());
        let sip = transport.listeners().iter().map(|bound| (bound.protocol, bound.local)).collect();
        let msrp = bound.listen(&transport, &shared)?;
        let shards = start_shards(&shared, outboxes, &store)?;
        let names = shared.clone();
        let releasing = tokio::task::spawn_blocking(move || release_names(&names));
        let (stop_scheduler, stopped) = tokio::sync::watch::channel(false);
        let scheduler = tokio::spawn(schedule(shared.clone(), stopped));
        Ok(Server { shared, transport, shards, releasing, scheduler, stop_scheduler, sip, msrp })
    }

    /// What shards share, for the administration.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where SIP is listened for.
    #[must_use]
    pub fn sip(&self) -> &[(Protocol, SocketAddr)] {
        &self.sip
    }

    /// Where MSRP is.
    #[must_use]
    pub fn msrp(&self) -> &[SocketAddr] {
        &self.msrp
    }

    /// What the transport counts.
    #[must_use]
    pub fn transport_counters(&self) -> Arc<restante_transport::TransportCounters> {
        self.transport.counters()
    }

    /// Takes nothing new, finishes what is in flight within the configured time, and ends.
    pub async fn stop(self) {
        self.transport.stop_accepting();
        let _ = self.stop_scheduler.send(true);
        for shard in 0..self.shared.shards() {
            let _ = self.shared.push(shard, Lane::Ordered, ToShard::Drain, 64);
        }
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

fn open_store(
    configuration: &Configuration,
    inboxes: &Arc<Vec<QueueSender<ToShard>>>,
    clock: &Clock,
    open: StoreOpener,
) -> Result<(Arc<dyn Store>, Spool)> {
    let limits = &configuration.limits;
    let mut options = OpenOptions::new(&configuration.data);
    options.limits = WriteLimits {
        max_waiting: size(limits.max_waiting_commits),
        max_waiting_bytes: size(limits.max_waiting_commit_bytes),
        max_database_bytes: limits.max_database_bytes,
        ..WriteLimits::default()
    };
    options.deduplication_hours = limits.deduplication_hours;
    options.clock = clock.clone();
    let inboxes = inboxes.clone();
    let sink: Sink = Arc::new(move |shard, completions| {
        if let Some(inbox) = inboxes.get(shard) {
            // Refused only when the shard has ended, and then nobody waits any more.
            let _ = inbox.try_push(Lane::Ordered, ToShard::Stored(completions), 64);
        }
    });
    open(options, sink).with_context(|| format!("cannot open the data directory {}", configuration.data.display()))
}

fn start_shards(
    shared: &Arc<Shared>,
    outboxes: Vec<restante_transport::queue::QueueReceiver<ToShard>>,
    store: &Arc<dyn Store>,
) -> Result<Vec<JoinHandle<()>>> {
    let mut registrations = load_registrations(store, (shared.clock)(), outboxes.len())?;
    let mut threads = Vec::new();
    for (index, inbox) in outboxes.into_iter().enumerate() {
        let shared = shared.clone();
        let registrations = registrations.get_mut(index).map(std::mem::take).unwrap_or_default();
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    tracing::error!(%error, "a shard cannot start");
                    std::process::exit(71);
                }
            };
            let _guard = AbortOnPanic;
            let local = tokio::task::LocalSet::new();
            let (reports, received) = tokio::sync::mpsc::channel(1024);
            let shard = Shard::new(index, shared, key, registrations, reports);
            local.block_on(&runtime, shard.run(inbox, received));
        })?;
        threads.push(thread);
    }
    Ok(threads)
}

/// A shard that is gone would leave its recipients waiting for ever: the process ends instead, and the next one goes on
/// with what is durable.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a shard panicked; the process ends");
            std::process::abort();
        }
    }
}

fn load_registrations(
    store: &Arc<dyn Store>,
    now: Timestamp,
    shards: usize,
) -> Result<Vec<HashMap<RecipientKey, Bindings>>> {
    let mut found: Vec<HashMap<RecipientKey, Bindings>> = (0..shards).map(|_| HashMap::new()).collect();
    let mut after = None;
    loop {
        let page = store.registrations(now, after, REGISTRATION_PAGE)?;
        let Some(last) = page.last().map(|(id, ..)| *id) else { return Ok(found) };
        after = Some(last);
        for (_, key, saved) in page {
            let Some(bindings) = SavedBindings::read(&saved.bytes) else {
                tracing::warn!(tenant = %key.tenant, "a stored registration cannot be read");
                continue;
            };
            if let Some(shard) = found.get_mut(receiver::shard_of(&key, shards)) {
                shard.insert(key, bindings);
            }
        }
    }
}

/// Names that became somebody's may have something under them still: because the configuration names them only now, or
/// because an earlier run ended before it was moved. Registrations under them are released by their shards.
fn release_names(shared: &Shared) {
    let release = |name: RecipientKey| shared.to_recipient(&name, ToShard::Release(name.clone()));
    shared.directory.configured_aliases().for_each(release);
    let mut after = None;
    loop {
        match shared.store.recipients(after, RECIPIENT_PAGE) {
            Ok(page) => {
                let Some((last, _)) = page.last() else { return };
                after = Some(*last);
                page.into_iter()
                    .map(|(_, key)| key)
                    .filter(|key| shared.directory.owner_of(key).is_some())
                    .for_each(release);
            }
            Err(error) => return tracing::error!(%error, "names with messages of their own cannot be looked for"),
        }
    }
}

/// Hands recipients whose time has come to their shards.
async fn schedule(shared: Arc<Shared>, mut stopped: tokio::sync::watch::Receiver<bool>) {
    loop {
        let store = shared.store.clone();
        let now = (shared.clock)();
        let due = tokio::task::spawn_blocking(move || store.due(now, DUE_BATCH)).await;
        match due {
            Ok(Ok(due)) => {
                let mut shards: Vec<Vec<RecipientKey>> = (0..shared.shards()).map(|_| Vec::new()).collect();
                for key in due {
                    if let Some(shard) = shards.get_mut(receiver::shard_of(&key, shared.shards())) {
                        shard.push(key);
                    }
                }
                for (shard, keys) in shards.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
                    let bytes = keys.len().saturating_mul(64);
                    let _ = shared.push(shard, Lane::Ordinary, ToShard::Due(keys), bytes);
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "due recipients cannot be read"),
            Err(error) => tracing::error!(%error, "due recipients cannot be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(DUE_INTERVAL) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// The MSRP listeners: what paths name must be known before anything is offered.
struct BoundMsrp {
    listeners: Vec<Listener>,
    places: Vec<MsrpPlace>,
}

impl BoundMsrp {
    /// Chooses ports where the system is to choose, by binding and letting go again.
    fn reserve(configuration: &Configuration) -> Result<BoundMsrp> {
        let mut listeners = Vec::new();
        for listen in &configuration.msrp.listen {
            let mut bind = listen.socket;
            if bind.port() == 0 {
                bind = std::net::TcpListener::bind(bind).and_then(|socket| socket.local_addr())?;
            }
            listeners.push(Listener {
                protocol: Protocol::Tcp,
                bind,
                advertise: advertised(configuration.msrp.advertise.as_ref()),
            });
        }
        if listeners.is_empty() {
            bail!("msrp.listen is empty: expected \"tcp:HOST:PORT\"");
        }
        let places = listeners.iter().map(BoundMsrp::place).collect::<Result<_>>()?;
        Ok(BoundMsrp { listeners, places })
    }

    fn place(listener: &Listener) -> Result<MsrpPlace> {
        let place = listener.advertised(listener.bind);
        let example = format!("msrp://{}:1/a;tcp", place.host).parse::<restante_msrp::uri::MsrpUri>();
        let host = example.map_err(|_| anyhow::anyhow!("msrp.advertise: {:?} is no host", place.host))?.host;
        let is_ipv6 = listener.advertise.is_none().then_some(listener.bind.is_ipv6());
        Ok(MsrpPlace { host, port: place.port, is_ipv6 })
    }

    fn listen(self, transport: &Transport, shared: &Arc<Shared>) -> Result<Vec<SocketAddr>> {
        let mut bound = Vec::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let (limits, shared) = (shared.msrp_limits.clone(), shared.clone());
            let peek = move |bytes: &[u8]| match peek_to_path(bytes, &limits) {
                FirstBytes::NeedMore => Peek::Incomplete,
                FirstBytes::Found(request) => {
                    request.session_id().map_or(Peek::Refused, |id| Peek::Session(id.to_owned()))
                }
                FirstBytes::Invalid => Peek::Refused,
            };
            let hand_over = move |handed: HandedOver<String>| {
                let shard =
                    shard_of_session_id(&handed.session).map(usize::from).filter(|shard| *shard < shared.shards());
                match shard {
                    Some(shard) => {
                        let _ = shared.push(shard, Lane::Priority, ToShard::Connection(handed), 1024);
                    }
                    None => refuse_connection(handed, &shared.msrp_limits, Status::NO_SUCH_SESSION),
                }
            };
            let id = ListenerId(u16::try_from(index).unwrap_or(u16::MAX).saturating_add(1000));
            bound.push(transport.listen_msrp(listener, id, peek, hand_over)?.local);
        }
        Ok(bound)
    }
}

/// A connection for a session that is not there (481), or that has one already (506): answered and closed
/// (RFC 4975 §7.3).
fn refuse_connection(handed: HandedOver<String>, limits: &FramingLimits, status: Status) {
    use std::io::Write;
    if let FirstBytes::Found(request) = peek_to_path(&handed.received, limits) {
        // A fresh socket's buffer takes these few bytes at once.
        let _ = request.refusal(status).map(|answer| (&handed.stream).write(&answer));
    }
}

/// Random keys that outlive the process, in the data directory and readable by its owner only.
struct Secrets {
    own_mark: [u8; 32],
}

impl Secrets {
    fn open(directory: &Path) -> Result<Secrets> {
        Ok(Secrets { own_mark: secret(&directory.join("own-mark.key"))? })
    }
}

/// A key file, made when it is missing.
fn secret(path: &Path) -> Result<[u8; 32]> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut key = [0; 32];
    match std::fs::read(path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(key),
            Err(_) => bail!("{}: expected 32 bytes", path.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, &key)?;
    file.sync_all()?;
    Ok(key)
}

fn deferral_limits(configuration: &Configuration, directory: &Directory) -> HashMap<TenantName, Arc<DeferralLimits>> {
    let limits = &configuration.limits;
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    directory
        .tenants()
        .iter()
        .map(|tenant| {
            let for_tenant = DeferralLimits {
                max_window_messages: small(limits.max_window_messages),
                max_waiting_arrivals: size(limits.max_waiting_arrivals),
                registration_delay: Span::from_millis(limits.registration_delay_milliseconds),
                max_keep: Span::from_secs(limits.max_keep_seconds),
                reporter: tenant.reporter(),
                hand_over_targets: tenant.hand_over.keys().cloned().collect(),
                ..DeferralLimits::default()
            };
            (tenant.name.clone(), Arc::new(for_tenant))
        })
        .collect()
}

/// What the policies of a tenant are told of this host.
fn abilities(configuration: &Configuration, tenant: &crate::configuration::Tenant) -> HostAbilities {
    HostAbilities {
        max_page_bytes: if configuration.sip.congestion_safe { 64 * 1024 } else { 1300 },
        max_message_bytes: configuration.limits.max_large_body_bytes,
        hand_over_targets: tenant.hand_over.keys().cloned().collect(),
    }
}

/// Where peers may make us connect to. A server that nobody but this machine can reach may reach this machine.
fn destinations(configuration: &Configuration) -> DestinationPolicy {
    let mut allowed: Vec<AllowedTarget> = configuration.sip.allow_targets.iter().map(|target| target.0).collect();
    let sip = configuration.sip.listen.iter();
    if sip.chain(&configuration.msrp.listen).all(|listen| listen.socket.ip().is_loopback()) {
        allowed.extend(["127.0.0.0/8", "::1"].into_iter().filter_map(|range| range.parse::<AllowedTarget>().ok()));
    }
    let own = configuration.sip.listen.iter().chain(&configuration.msrp.listen).map(|listen| listen.socket);
    DestinationPolicy {
        own: own.chain(configuration.admin.listen).filter(|socket| socket.port() != 0).collect(),
        allowed,
    }
}

fn listener(listen: &ListenAddress, configuration: &Configuration) -> Listener {
    let protocol = match listen.protocol {
        crate::configuration::Protocol::Udp => Protocol::Udp,
        crate::configuration::Protocol::Tcp => Protocol::Tcp,
    };
    Listener { protocol, bind: listen.socket, advertise: advertised(configuration.sip.advertise.as_ref()) }
}

fn advertised(place: Option<&crate::configuration::HostPort>) -> Option<restante_transport::HostPort> {
    place.map(|place| restante_transport::HostPort { host: place.host.clone(), port: place.port })
}

fn transport_limits(limits: &Limits) -> TransportLimits {
    TransportLimits {
        message: MessageLimits {
            max_header_bytes: size(limits.max_sip_header_bytes),
            max_header_fields: size(limits.max_sip_header_fields),
            max_body_bytes: size(limits.max_sip_message_bytes.saturating_sub(limits.max_sip_header_bytes)),
        },
        max_connections: size(limits.max_connections),
        max_connections_per_source: size(limits.max_connections_per_source),
        max_outgoing_connections: size(limits.max_outgoing_connections),
        max_msrp_connections: size(limits.max_msrp_connections),
        ..TransportLimits::default()
    }
}

fn framing_limits(limits: &Limits) -> FramingLimits {
    FramingLimits {
        max_headers: size(limits.max_msrp_header_fields),
        max_head_bytes: size(limits.max_msrp_header_bytes),
        max_chunk_bytes: limits.max_chunk_bytes,
        ..FramingLimits::default()
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
