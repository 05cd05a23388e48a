//! Records decided again.

use serde_json::Value;
use thiserror::Error;

use super::comparison::Comparison;
use super::meter::{Meter, Shelf};
use super::record::Record;

/// A record cannot be decided again.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The policy cannot be used with the settings of this record, or those that were given.
    #[error("the policy cannot be used with the settings that are replayed: {0}")]
    Unusable(String),
}

/// Decides records again and compares.
pub struct Replay<'a> {
    policies: Shelf<'a>,
    settings: Option<Value>,
    comparison: Comparison,
    cost_before: u64,
    cost_after: u64,
}

impl<'a> Replay<'a> {
    /// By this component; with these settings, or those of each record. Of each kind of difference so many examples are
    /// kept.
    #[must_use]
    pub fn new(meter: &'a Meter, component: &'a [u8], settings: Option<Value>, max_examples: usize) -> Replay<'a> {
        Replay {
            policies: Shelf::new(meter, component),
            settings,
            comparison: Comparison::new(max_examples),
            cost_before: 0,
            cost_after: 0,
        }
    }

    /// Decides a record again.
    ///
    /// # Errors
    /// When the policy cannot be used with its settings.
    pub fn add(&mut self, record: &Record) -> Result<(), ReplayError> {
        let settings = self.settings.as_ref().unwrap_or(&record.settings);
        let policy = match self.policies.policy(settings, &record.host) {
            Ok(policy) => policy,
            Err(error) => return Err(ReplayError::Unusable(error.to_string())),
        };
        let measured = policy.decide(record.question.clone());
        self.comparison.add(&record.question, &record.outcome, &measured.outcome);
        self.cost_before = self.cost_before.saturating_add(record.cost);
        self.cost_after = self.cost_after.saturating_add(measured.cost);
        Ok(())
    }

    /// What was compared so far.
    #[must_use]
    pub fn comparison(&self) -> &Comparison {
        &self.comparison
    }

    /// Instructions of all decisions, as recorded and as decided again.
    #[must_use]
    pub fn costs(&self) -> (u64, u64) {
        (self.cost_before, self.cost_after)
    }
}
