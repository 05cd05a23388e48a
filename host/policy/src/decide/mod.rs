//! Putting questions to policies.
//!
//! ```text
//! submit ─▶ [queue per tenant, bounded] ─▶ threads, round robin ─▶ fresh instance ─▶ sink
//! ```
//!
//! A tenant has at most so many of the threads as its limits say (half of them, where nothing is said), so that a policy
//! that uses all of its time delays its own tenant and no other.
//!
//! What somebody outside asks ([`Party::Outsider`]) may be anything, made up so that the policy fails at it. It waits in a
//! shorter queue beside the tenant's own questions, which it takes turns with, and its failures spare the policy outsiders'
//! questions and no others.

mod breaker;
mod call;
mod failing;
mod observer;
mod queue;
mod shadow;
mod statistics;
mod weight;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use restante_deferral::decision::{Answer, Question, Undecided};
use restante_deferral::model::TenantName;

pub(crate) use call::{Guest, ask_and_measure, failure_text};
pub use call::{GuestLine, decide};
pub use failing::{FailurePolicies, FailurePolicy};
pub use observer::{Decision, Observation, Recorder};
pub use shadow::{Shadow, ShadowCounts, in_sample};
pub use statistics::{Hook, HookStatistics, Party, TenantStatistics};

use crate::engine::{EngineError, PolicyEngine};
use crate::generation::Generation;
use crate::limits::{PolicyLimits, TenantPolicyLimits};
use crate::log::{GuestLog, LineBudget, LogLevel, LogLine, TenantLog};
use observer::{Backlog, Observer};
use queue::FairQueue;
use statistics::Counters;
use worker::Worker;

/// Where guests' log lines go.
pub(crate) type LogSink = dyn Fn(GuestLog<'_>) + Send + Sync;
/// Where answers go.
type AnswerSink<Ticket> = dyn Fn(Ticket, Result<Answer, Undecided>) + Send + Sync;

/// One tenant's policy, and what it did.
pub(crate) struct Tenant {
    pub(crate) name: TenantName,
    pub(crate) generations: ArcSwapOption<Generations>,
    pub(crate) limits: ArcSwap<TenantPolicyLimits>,
    pub(crate) counters: Counters,
    pub(crate) lines: LineBudget,
    pub(crate) log: TenantLog,
    failure: ArcSwap<FailurePolicies>,
    observation: ArcSwapOption<Observation>,
    backlog: Backlog,
}

/// What decides for a tenant. Replaced as one, so that no decision is made by half of it.
pub(crate) struct Generations {
    active: Arc<Generation>,
    /// Asked instead where the tenant wants that.
    previous: Option<Arc<Generation>>,
}

/// A question that waits for a thread.
struct Job<Ticket> {
    ticket: Ticket,
    question: Question,
    party: Party,
    tenant: Option<Arc<Tenant>>,
    submitted_at: Instant,
}

/// Decides for all tenants. Answers carry the ticket that their question came with.
///
/// Dropping it answers what is being decided, forgets what waits, and ends the threads.
pub struct PolicyHost<Ticket: Send + 'static> {
    tenants: ArcSwap<HashMap<TenantName, Arc<Tenant>>>,
    queue: Arc<FairQueue<Job<Ticket>>>,
    limits: PolicyLimits,
    threads: Vec<JoinHandle<()>>,
}

