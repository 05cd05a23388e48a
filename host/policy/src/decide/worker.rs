//! A thread that decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use restante_deferral::decision::{Answer, Undecided};

use super::call::{Caller, ask};
use super::queue::FairQueue;
use super::{AnswerSink, Hook, Job, LogSink, tenant_of};

/// What a thread works with.
pub(super) struct Worker<Ticket> {
    pub(super) queue: Arc<FairQueue<Job<Ticket>>>,
    pub(super) sink: Arc<AnswerSink<Ticket>>,
    pub(super) log: Arc<LogSink>,
    pub(super) max_wait: Duration,
}

impl<Ticket> Worker<Ticket> {
    /// Decides until the queue is closed.
    pub(super) fn run(self) {
        while let Some(job) = self.queue.take() {
            let name = tenant_of(&job.question).clone();
            let Job { ticket, question, tenant, submitted_at } = job;
            let hook = Hook::of(&question);
            let started_at = Instant::now();
            let generation = tenant.as_ref().and_then(|tenant| tenant.generation.load_full());
            let outcome: Result<Answer, Undecided> = match (&tenant, generation) {
                _ if started_at.saturating_duration_since(submitted_at) > self.max_wait => Err(Undecided::Overloaded),
                (Some(tenant), Some(generation)) => ask(
                    &generation,
                    question,
                    Caller::Tenant { tenant: Arc::clone(tenant), log: Arc::clone(&self.log) },
                ),
                _ => Err(Undecided::Declined),
            };
            if let Some(tenant) = &tenant {
                tenant.counters.decided(hook, started_at.elapsed(), outcome.as_ref().err().copied());
            }
            // Before the sink: whoever hears the answer may ask again at once.
            self.queue.finished(&name);
            (self.sink)(ticket, outcome);
        }
    }
}
