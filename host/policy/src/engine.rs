//! The engine that compiles and runs policies, set up once per process.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use crate::clock::Clock;
use crate::limits::{PolicyLimits, whole_milliseconds};

/// What a slot keeps of its memory between calls instead of giving it back to the kernel.
const KEEP_RESIDENT_BYTES: usize = 3 << 19;
/// Slots beyond one per thread that decides and one per core, for callers without a pool. On all cores at once policies are
/// loaded and settings checked, while threads decide: see [`PolicyEngine::turn`].
const SPARE_SLOTS: u32 = 8;
/// Addresses that are reserved for each slot: all that a guest can name. They cost nothing, and no access to memory needs a
/// check, which makes code a fifth smaller and faster. Growing beyond [`PolicyLimits::max_memory_bytes`] is refused all the
/// same.
const WHOLE_ADDRESS_SPACE: u64 = 4 << 30;
/// A component made of a core module has that module and two small ones that tie it to its imports.
const CORE_INSTANCES: u32 = 4;
const TABLES: u32 = 4;

/// Instructions that a metering engine grants for a millisecond: more than a core does in one, so that a decision in time is
/// a decision in budget.
const INSTRUCTIONS_PER_MILLISECOND: u64 = 5_000_000;
/// A metering engine stops a guest by the clock only this many times later: what costs few instructions and much time.
const METERED_PATIENCE: u32 = 50;

/// The engine could not be set up.
#[derive(Debug, Error)]
pub enum EngineError {
    /// By wasmtime: too little address space, or an unknown processor.
    #[error("the WebAssembly engine cannot be set up: {0}")]
    Configuration(String),
    /// A thread could not be started.
    #[error("a thread for policies cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The engine and its clock. Clones share both; the clock stops with the last of them.
#[derive(Clone)]
pub struct PolicyEngine {
    engine: Engine,
    limits: Arc<PolicyLimits>,
    is_metering: bool,
    reserved_bytes: u64,
    clock: Arc<Clock>,
    turns: Arc<Turns>,
}

/// So many at once may use slots that belong to no thread that decides.
struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One of them.
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_sub(1);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_add(1);
        self.0.freed.notify_one();
    }
}

impl PolicyEngine {
    /// Sets an engine up and starts its clock.
    ///
    /// # Errors
    /// When the machine cannot give it the address space or the thread.
    pub fn new(limits: PolicyLimits) -> Result<PolicyEngine, EngineError> {
        PolicyEngine::start(limits, false)
    }

    /// An engine that counts instructions, and stops guests by that count instead of by the clock.
    pub(crate) fn metering(limits: PolicyLimits) -> Result<PolicyEngine, EngineError> {
        PolicyEngine::start(limits, true)
    }

    fn start(mut limits: PolicyLimits, is_metering: bool) -> Result<PolicyEngine, EngineError> {
        // Once: the answer takes as long as a decision to find.
        limits.threads = limits.thread_count();
        let describe = |error: wasmtime::Error| EngineError::Configuration(format!("{error:#}"));
        // Where addresses are rationed, guests check theirs themselves.
        let made = |reserved_bytes| {
            let mut configuration = configuration(&limits, reserved_bytes);
            configuration.consume_fuel(is_metering);
            Engine::new(&configuration)
        };
        let rationed = limits.max_memory_bytes as u64;
        let (engine, reserved_bytes) = match made(WHOLE_ADDRESS_SPACE) {
            Ok(engine) => (engine, WHOLE_ADDRESS_SPACE),
            Err(_) => (made(rationed).map_err(describe)?, rationed),
        };
        let clock = Clock::start(&engine)?;
        let turns = Arc::new(Turns { free: Mutex::new(cores()), freed: Condvar::new() });
        Ok(PolicyEngine { engine, limits: Arc::new(limits), is_metering, reserved_bytes, clock, turns })
    }

    /// The caller's turn to run a guest that decides for nobody now, as many at a time as there are cores; the others wait.
    /// However many settings are checked at once, by guests that use all of their time, slots are left for decisions.
    pub(crate) fn turn(&self) -> Turn<'_> {
        self.turns.take()
    }

    /// Bounds what runs in this store: to so much time, or to the instructions of it.
    pub(crate) fn grant<T>(&self, store: &mut Store<T>, time: Duration) {
        if !self.is_metering {
            return self.clock.stop_after(store, time);
        }
        self.clock.stop_after(store, time.saturating_mul(METERED_PATIENCE));
        // Only an engine that does not meter refuses.
        let _ = store.set_fuel(instructions(time));
    }

    /// How many instructions ran in a store that was granted so much; 0 where nobody counts.
    pub(crate) fn instructions_used<T>(&self, store: &Store<T>, time: Duration) -> u64 {
        store.get_fuel().map_or(0, |left| instructions(time).saturating_sub(left))
    }

    /// Addresses that are reserved for each slot.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Whether it counts instructions.
    pub(crate) fn is_metering(&self) -> bool {
        self.is_metering
    }

    /// The bounds it was set up with, `threads` resolved.
    #[must_use]
    pub fn limits(&self) -> &PolicyLimits {
        &self.limits
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn instructions(time: Duration) -> u64 {
    whole_milliseconds(time).saturating_mul(INSTRUCTIONS_PER_MILLISECOND)
}

fn configuration(limits: &PolicyLimits, reserved_bytes: u64) -> Config {
    let mut config = compiler_configuration(limits, reserved_bytes);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    config
}

/// As far as it matters to compiled code: what a compiler that runs nothing needs.
pub(crate) fn compiler_configuration(limits: &PolicyLimits, reserved_bytes: u64) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(limits.max_stack_bytes);
    config.wasm_backtrace_max_frames(None);
    // Nobody walks a guest's stack: without these tables a compiled policy is smaller, and many load faster.
    config.generate_address_map(false);
    config.native_unwind_info(false);

    // A decision is a function of its question alone.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);

    // What compilers to wasm32-unknown-unknown do not use by default.
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.wasm_tail_call(false);
    config.wasm_extended_const(false);
    config.wasm_custom_page_sizes(false);
    config.wasm_wide_arithmetic(false);

    config.memory_reservation(reserved_bytes);
    config.memory_reservation_for_growth(0);
    config.memory_guard_size(64 << 10);
    config.memory_may_move(false);
    config
}

fn pool(limits: &PolicyLimits) -> PoolingAllocationConfig {
    let at_once = limits.thread_count().saturating_add(cores());
    let slots = u32::try_from(at_once).unwrap_or(u32::MAX).saturating_add(SPARE_SLOTS);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots);
    pool.total_core_instances(slots.saturating_mul(CORE_INSTANCES));
    pool.total_memories(slots);
    pool.total_tables(slots.saturating_mul(TABLES));
    pool.max_core_instances_per_component(CORE_INSTANCES);
    pool.max_memories_per_component(1);
    pool.max_tables_per_component(TABLES);
    pool.max_memories_per_module(1);
    pool.max_tables_per_module(TABLES);
    pool.max_memory_size(limits.max_memory_bytes);
    pool.linear_memory_keep_resident(KEEP_RESIDENT_BYTES);
    pool.table_keep_resident(64 << 10);
    pool.pagemap_scan(if limits.pagemap_scan { Enabled::Auto } else { Enabled::No });
    pool
}
