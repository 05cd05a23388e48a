//! Keeps what clients and core see on the wire while a story runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use restante_client::{Direction, Observer, WireProtocol, WireRecord};

use super::sequence::Seen;
use super::{Progress, Transfer};

/// Records of one story; more are dropped.
const MAX_RECORDS: usize = 200_000;

/// Every record of a story.
#[derive(Default)]
pub struct Recorder {
    seen: Mutex<Vec<Seen>>,
}

/// The eyes of one column.
pub struct Lane {
    recorder: Arc<Recorder>,
    column: usize,
    incoming: Mutex<Option<(Transfer, Progress)>>,
}

impl Recorder {
    /// Everything so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// For a column.
    #[must_use]
    pub fn new(recorder: &Arc<Recorder>, column: usize) -> Arc<Lane> {
        Arc::new(Lane { recorder: Arc::clone(recorder), column, incoming: Mutex::default() })
    }

    /// Tells of MSRP content as it comes in.
    pub fn watch_incoming(&self, transfer: Transfer, progress: Progress) {
        *self.incoming.lock().unwrap_or_else(PoisonError::into_inner) = Some((transfer, progress));
    }
}

impl Observer for Lane {
    fn record(&self, record: WireRecord) {
        if record.protocol == WireProtocol::Msrp && record.direction == Direction::Received {
            let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((transfer, progress)) = incoming.as_mut() {
                let bytes = u64::try_from(record.bytes).unwrap_or(u64::MAX);
                transfer.done_bytes = transfer.done_bytes.saturating_add(bytes).min(transfer.total_bytes);
                progress(transfer);
            }
        }
        let mut seen = self.recorder.locked();
        if seen.len() < MAX_RECORDS {
            seen.push(Seen { by: self.column, record });
        }
    }
}
