//! Looking on while decisions are made: shadows and records, on a thread of its own that gives way to everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use restante_deferral::decision::{Answer, Question, Undecided};

use super::Tenant;
use super::call::{Caller, ask};
use super::shadow::Shadow;
use super::worker::AbortOnPanic;
use crate::generation::Generation;

/// Decisions of all tenants that wait to be looked at.
const MAX_WAITING: usize = 256;
/// Those of one tenant.
const MAX_WAITING_PER_TENANT: u32 = 64;
/// The least that a thread can ask for.
const LOWEST_PRIORITY: i32 = 19;

/// Writes decisions down.
pub trait Recorder: Send + Sync {
    /// Whether the next decision is to be recorded. Called where decisions are made: it must not block.
    fn samples(&self) -> bool;

    /// Records a decision.
    fn record(&self, decision: &Decision<'_>);

    /// One was left out, because there was no time.
    fn skip(&self);
}

/// A decision that was made.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// By which generation.
    pub generation: &'a Generation,
    /// The question.
    pub question: &'a Question,
    /// What it answered.
    pub outcome: &'a Result<Answer, Undecided>,
    /// How long it took.
    pub micros: u64,
}

/// Who looks on while a tenant's policy decides.
#[derive(Clone, Default)]
pub struct Observation {
    /// A candidate.
    pub shadow: Option<Arc<Shadow>>,
    /// A record.
    pub recorder: Option<Arc<dyn Recorder>>,
}

/// How many of a tenant's decisions wait to be looked at.
#[derive(Default)]
pub(crate) struct Backlog(AtomicU32);

/// What is wanted of the next decision, asked before it is made, because making it consumes the question.
pub(super) struct Wanted {
    shadow: Option<Arc<Shadow>>,
    recorder: Option<Arc<dyn Recorder>>,
    question: Question,
}

/// A decision that waits to be looked at.
struct Observed {
    tenant: Arc<Tenant>,
    wanted: Wanted,
    generation: Arc<Generation>,
    outcome: Result<Answer, Undecided>,
    micros: u64,
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Observer(SyncSender<Observed>);

impl Observer {
    /// Starts the thread, which ends with the last clone of this.
    pub(super) fn start(stack_bytes: usize) -> std::io::Result<(Observer, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let builder = std::thread::Builder::new().name("policy-observer".to_owned()).stack_size(stack_bytes);
        let thread = builder.spawn(move || run(&receiver))?;
        Ok((Observer(sender), thread))
    }

    /// What is to be looked at of this question's decision; mostly nothing.
    pub(super) fn wants(tenant: &Tenant, question: &Question) -> Option<Wanted> {
        let observation = tenant.observation.load();
        let observation = observation.as_ref()?;
        let shadow = observation.shadow.as_ref().filter(|shadow| shadow.samples()).cloned();
        let recorder = observation.recorder.as_ref().filter(|recorder| recorder.samples()).cloned();
        if shadow.is_none() && recorder.is_none() {
            return None;
        }
        let wanted = Wanted { shadow, recorder, question: question.clone() };
        if tenant.backlog.0.load(Ordering::Relaxed) < MAX_WAITING_PER_TENANT {
            return Some(wanted);
        }
        wanted.skip();
        None
    }

    /// Hands a decision over, or leaves it out when too many wait.
    pub(super) fn note(
        &self,
        tenant: &Arc<Tenant>,
        wanted: Wanted,
        generation: Arc<Generation>,
        outcome: Result<Answer, Undecided>,
        micros: u64,
    ) {
        tenant.backlog.0.fetch_add(1, Ordering::Relaxed);
        let observed = Observed { tenant: Arc::clone(tenant), wanted, generation, outcome, micros };
        if let Err(error) = self.0.try_send(observed) {
            let (std::sync::mpsc::TrySendError::Full(left_out) | std::sync::mpsc::TrySendError::Disconnected(left_out)) =
                error;
            tenant.backlog.0.fetch_sub(1, Ordering::Relaxed);
            left_out.wanted.skip();
        }
    }
}

impl Wanted {
    fn skip(&self) {
        if let Some(shadow) = &self.shadow {
            shadow.skip();
        }
        if let Some(recorder) = &self.recorder {
            recorder.skip();
        }
    }
}

fn run(receiver: &Receiver<Observed>) {
    let _guard = AbortOnPanic;
    // On Linux this is of the thread alone. Without it the thread competes with the others: not wrong, only less kind.
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
    while let Ok(observed) = receiver.recv() {
        look_at(&observed);
        observed.tenant.backlog.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn look_at(observed: &Observed) {
    let Observed { tenant, wanted, generation, outcome, micros } = observed;
    if let Some(recorder) = &wanted.recorder {
        let question = &wanted.question;
        recorder.record(&Decision { generation, question, outcome, micros: *micros });
    }
    if let Some(shadow) = &wanted.shadow {
        // The active generation had no part in what the host's queues did.
        if *outcome == Err(Undecided::Overloaded) {
            return shadow.skip();
        }
        let started_at = Instant::now();
        let candidate = ask(shadow.candidate(), wanted.question.clone(), Caller::Trial(Arc::clone(tenant)));
        let took = u64::try_from(started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        shadow.note(&wanted.question, outcome.clone(), candidate, took);
    }
}
