//! Looks for recipients whose time has come, for all shards together.

use std::sync::Arc;
use std::time::Duration;

use restante_deferral::model::RecipientKey;
use restante_transport::queue::Lane;
use tokio::sync::watch;

use super::Shared;
use super::receiver::shard_of;
use super::shard::ToShard;

/// How often due recipients are looked for.
const DUE_INTERVAL: Duration = Duration::from_millis(500);
/// Due recipients taken at once.
const DUE_BATCH: usize = 2_000;

/// Hands recipients whose time has come to their shards.
pub(super) async fn schedule(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        let store = shared.store.clone();
        let now = (shared.clock)();
        let due = tokio::task::spawn_blocking(move || store.due(now, DUE_BATCH)).await;
        match due {
            Ok(Ok(due)) => {
                let mut shards: Vec<Vec<RecipientKey>> = (0..shared.shards()).map(|_| Vec::new()).collect();
                // What waits for users of tenants that are not served now waits on.
                for key in due.into_iter().filter(|key| shared.directory.serves(&key.tenant)) {
                    if let Some(shard) = shards.get_mut(shard_of(&key, shared.shards())) {
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