impl<Ticket: Send + 'static> PolicyHost<Ticket> {
    /// Starts the threads. `sink` gets the answers and `log` the guests' lines, both on those threads: neither may
    /// block.
    ///
    /// # Errors
    /// When the machine gives no more threads.
    pub fn start(
        engine: &PolicyEngine,
        sink: impl Fn(Ticket, Result<Answer, Undecided>) + Send + Sync + 'static,
        log: impl Fn(GuestLog<'_>) + Send + Sync + 'static,
    ) -> Result<PolicyHost<Ticket>, EngineError> {
        let limits = engine.limits().clone();
        let thread_count = limits.thread_count();
        let queue = Arc::new(FairQueue::new(limits.max_waiting_per_tenant, limits.max_waiting_bytes_per_tenant));
        let sink: Arc<AnswerSink<Ticket>> = Arc::new(sink);
        let log: Arc<LogSink> = Arc::new(log);
        let mut host =
            PolicyHost { tenants: ArcSwap::from_pointee(HashMap::new()), queue, limits, threads: Vec::new() };
        let stack_bytes = host.limits.max_stack_bytes.saturating_add(1 << 20);
        let (observer, observing) = Observer::start(stack_bytes)?;
        for number in 0..thread_count {
            let worker = Worker {
                queue: Arc::clone(&host.queue),
                sink: Arc::clone(&sink),
                log: Arc::clone(&log),
                observer: observer.clone(),
                max_wait: host.limits.max_wait,
            };
            let builder = std::thread::Builder::new().name(format!("policy-{number}"));
            // An early return drops `host`, which ends the threads that did start.
            host.threads.push(builder.stack_size(stack_bytes).spawn(move || worker.run())?);
        }
        // Ends with the last of those that tell it.
        host.threads.push(observing);
        Ok(host)
    }

    /// From the next decision on this generation decides for this tenant. What is being decided ends as it began.
    pub fn set_generation(&self, tenant: &TenantName, generation: Arc<Generation>) {
        self.set_generations(tenant, generation, None);
    }

    /// The same, with the generation before it, for tenants that fall back to that.
    pub fn set_generations(&self, tenant: &TenantName, active: Arc<Generation>, previous: Option<Arc<Generation>>) {
        let known = self.known(tenant);
        known.generations.store(Some(Arc::new(Generations { active, previous })));
        for (hook, party) in Hook::ALL.into_iter().flat_map(|hook| Party::ALL.map(|party| (hook, party))) {
            known.counters.breaker(hook, party).reset();
        }
    }

    /// From the next decision on these bounds hold for this tenant's policy. One of which nothing is said has
    /// [`PolicyLimits::of_a_tenant`].
    pub fn configure(&self, tenant: &TenantName, limits: TenantPolicyLimits) {
        self.known(tenant).limits.store(Arc::new(limits));
    }

    /// This tenant has no policy any more. Its counters go with it. What was asked before is decided as it would have
    /// been.
    pub fn remove(&self, tenant: &TenantName) {
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            tenants.remove(tenant);
            tenants
        });
    }

    /// What happens from now on when this tenant's policy does not decide.
    pub fn set_failure_policies(&self, tenant: &TenantName, policies: FailurePolicies) {
        self.known(tenant).failure.store(Arc::new(policies));
    }

    /// Who looks on from now on while this tenant's policy decides.
    pub fn observe(&self, tenant: &TenantName, observation: Observation) {
        let is_any = observation.shadow.is_some() || observation.recorder.is_some();
        self.known(tenant).observation.store(is_any.then(|| Arc::new(observation)));
    }

    /// The last lines of this tenant's log after this number.
    #[must_use]
    pub fn log_lines(&self, tenant: &TenantName, after: u64) -> Vec<LogLine> {
        self.tenants.load().get(tenant).map_or_else(Vec::new, |known| known.log.after(after))
    }

    /// An answer of this tenant's policy to a party could not be carried out: counted, told to the policy's author, and a
    /// failure of the policy as any other.
    pub fn note_unusable(&self, tenant: &TenantName, hook: Hook, party: Party, why: &str) {
        let tenants = self.tenants.load();
        let Some(known) = tenants.get(tenant) else { return };
        known.counters.unusable(hook);
        known.counters.breaker(hook, party).note(Instant::now(), breaker::Ended::Unusable);
        if known.lines.take(Instant::now(), known.limits.load().max_log_lines_per_second) {
            let text = format!("{}: the answer cannot be carried out: {why}", hook.name());
            known.log.push(LogLevel::Warning, &text);
        }
    }

    /// Whether the server may write one more line about a decision of this tenant's policy now: such lines share the bound
    /// of those that the policy itself writes, and are counted with them where they are left out.
    #[must_use]
    pub fn may_log(&self, tenant: &TenantName) -> bool {
        let tenants = self.tenants.load();
        // Of a tenant that is gone little comes any more.
        let Some(known) = tenants.get(tenant) else { return true };
        let may = known.lines.take(Instant::now(), known.limits.load().max_log_lines_per_second);
        if !may {
            known.counters.dropped_line();
        }
        may
    }

    /// A tenant, added if there is none of this name.
    fn known(&self, name: &TenantName) -> Arc<Tenant> {
        if let Some(known) = self.tenants.load().get(name) {
            return Arc::clone(known);
        }
        let mut added = Arc::new(Tenant {
            name: name.clone(),
            generations: ArcSwapOption::empty(),
            limits: ArcSwap::from_pointee(self.limits.of_a_tenant()),
            counters: Counters::default(),
            lines: LineBudget::default(),
            log: TenantLog::default(),
            failure: ArcSwap::default(),
            observation: ArcSwapOption::default(),
            backlog: Backlog::default(),
        });
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            // Somebody else may have added it meanwhile.
            added = Arc::clone(tenants.entry(name.clone()).or_insert_with(|| Arc::clone(&added)));
            tenants
        });
        added
    }

    /// Puts a question to the policy of its recipient's tenant. The answer comes to the sink, exactly once; for a
    /// tenant without a policy it is [`Undecided::Declined`].
    ///
    /// # Errors
    /// The ticket comes back when too many of the tenant's questions wait: that is [`Undecided::Overloaded`].
    pub fn submit(&self, ticket: Ticket, question: Question) -> Result<(), Ticket> {
        self.submit_of(Party::Server, ticket, question)
    }

    /// The same for somebody outside.
    ///
    /// # Errors
    /// As [`Self::submit`], and sooner: outsiders' questions have a smaller part of the queue.
    pub fn submit_for_outsider(&self, ticket: Ticket, question: Question) -> Result<(), Ticket> {
        self.submit_of(Party::Outsider, ticket, question)
    }

    fn submit_of(&self, party: Party, ticket: Ticket, question: Question) -> Result<(), Ticket> {
        let name = tenant_of(&question).clone();
        let tenant = self.tenants.load().get(&name).cloned();
        let hook = Hook::of(&question);
        let max_running = tenant.as_ref().map_or(1, |tenant| tenant.limits.load().max_decisions_at_once.max(1));
        let job = Job { ticket, question, party, tenant, submitted_at: Instant::now() };
        self.queue.push((name, party), max_running, weight::bytes(&job.question), job).map_err(|job| {
            if let Some(tenant) = &job.tenant {
                tenant.counters.refused(hook);
            }
            job.ticket
        })
    }

    /// What this tenant's policy did so far.
    #[must_use]
    pub fn statistics_of(&self, tenant: &TenantName) -> Option<TenantStatistics> {
        let tenants = self.tenants.load();
        tenants.get(tenant).map(|known| known.counters.snapshot(tenant.clone(), self.queue.waiting(tenant)))
    }

    /// What the tenants' policies did so far.
    #[must_use]
    pub fn statistics(&self) -> Vec<TenantStatistics> {
        let tenants = self.tenants.load();
        let mut statistics: Vec<_> = tenants
            .values()
            .map(|tenant| tenant.counters.snapshot(tenant.name.clone(), self.queue.waiting(&tenant.name)))
            .collect();
        statistics.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        statistics
    }
}

impl<Ticket: Send + 'static> Drop for PolicyHost<Ticket> {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A thread that panics ends the process.
            let _ = thread.join();
        }
    }
}

/// Whose policy a question is for.
fn tenant_of(question: &Question) -> &TenantName {
    let (Question::Incoming(context, _)
    | Question::Available(context, _)
    | Question::Pull(context, _)
    | Question::Failure(context, _)
    | Question::Expiry(context, _)) = question;
    &context.tenant
}
