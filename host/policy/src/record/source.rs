//! From live decisions to records.

use restante_deferral::decision::{Answer, HostAbilities, Question, Undecided};
use restante_deferral::model::Timestamp;
use serde_json::Value;

use super::meter::{Meter, MeteredPolicy};
use super::pseudonym::Pseudonymiser;
use super::record::{Record, context_of, is_machines_verdict};
use crate::load::LoadError;

/// Makes records of one generation's decisions. Each question is decided once more, so that what a record says follows from
/// what it shows: with pseudonyms where there are some, and with a cost that is the same everywhere. It takes as long as a
/// slow decision: not for a thread that serves.
pub struct RecordSource {
    policy: MeteredPolicy,
    pseudonymiser: Option<Pseudonymiser>,
}

impl RecordSource {
    /// Records decisions of this component with these settings, under pseudonyms if there are some.
    ///
    /// # Errors
    /// When the policy cannot be used, or refuses its own settings once the addresses in them are pseudonyms.
    pub fn new(
        meter: &Meter,
        component: &[u8],
        settings: &Value,
        host: &HostAbilities,
        pseudonymiser: Option<Pseudonymiser>,
    ) -> Result<RecordSource, LoadError> {
        let settings = match &pseudonymiser {
            Some(pseudonymiser) => pseudonymiser.settings(settings),
            None => settings.clone(),
        };
        Ok(RecordSource { policy: meter.load(component, &settings, host)?, pseudonymiser })
    }

    /// The record of a decision that was made at this time and took so long.
    ///
    /// When the clock or the load ended the live decision, the record says so: that does not follow from the question.
    #[must_use]
    pub fn record(&self, question: &Question, live: &Result<Answer, Undecided>, at: Timestamp, micros: u64) -> Record {
        let shown = match &self.pseudonymiser {
            Some(pseudonymiser) => pseudonymiser.question(question),
            None => question.clone(),
        };
        let measured = self.policy.decide(shown.clone());
        let outcome = match live {
            Err(undecided) if is_machines_verdict(*undecided) => Err(*undecided),
            _ => measured.outcome,
        };
        let live_as_shown = match (&self.pseudonymiser, live) {
            (Some(pseudonymiser), Ok(answer)) => Ok(pseudonymiser.answer(answer)),
            _ => live.clone(),
        };
        Record {
            at,
            tenant: context_of(question).tenant.clone(),
            digest: self.policy.digest(),
            settings: self.policy.settings().clone(),
            host: self.policy.host().clone(),
            question: shown,
            live_differed: live_as_shown != outcome,
            outcome,
            micros,
            cost: measured.cost,
            memory_bytes: measured.memory_bytes,
            is_pseudonymised: self.pseudonymiser.is_some(),
        }
    }
}
