//! One decision: a store, an instance, a call, and nothing left of them.

use std::sync::Arc;
use std::time::Instant;

use restante_deferral::decision::{Answer, IncomingAnswer, Question, Undecided};
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Store, Trap};

use super::{LogSink, Tenant};
use crate::generation::Generation;
use crate::limits::{PolicyLimits, TenantPolicyLimits};
use crate::log::{GuestLog, LogLevel, harmless};

/// Puts one question to a policy on this thread, which waits. For tools and tests; a server has a
/// [`PolicyHost`](crate::PolicyHost). Lines that the policy logs go nowhere.
///
/// # Errors
/// When the policy does not decide.
pub fn decide(generation: &Generation, question: Question) -> Result<Answer, Undecided> {
    ask(generation, question, Caller::Nobody)
}

/// For whom a policy is asked, which is where its lines go.
pub(super) enum Caller {
    /// A tenant of a running host.
    Tenant {
        /// Whose policy it is.
        tenant: Arc<Tenant>,
        /// Where its lines go.
        log: Arc<LogSink>,
    },
    /// The same tenant, which tries the policy: under its bounds, and its lines go nowhere.
    Trial(Arc<Tenant>),
    /// Who reads the lines when the policy is done.
    Reader(Vec<GuestLine>),
    /// Nobody who reads lines.
    Nobody,
}

impl Caller {
    /// How much this caller's policy may use.
    fn limits(&self, engine: &PolicyLimits) -> TenantPolicyLimits {
        match self {
            Caller::Tenant { tenant, .. } | Caller::Trial(tenant) => **tenant.limits.load(),
            Caller::Nobody | Caller::Reader(_) => engine.of_a_tenant(),
        }
    }
}

/// A line that a guest wrote, cut and with its control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLine {
    /// How important the policy takes it to be.
    pub level: LogLevel,
    /// The text.
    pub text: String,
}

/// A decision, and what it took.
pub(crate) struct Called {
    pub(crate) outcome: Result<Answer, Undecided>,
    /// Why there is no answer, harmless to show.
    pub(crate) why: Option<String>,
    /// Counted where the engine counts.
    pub(crate) instructions: u64,
    /// The most linear memory that the guest had.
    pub(crate) memory_bytes: usize,
    /// What it wrote, where it has a reader.
    pub(crate) lines: Vec<GuestLine>,
}

/// What the host keeps for one instance.
pub(crate) struct Guest {
    caller: Caller,
    lines_left: u32,
    max_line_bytes: usize,
    max_lines_per_second: u32,
    max_memory_bytes: usize,
    denied_memory: bool,
    peak_memory_bytes: usize,
}

impl Guest {
    fn new(limits: &PolicyLimits, own: TenantPolicyLimits, caller: Caller) -> Guest {
        Guest {
            caller,
            lines_left: limits.max_log_lines,
            max_line_bytes: limits.max_log_line_bytes,
            max_lines_per_second: own.max_log_lines_per_second,
            max_memory_bytes: own.max_memory_bytes.min(limits.max_memory_bytes),
            denied_memory: false,
            peak_memory_bytes: 0,
        }
    }

    /// Whose lines go nowhere.
    pub(crate) fn silent(limits: &PolicyLimits) -> Guest {
        Guest::new(limits, limits.of_a_tenant(), Caller::Nobody)
    }

