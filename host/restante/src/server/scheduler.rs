//! Looks for recipients whose time has come, for all shards together.

use std::sync::Arc;
use std::time::Duration;

use restante_deferral::commit::{Change, Transaction};
use restante_deferral::model::{self, RecipientKey, Timestamp};
use restante_store::Ticket;
use restante_transport::queue::Lane;
use tokio::sync::watch;

use super::Shared;
use super::receiver::shard_of;
use super::shard::ToShard;

/// How often due recipients are looked for.
const DUE_INTERVAL: Duration = Duration::from_millis(500);
/// Due recipients taken at once.
const DUE_BATCH: usize = 2_000;
/// When recipients of tenants that are not served are looked at again. Whoever has something is looked at anyhow when the
/// tenant returns.
const NOT_SERVED_AGAIN: model::Duration = model::Duration::from_secs(6 * 3600);

/// Hands recipients whose time has come to their shards.
pub(super) async fn schedule(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        let store = shared.store.clone();
        let now = (shared.clock)();
        let due = tokio::task::spawn_blocking(move || store.due(now, DUE_BATCH)).await;
        match due {
            Ok(Ok(due)) => {
                // What waits for users of tenants that are not served now waits on.
                let is_whole = due.len() >= DUE_BATCH;
                let (due, not_served): (Vec<_>, Vec<_>) =
                    due.into_iter().partition(|key| shared.directory.serves(&key.tenant));
                let others_wait = is_whole && due.is_empty();
                postpone(&shared, now, not_served);
                let mut shards: Vec<Vec<RecipientKey>> = (0..shared.shards()).map(|_| Vec::new()).collect();
                for key in due {
                    if let Some(shard) = shards.get_mut(shard_of(&key, shared.shards())) {
                        shard.push(key);
                    }
                }
                for (shard, keys) in shards.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
                    let bytes = keys.len().saturating_mul(64);
                    let _ = shared.push(shard, Lane::Ordinary, ToShard::Due(keys), bytes);
                }
                if others_wait && !*stopped.borrow() {
                    continue;
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "cannot read which recipients are due"),
            Err(error) => tracing::error!(%error, "cannot read which recipients are due"),
        }
        tokio::select! {
            () = tokio::time::sleep(DUE_INTERVAL) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// Their alarms are not to stand before those of others every time.
fn postpone(shared: &Shared, now: Timestamp, recipients: Vec<RecipientKey>) {
    if recipients.is_empty() {
        return;
    }
    let at = Some(now.after(NOT_SERVED_AGAIN));
    let changes = recipients.into_iter().map(|recipient| Change::WakeAt { recipient, at }).collect();
    // No shard waits for this number. What is refused is tried again the next time.
    let _ = shared.store.write(Ticket { shard: 0, token: 0 }, Transaction { changes, settles: true });
}
