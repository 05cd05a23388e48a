//! Putting questions to policies.
//!
//! ```text
//! submit ─▶ [queue per tenant, bounded] ─▶ threads, round robin ─▶ fresh instance ─▶ sink
//! ```
//!
//! A tenant has at most half of the threads (one at least), so that a policy that uses all of its time delays its own
//! tenant and no other.

mod call;
mod queue;
mod statistics;
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
pub use statistics::{Hook, HookStatistics, TenantStatistics};

use crate::engine::{EngineError, PolicyEngine};
use crate::generation::Generation;
use crate::limits::PolicyLimits;
use crate::log::{GuestLog, LineBudget};
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
    pub(crate) generation: ArcSwapOption<Generation>,
    pub(crate) counters: Counters,
    pub(crate) lines: LineBudget,
}

/// A question that waits for a thread.
struct Job<Ticket> {
    ticket: Ticket,
    question: Question,
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
        let max_running = (thread_count / 2).max(1);
        let queue = Arc::new(FairQueue::new(limits.max_waiting_per_tenant, max_running));
        let sink: Arc<AnswerSink<Ticket>> = Arc::new(sink);
        let log: Arc<LogSink> = Arc::new(log);
        let mut host =
            PolicyHost { tenants: ArcSwap::from_pointee(HashMap::new()), queue, limits, threads: Vec::new() };
        for number in 0..thread_count {
            let worker = Worker {
                queue: Arc::clone(&host.queue),
                sink: Arc::clone(&sink),
                log: Arc::clone(&log),
                max_wait: host.limits.max_wait,
            };
            let builder = std::thread::Builder::new().name(format!("policy-{number}"));
            let stack_bytes = host.limits.max_stack_bytes.saturating_add(1 << 20);
            // An early return drops `host`, which ends the threads that did start.
            host.threads.push(builder.stack_size(stack_bytes).spawn(move || worker.run())?);
        }
        Ok(host)
    }

    /// From the next decision on this generation decides for this tenant. What is being decided ends as it began.
    pub fn set_generation(&self, tenant: &TenantName, generation: Arc<Generation>) {
        if let Some(known) = self.tenants.load().get(tenant) {
            known.generation.store(Some(generation));
            return;
        }
        let added = Arc::new(Tenant {
            name: tenant.clone(),
            generation: ArcSwapOption::from(Some(generation)),
            counters: Counters::default(),
            lines: LineBudget::new(self.limits.max_log_lines_per_second),
        });
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            tenants.insert(tenant.clone(), Arc::clone(&added));
            tenants
        });
    }

    /// This tenant has no policy any more. Its counters go with it.
    pub fn remove(&self, tenant: &TenantName) {
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            if let Some(removed) = tenants.remove(tenant) {
                removed.generation.store(None);
            }
            tenants
        });
    }

    /// Puts a question to the policy of its recipient's tenant. The answer comes to the sink, exactly once; for a
    /// tenant without a policy it is [`Undecided::Declined`].
    ///
    /// # Errors
    /// The ticket comes back when too many of the tenant's questions wait: that is [`Undecided::Overloaded`].
    pub fn submit(&self, ticket: Ticket, question: Question) -> Result<(), Ticket> {
        let name = tenant_of(&question).clone();
        let tenant = self.tenants.load().get(&name).cloned();
        let hook = Hook::of(&question);
        let job = Job { ticket, question, tenant, submitted_at: Instant::now() };
        self.queue.push(name, job).map_err(|job| {
            if let Some(tenant) = &job.tenant {
                tenant.counters.refused(hook);
            }
            job.ticket
        })
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
            // A sink that panics ended its thread already; there is nobody to tell.
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