    /// Writes a line for whoever it is asked for.
    pub(crate) fn write(&mut self, level: LogLevel, text: &str) {
        if let Caller::Reader(lines) = &mut self.caller {
            if self.lines_left > 0 {
                self.lines_left = self.lines_left.saturating_sub(1);
                lines.push(GuestLine { level, text: harmless(text, self.max_line_bytes) });
            }
            return;
        }
        let Caller::Tenant { tenant, log } = &self.caller else { return };
        if self.lines_left == 0 || !tenant.lines.take(Instant::now(), self.max_lines_per_second) {
            tenant.counters.dropped_line();
            return;
        }
        self.lines_left = self.lines_left.saturating_sub(1);
        let text = harmless(text, self.max_line_bytes);
        tenant.log.push(level, &text);
        log(GuestLog { tenant: &tenant.name, level, text: &text });
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let is_allowed = desired <= self.max_memory_bytes;
        self.denied_memory |= !is_allowed;
        if is_allowed {
            self.peak_memory_bytes = self.peak_memory_bytes.max(desired);
        }
        Ok(is_allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // The pool bounds tables; this bounds what a host must clear after a call.
        Ok(desired <= 10_000)
    }
}

/// Asks a policy.
pub(super) fn ask(generation: &Generation, question: Question, caller: Caller) -> Result<Answer, Undecided> {
    run(generation, question, caller).outcome
}

/// Asks a policy and tells what it took and wrote. Cases, records and tools ask in this way: on any thread, and so in turns.
pub(crate) fn ask_and_measure(generation: &Generation, question: Question) -> Called {
    let _turn = generation.policy().engine.turn();
    run(generation, question, Caller::Reader(Vec::new()))
}

fn run(generation: &Generation, question: Question, caller: Caller) -> Called {
    let policy = generation.policy();
    let limits = policy.engine.limits();
    let own = caller.limits(limits);
    let mut store = Store::new(policy.engine.engine(), Guest::new(limits, own, caller));
    store.limiter(|guest| guest);
    policy.engine.grant(&mut store, own.deadline);
    store.set_hostcall_fuel(limits.answer_bytes_for(message_count(&question)));
    let called = policy.policy.decide(&mut store, generation, question);
    let (outcome, why) = match called {
        Ok(Ok(answer)) => (Ok(with_harmless_text(answer, limits.max_log_line_bytes)), None),
        Ok(Err(why)) => (Err(Undecided::Declined), Some(format!("the policy declined: {why}"))),
        Err(error) => {
            let undecided = verdict(&error, store.data().denied_memory);
            let text = failure_text(&error);
            (Err(undecided), Some(format!("the policy failed ({undecided:?}): {text}")))
        }
    };
    let instructions = policy.engine.instructions_used(&store, own.deadline);
    let mut guest = store.into_data();
    if let (Some(why), Caller::Tenant { .. }) = (&why, &guest.caller) {
        guest.write(LogLevel::Warning, why);
    }
    let max_line_bytes = guest.max_line_bytes;
    let lines = if let Caller::Reader(lines) = guest.caller { lines } else { Vec::new() };
    let why = why.map(|why| harmless(&why, max_line_bytes));
    Called { outcome, why, instructions, memory_bytes: guest.peak_memory_bytes, lines }
}

/// An answer whose text, which only the log shows, is bounded as a line of the log is.
fn with_harmless_text(answer: Answer, max_bytes: usize) -> Answer {
    match answer {
        Answer::Incoming(IncomingAnswer::Discard(why)) => {
            Answer::Incoming(IncomingAnswer::Discard(harmless(&why, max_bytes)))
        }
        other => other,
    }
}

/// How many messages a question shows.
fn message_count(question: &Question) -> usize {
    match question {
        Question::Incoming(..) => 1,
        Question::Available(_, availability) => availability.messages.len(),
        Question::Pull(_, pull) => pull.messages.len(),
        Question::Failure(_, failure) => failure.messages.len(),
        Question::Expiry(_, messages) => messages.len(),
    }
}

/// What an error of the engine says about the guest.
fn verdict(error: &wasmtime::Error, denied_memory: bool) -> Undecided {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt | Trap::OutOfFuel) => Undecided::TimedOut,
        _ if denied_memory => Undecided::OutOfMemory,
        Some(_) => Undecided::Trapped,
        // The host ran too many at once: the guest was not even asked.
        None if error.is::<PoolConcurrencyLimitError>() => Undecided::Overloaded,
        // The guest returned, and what it returned cannot be read or is too much.
        None => Undecided::Impossible,
    }
}

/// An error of the engine in one bounded, harmless line.
pub(crate) fn failure_text(error: &wasmtime::Error) -> String {
    harmless(&format!("{error:#}"), 400)
}
