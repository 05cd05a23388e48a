//! What crossed the wire.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use restante_client::{Direction, Observer, WireRecord};

/// Keeps every record.
#[derive(Default)]
pub struct Recorder {
    records: Mutex<Vec<WireRecord>>,
}

impl Observer for Recorder {
    fn record(&self, record: WireRecord) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

impl Recorder {
    /// All so far.
    #[must_use]
    pub fn records(&self) -> Vec<WireRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came whose start line begins so.
    #[must_use]
    pub fn received(&self, beginning: &str) -> Vec<WireRecord> {
        self.of(Direction::Received, beginning)
    }

    /// The same, each request once: over UDP it comes again when it was not answered soon, as on a busy machine.
    #[must_use]
    pub fn received_once(&self, beginning: &str) -> Vec<WireRecord> {
        let mut known = HashSet::new();
        let mut records = self.received(beginning);
        records.retain(|record| known.insert((record.exchange.clone(), record.detail.clone())));
        records
    }

    /// What went out whose start line begins so.
    #[must_use]
    pub fn sent(&self, beginning: &str) -> Vec<WireRecord> {
        self.of(Direction::Sent, beginning)
    }

    fn of(&self, direction: Direction, beginning: &str) -> Vec<WireRecord> {
        let mut records = self.records();
        records.retain(|record| record.direction == direction && record.line.starts_with(beginning));
        records
    }
}
