//! The clock that brings guests nearer to their deadline: it ticks while some run, and rests when none does.
//!
//! | state | what happens | state |
//! |---|---|---|
//! | resting | a guest begins | ticking |
//! | ticking | a millisecond passes | ticking; resting, when none ran for [`IDLE_TICKS`] |
//! | either | the engine is gone | – |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use wasmtime::{Engine, EngineWeak, Store, Trap, UpdateDeadline};

use crate::limits::whole_milliseconds;

/// One tick: how often a guest that runs is looked at.
const TICK: Duration = Duration::from_millis(1);
/// Ticks that are made up for at once; a machine that stood still for longer lets its guests have a little more time.
const MAX_MISSED_TICKS: u32 = 1_000;
/// Ticks without a guest until it rests: where decisions follow each other, none has to wake it.
const IDLE_TICKS: u32 = 20;

/// The clock of one engine. It ends when it is dropped.
pub(crate) struct Clock {
    ticking: Arc<Ticking>,
    thread: Thread,
}

#[derive(Default)]
struct Ticking {
    /// Guests that may run.
    running: AtomicUsize,
    /// Whoever begins wakes it. Written by the clock's own thread alone.
    is_resting: AtomicBool,
    is_over: AtomicBool,
}

/// A guest that may run.
struct Running(Arc<Clock>);

impl Clock {
    /// A thread and not a task: a guest that spins must not be able to keep the clock from ticking.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Arc<Clock>> {
        let ticking = Arc::new(Ticking::default());
        let (shared, engine) = (Arc::clone(&ticking), engine.weak());
        let thread = thread::Builder::new()
            .name("policy-clock".to_owned())
            .stack_size(64 << 10)
            .spawn(move || shared.run(&engine))?
            .thread()
            .clone();
        Ok(Arc::new(Clock { ticking, thread }))
    }

    /// Stops what runs in this store after so much time; the clock ticks until the store is gone. Ticks may come early or
    /// late, so ticks alone would be too early or too late by several: when they have passed, the time itself is looked at.
    pub(crate) fn stop_after<T>(self: &Arc<Clock>, store: &mut Store<T>, time: Duration) {
        let running = Running::begin(Arc::clone(self));
        let started_at = Instant::now();
        store.set_epoch_deadline(whole_milliseconds(time));
        store.epoch_deadline_callback(move |_| {
            // Belongs to the store from now on.
            let _ = &running;
            if started_at.elapsed() >= time { Err(Trap::Interrupt.into()) } else { Ok(UpdateDeadline::Continue(1)) }
        });
    }
}

impl Running {
    fn begin(clock: Arc<Clock>) -> Running {
        clock.ticking.running.fetch_add(1, Ordering::SeqCst);
        // The clock looks who runs after it said that it rests: one of the two sees the other.
        if clock.ticking.is_resting.load(Ordering::SeqCst) {
            clock.thread.unpark();
        }
        Running(clock)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ticking.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.ticking.is_over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Ticking {
    fn run(&self, engine: &EngineWeak) {
        let mut due = Instant::now();
        let mut idle_ticks = IDLE_TICKS;
        while !self.is_over.load(Ordering::SeqCst) {
            idle_ticks = if self.does_none_run() { idle_ticks.saturating_add(1) } else { 0 };
            if idle_ticks > IDLE_TICKS {
                self.rest();
                idle_ticks = 0;
                due = Instant::now();
            }
            // Not a sleep of a tick each: all are a little too long, and a long deadline would be much too late. Ticks that
            // were missed are made up for, for the same reason.
            due += TICK;
            let now = Instant::now();
            if due.checked_add(TICK * MAX_MISSED_TICKS).is_some_and(|latest| latest < now) {
                due = now;
            }
            thread::sleep(due.saturating_duration_since(now));
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    }

    /// Until a guest begins, or the end.
    fn rest(&self) {
        self.is_resting.store(true, Ordering::SeqCst);
        while self.does_none_run() && !self.is_over.load(Ordering::SeqCst) {
            thread::park();
        }
        self.is_resting.store(false, Ordering::SeqCst);
    }

    fn does_none_run(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Linker, Module};

    use super::*;

    /// `(module (func (export "f") (loop (br 0))))`
    const SPINS: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

    fn until(mut comes: impl FnMut() -> bool) {
        let latest = Instant::now() + Duration::from_secs(60);
        while !comes() {
            assert!(Instant::now() < latest, "it does not come");
            thread::yield_now();
        }
    }

    #[test]
    fn a_guest_that_spins_is_stopped_though_the_clock_rested_and_it_rests_afterwards() {
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        let clock = Clock::start(&engine).unwrap();
        let module = Module::new(&engine, SPINS).unwrap();
        for time in [1, 5 * u64::from(IDLE_TICKS), 5].map(Duration::from_millis) {
            until(|| clock.ticking.is_resting.load(Ordering::SeqCst));
            let mut store = Store::new(&engine, ());
            let began_at = Instant::now();
            clock.stop_after(&mut store, time);
            let spins = Linker::new(&engine).instantiate(&mut store, &module).unwrap();
            let spins = spins.get_typed_func::<(), ()>(&mut store, "f").unwrap();
            let error = spins.call(&mut store, ()).unwrap_err();
            assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::Interrupt));
            assert!(began_at.elapsed() >= time);
            assert!(!clock.ticking.is_resting.load(Ordering::SeqCst), "its store is there yet");
        }
    }

    #[test]
    fn it_ends_with_its_engine_whether_it_rests_or_ticks() {
        for ticks in [false, true] {
            let engine = Engine::default();
            let clock = Clock::start(&engine).unwrap();
            let its = Arc::downgrade(&clock.ticking);
            until(|| clock.ticking.is_resting.load(Ordering::SeqCst));
            let running = ticks.then(|| Running::begin(Arc::clone(&clock)));
            until(|| clock.ticking.is_resting.load(Ordering::SeqCst) != ticks);
            drop(running);
            drop(clock);
            until(|| its.strong_count() == 0);
        }
    }
}
