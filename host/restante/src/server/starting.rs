//! What a server opens before it serves.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use restante_deferral::breaker::{Breaker, BreakerLimits};
use restante_sip::transaction::OwnMark;
use restante_store::spool::Spool;
use restante_store::sqlite::{Clock, OpenOptions};
use restante_store::{Fatal, Sink, Store};
use restante_transport::Tls;
use restante_transport::queue::{Lane, QueueReceiver, channel};

use super::authentication::Authentication;
use super::destinations::destinations;
use super::directory::Directory;
use super::limits::{framing_limits, queue_limits, write_limits};
use super::listeners::BoundMsrp;
use super::media::FailedPlaces;
use super::msrp_relay::Clients;
use super::offenders::Offenders;
use super::openings::Openings;
use super::policies::{ConfiguredPolicies, PolicyParts};
use super::rates::Rates;
use super::roster::Roster;
use super::secrets::Secrets;
use super::served::Elsewhere;
use super::shard::{Shard, ToShard};
use super::usage::Inboxes;
use super::{Shared, StoreOpener, name_service, recovery};
use crate::configuration::{Configuration, Limits};
use crate::metrics::Metrics;

/// What a server opens before anybody works with it.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    /// Reserved places of MSRP.
    pub(super) bound: BoundMsrp,
    pub(super) tls: Arc<Tls>,
    /// What each shard takes from.
    pub(super) outboxes: Vec<QueueReceiver<ToShard>>,
}

impl Opened {
    /// Reads files, opens the store and reserves ports.
    pub(super) fn of(configuration: &Configuration, clock: Clock, fatal: Fatal, store: StoreOpener) -> Result<Opened> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(usize::from(u8::MAX));
        // What cannot be used is said before anything is made on the disk.
        let tls = tls(configuration)?;
        let destinations = destinations(configuration)?;
        let limits = configuration.limits.clone();
        let queue_limits = queue_limits(&limits);
        let (inboxes, outboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| channel::<ToShard>(queue_limits)).unzip();
        let inboxes = Arc::new(inboxes);
        let (store, spool) = open_store(configuration, &inboxes, &clock, fatal, store)?;
        let secrets = Secrets::open(&configuration.data)?;
        let directory = Directory::new(configuration, secrets.report_key(), Arc::downgrade(&inboxes))
            .map_err(anyhow::Error::msg)?;
        // MSRP listeners are bound with the transport later; their ports may be chosen by the system, so paths are made
        // from what was bound.
        let bound = BoundMsrp::reserve(configuration)?;
        let shared = Arc::new(Shared {
            run: run_number()?,
            own_mark: OwnMark::new(
                secrets.own_mark,
                directory.tenants().first().map_or("localhost", |tenant| &tenant.domain),
            ),
            directory,
            authentication: new_authentication(&limits)?,
            offenders: Offenders::new(&limits),
            open_sessions: Openings::new(limits.max_sessions_per_sender, limits.max_sessions_per_source),
            open_calls: Openings::new(limits.max_calls_per_sender, limits.max_calls_per_source),
            metrics: Metrics::new(),
            spool,
            store,
            clock,
            rates: Rates::default(),
            hops: Mutex::new(Breaker::new(BreakerLimits::default())),
            destinations,
            outbound: configuration.sip.outbound.clone(),
            names: name_service::next_hops(&configuration.sip.name_servers, &configuration.sip.listen),
            msrp_names: name_service::hosts_of_msrp(&configuration.sip.name_servers),
            failed_msrp_places: FailedPlaces::default(),
            congestion_safe: configuration.sip.congestion_safe,
            count_unreported_as_delivered: configuration.msrp.count_unreported_as_delivered,
            upstream_failure_header: configuration.sip.upstream_failure_header.clone(),
            keep_headers: configuration.sip.keep_headers.clone(),
            msrp_places: bound.places.clone(),
            msrp_offers_tls: configuration.msrp.offers_tls(),
            msrp_relay: Clients::new(limits.max_relay_clients_per_user),
            relay: OnceLock::new(),
            msrp_limits: framing_limits(&limits),
            sender: OnceLock::new(),
            policies: OnceLock::new(),
            inboxes,
            elsewhere: Elsewhere::default(),
            limits,
        });
        Ok(Opened { shared, bound, tls, outboxes })
    }
}

