//! A thread that decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use restante_deferral::decision::{Answer, Question, Undecided};
use restante_deferral::model::Timestamp;

use super::breaker::Ended;
use super::call::{Caller, ask};
use super::failing::{FailurePolicy, is_the_guests_failure, refusal};
use super::observer::Observer;
use super::queue::FairQueue;
use super::{AnswerSink, Generations, Hook, Job, LogSink, Party, Tenant, tenant_of};
use crate::generation::Generation;

/// What a thread works with.
pub(super) struct Worker<Ticket> {
    pub(super) queue: Arc<FairQueue<Job<Ticket>>>,
    pub(super) sink: Arc<AnswerSink<Ticket>>,
    pub(super) log: Arc<LogSink>,
    pub(super) observer: Observer,
    pub(super) max_wait: Duration,
}

impl<Ticket> Worker<Ticket> {
    /// Decides until the queue is closed.
    pub(super) fn run(self) {
        let _guard = AbortOnPanic;
        while let Some(job) = self.queue.take() {
            let name = tenant_of(&job.question).clone();
            let Job { ticket, question, party, tenant, submitted_at } = job;
            let has_waited_too_long = submitted_at.elapsed() > self.max_wait;
            let outcome = match &tenant {
                None => Err(Undecided::Declined),
                Some(tenant) if has_waited_too_long => {
                    tenant.counters.refused(Hook::of(&question));
                    Err(Undecided::Overloaded)
                }
                Some(tenant) => self.decide(tenant, party, question),
            };
            // Before the sink: whoever hears the answer may ask again at once.
            self.queue.finished(&name);
            (self.sink)(ticket, outcome);
        }
    }

    /// Asks the tenant's policy, and does what the tenant wants when it does not decide. One generation answers from
    /// beginning to end, whatever is activated meanwhile.
    fn decide(&self, tenant: &Arc<Tenant>, party: Party, question: Question) -> Result<Answer, Undecided> {
        let generations = tenant.generations.load_full();
        let Some(generations) = generations else { return Err(Undecided::Declined) };
        let hook = Hook::of(&question);
        let now = now_of(&question);
        let failure_policy = tenant.failure.load().of(hook);
        let spare =
            (failure_policy == FailurePolicy::Previous && generations.previous.is_some()).then(|| question.clone());
        let outcome = self.ask_active(tenant, &generations, (hook, party), question);
        let Err(why) = outcome else { return outcome };
        let instead = match (failure_policy, spare) {
            (FailurePolicy::Refuse, _) => refusal(hook, now),
            (FailurePolicy::Previous, Some(question)) => {
                generations.previous.as_ref().and_then(|previous| self.ask(tenant, previous, question).ok())
            }
            _ => None,
        };
        instead.ok_or(why)
    }

    /// Asks the active generation, unless it fails too often, and lets those who look on know.
    fn ask_active(
        &self,
        tenant: &Arc<Tenant>,
        generations: &Generations,
        (hook, party): (Hook, Party),
        question: Question,
    ) -> Result<Answer, Undecided> {
        let breaker = tenant.counters.breaker(hook, party);
        let started_at = Instant::now();
        // What fails at the server's own questions is spared an outsider's, too, but not the other way round.
        let is_spared = party == Party::Outsider && tenant.counters.breaker(hook, Party::Server).is_open();
        if is_spared || !breaker.admits(started_at) {
            tenant.counters.decided(hook, Duration::ZERO, Some(Undecided::Suspended));
            return Err(Undecided::Suspended);
        }
        let wanted = Observer::wants(tenant, &question);
        let outcome = self.ask(tenant, &generations.active, question);
        let took = started_at.elapsed();
        let failed = outcome.as_ref().is_err_and(|why| is_the_guests_failure(*why));
        breaker.note(Instant::now(), if failed { Ended::Failed } else { Ended::Answered });
        tenant.counters.decided(hook, took, outcome.as_ref().err().copied());
        if let Some(wanted) = wanted {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.observer.note(tenant, wanted, Arc::clone(&generations.active), outcome.clone(), micros);
        }
        outcome
    }

    fn ask(&self, tenant: &Arc<Tenant>, generation: &Generation, question: Question) -> Result<Answer, Undecided> {
        ask(generation, question, Caller::Tenant { tenant: Arc::clone(tenant), log: Arc::clone(&self.log) })
    }
}

/// A thread that is gone would leave who asked waiting for ever, and its tenant with one thread less: the process ends
/// instead, and the next one goes on with what is durable.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread of policies panicked; the process ends");
            std::process::abort();
        }
    }
}

/// The time of a decision, as the question says.
fn now_of(question: &Question) -> Timestamp {
    let (Question::Incoming(context, _)
    | Question::Available(context, _)
    | Question::Pull(context, _)
    | Question::Failure(context, _)
    | Question::Expiry(context, _)) = question;
    context.now
}
