//! What an earlier run left, read at start: registrations, and what lies under names that are somebody's by now.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use restante_deferral::model::{RecipientKey, Timestamp};
use restante_sip::registration::Bindings;
use restante_store::Store;

use super::Shared;
use super::receiver::shard_of;
use super::shard::{SavedBindings, ToShard};

/// Registrations read at once at start.
const REGISTRATION_PAGE: usize = 10_000;
/// Recipients read at once at start.
const RECIPIENT_PAGE: usize = 10_000;

/// The registrations that are kept, for each shard those of its users.
pub(super) fn load_registrations(
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
            if let Some(shard) = found.get_mut(shard_of(&key, shards)) {
                shard.insert(key, bindings);
            }
        }
    }
}

/// Names that became somebody's may have something under them still: because the configuration names them only now, or
/// because an earlier run ended before it was moved. Registrations under them are released by their shards. And who has
/// messages may be somewhere by now: cores that tell of registrations are asked.
pub(super) fn release_names(shared: &Shared) {
    let release = |name: RecipientKey| shared.to_recipient(&name, ToShard::Release(name.clone()));
    shared.directory.configured_aliases().into_iter().for_each(release);
    let mut after = None;
    loop {
        match shared.store.recipients(after, RECIPIENT_PAGE) {
            Ok(page) => {
                let Some((last, _)) = page.last() else { return };
                after = Some(*last);
                for (_, key) in page {
                    if shared.directory.owner_of(&key).is_some() {
                        release(key);
                    } else if shared.directory.tenant(&key.tenant).is_some_and(|it| it.registration_events.is_some()) {
                        shared.to_recipient(&key, ToShard::Watch(vec![key.clone()]));
                    }
                }
            }
            Err(error) => return tracing::error!(%error, "cannot look for names with messages of their own"),
        }
    }
}
