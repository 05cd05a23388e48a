//! What a server opens before it serves.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use restante_store::spool::Spool;
use restante_store::sqlite::{Clock, OpenOptions};
use restante_store::{Sink, Store};
use restante_transport::Tls;
use restante_transport::queue::{Lane, QueueReceiver};

use super::authentication::Authentication;
use super::limits::write_limits;
use super::shard::{Shard, ToShard};
use super::usage::Inboxes;
use super::{Shared, StoreOpener, recovery};
use crate::configuration::{Configuration, Limits};

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
pub(super) fn run_number() -> Result<u32> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(u32::from_be_bytes(random))
}

pub(super) fn new_authentication(limits: &Limits) -> Result<Authentication> {
    let (mut key, mut number) = ([0; 32], [0; 8]);
    for random in [&mut key[..], &mut number[..]] {
        getrandom::fill(random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    }
    Ok(Authentication::new(&key, u64::from_be_bytes(number), limits, std::time::Instant::now()))
}

pub(super) fn load_credentials(shared: &Shared, store: &Arc<dyn Store>) -> Result<()> {
    for (user, credentials) in store.credentials()? {
        if let Err(taken) = shared.authentication.users.set(&user, Some(&credentials)) {
            tracing::error!(tenant = %user.tenant, %taken, "credentials cannot be used: give the user others");
        }
    }
    Ok(())
}

pub(super) fn open_store(
    configuration: &Configuration,
    inboxes: &Arc<Inboxes>,
    clock: &Clock,
    open: StoreOpener,
) -> Result<(Arc<dyn Store>, Spool)> {
    let mut options = OpenOptions::new(&configuration.data);
    options.limits = write_limits(&configuration.limits);
    options.deduplication_hours = configuration.limits.deduplication_hours;
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

pub(super) fn start_shards(
    shared: &Arc<Shared>,
    outboxes: Vec<QueueReceiver<ToShard>>,
    store: &Arc<dyn Store>,
) -> Result<Vec<JoinHandle<()>>> {
    let mut registrations = recovery::load_registrations(store, (shared.clock)(), outboxes.len())?;
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