/// Starts what decides, and the roster of those for whom it does.
pub(super) async fn start_policies(
    shared: &Arc<Shared>,
    configuration: &Configuration,
    parts: PolicyParts,
) -> Result<Arc<Roster>> {
    let (beginning, asked, clock) = (configuration.clone(), shared.inboxes.clone(), shared.clock.clone());
    let opened = move || ConfiguredPolicies::start(&beginning, asked, clock, parts);
    let policies = tokio::task::spawn_blocking(opened).await??;
    let platform = policies.platform().clone();
    let _ = shared.policies.set(policies);
    let (known, running) = (shared.clone(), configuration.clone());
    let roster = tokio::task::spawn_blocking(move || Roster::start(&known, &running)).await??;
    if let Err(error) = crate::watch::start("policy-watch", &platform) {
        tracing::warn!(%error, "policy files are not watched for changes; send SIGHUP after a change");
    }
    Ok(roster)
}

/// What the files of `[tls]` hold.
pub(super) fn tls(configuration: &Configuration) -> Result<Arc<Tls>> {
    // From the offer to its answer, and from there to the connection.
    let setup = std::time::Duration::from_secs(configuration.limits.max_session_setup_seconds.saturating_mul(2));
    Tls::read(configuration.tls.files(setup)).map_err(|error| {
        let place = configuration.source.place(&["tls"]);
        anyhow::anyhow!("{place}: [tls] cannot be used: {error}")
    })
}

/// With keys of this run alone: which nonces were used is known to it alone, too.
fn run_number() -> Result<u32> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(u32::from_be_bytes(random))
}

fn new_authentication(limits: &Limits) -> Result<Authentication> {
    let (mut key, mut number) = ([0; 32], [0; 8]);
    for random in [&mut key[..], &mut number[..]] {
        getrandom::fill(random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    }
    Ok(Authentication::new(&key, u64::from_be_bytes(number), limits, std::time::Instant::now()))
}

pub(super) fn load_credentials(shared: &Shared) -> Result<()> {
    for (user, credentials) in shared.store.credentials()? {
        if let Err(taken) = shared.authentication.users.set(&user, Some(&credentials)) {
            tracing::error!(tenant = %user.tenant, %taken, "stored credentials cannot be used; set new ones");
        }
    }
    Ok(())
}

fn open_store(
    configuration: &Configuration,
    inboxes: &Arc<Inboxes>,
    clock: &Clock,
    fatal: Fatal,
    open: StoreOpener,
) -> Result<(Arc<dyn Store>, Spool)> {
    let mut options = OpenOptions::new(&configuration.data, clock.clone(), fatal);
    options.limits = write_limits(&configuration.limits);
    options.deduplication_hours = configuration.limits.deduplication_hours;
    let inboxes = inboxes.clone();
    let sink: Sink = Arc::new(move |shard, completions| {
        if let Some(inbox) = inboxes.get(shard) {
            // Refused only when the shard has ended, and then nobody waits any more.
            let _ = inbox.try_push(Lane::Ordered, ToShard::Stored(completions), 64);
        }
    });
    open(options, sink).with_context(|| format!("cannot open the data directory {}", configuration.data.display()))
}

pub(super) fn start_shards(shared: &Arc<Shared>, outboxes: Vec<QueueReceiver<ToShard>>) -> Result<Vec<JoinHandle<()>>> {
    let mut registrations = recovery::load_registrations(&shared.store, (shared.clock)(), outboxes.len())?;
    let mut threads = Vec::new();
    for (index, inbox) in outboxes.into_iter().enumerate() {
        let shared = shared.clone();
        let registrations = registrations.get_mut(index).map(std::mem::take).unwrap_or_default();
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
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
            let (media_events, received) = tokio::sync::mpsc::channel(1024);
            let shard = Shard::new(index, shared, key, registrations, media_events);
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
