//! What came of a story.

use std::time::Duration;

use serde_json::{Value, json};

use super::Story;
use super::diagram::{Arrow, Step, draw};
use super::ledger::{Account, Ledger, Sums};

/// What came of a story.
#[derive(Clone, Debug)]
pub struct Report {
    /// The story's name.
    pub name: &'static str,
    /// What happens in it.
    pub title: &'static str,
    /// Who takes part, from left to right.
    pub columns: Vec<String>,
    /// What happened, in order of time.
    pub steps: Vec<Step>,
    /// What became of every message.
    pub accounts: Vec<Account>,
    /// The sums.
    pub sums: Sums,
    /// SHA-256 over the bodies that were to be delivered, and over those that came out.
    pub digests: (Option<String>, Option<String>),
    /// What did not go as it should: sentences.
    pub failures: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    pub(super) fn new(
        story: &Story,
        steps: Vec<Step>,
        ledger: &Ledger,
        mut failures: Vec<String>,
        took: Duration,
    ) -> Report {
        failures.extend(ledger.sums().objections());
        Report {
            name: story.name,
            title: story.title,
            columns: story.columns.iter().map(|name| (*name).to_owned()).collect(),
            steps,
            accounts: ledger.accounts(),
            sums: ledger.sums(),
            digests: ledger.digests(),
            failures,
            took,
        }
    }

    /// Whether everything went as it should, and everything that went in came out once.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures.is_empty() && self.sums.sent > 0
    }

    /// The sequence diagram.
    #[must_use]
    pub fn diagram(&self) -> Vec<String> {
        draw(&self.columns, &self.steps)
    }

    /// The labels of the messages between two columns, in order.
    #[must_use]
    pub fn messages(&self, from: &str, to: &str) -> Vec<&str> {
        let is = |column: usize, name: &str| self.columns.get(column).is_some_and(|known| known == name);
        let of = |step: &'_ Step| match step {
            Step::Arrow(arrow) => is(arrow.from, from) && is(arrow.to, to),
            Step::Note { .. } => false,
        };
        self.steps
            .iter()
            .filter(|step| of(step))
            .filter_map(|step| match step {
                Step::Arrow(arrow) => Some(arrow.label.as_str()),
                Step::Note { .. } => None,
            })
            .collect()
    }

    /// What happened, one object a step.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.steps.iter().map(|step| self.event(step)).collect()
    }

    fn event(&self, step: &Step) -> Value {
        let milliseconds = step.at().as_secs_f64() * 1_000.0;
        match step {
            Step::Arrow(Arrow { from, to, label, bytes, messages, .. }) => json!({
                "event": "message", "story": self.name, "at_milliseconds": milliseconds,
                "from": self.columns.get(*from), "to": self.columns.get(*to),
                "what": label, "bytes": bytes, "messages": messages,
            }),
            Step::Note { text, .. } => json!({
                "event": "note", "story": self.name, "at_milliseconds": milliseconds, "what": text,
            }),
        }
    }

    /// What came of it.
    #[must_use]
    pub fn outcome(&self) -> Value {
        let bodies: Vec<Value> = self.accounts.iter().map(body).collect();
        json!({
            "event": "story-ended", "story": self.name, "success": self.is_success(), "failures": self.failures,
            "took_milliseconds": self.took.as_secs_f64() * 1_000.0, "bodies": bodies, "sums": sums(&self.sums),
            "sha256_in": self.digests.0, "sha256_out": self.digests.1,
        })
    }
}

fn body(account: &Account) -> Value {
    json!({
        "what": account.sent.what, "to": account.sent.to, "message_id": account.sent.message_id,
        "bytes": account.sent.size, "sha256": account.sent.sha256, "came_intact": account.intact,
        "came_altered": account.altered, "expires": account.sent.expires, "failure_told": account.failure_told,
    })
}

/// The sums as a program reads them.
#[must_use]
pub fn sums(sums: &Sums) -> Value {
    json!({
        "in": sums.sent, "out": sums.delivered, "expired": sums.expired, "lost": sums.lost,
        "repeated": sums.repeated, "wrong": sums.wrong,
    })
}
