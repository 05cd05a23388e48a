//! Loads, checks, limits and calls policy components.
//!
//! A policy is a WebAssembly component of the world in `wit/policy.wit`. [`Loader`] makes a [`Generation`] of a
//! component and a tenant's settings; [`PolicyHost`] puts questions to the tenants' generations, each in a fresh
//! instance, on threads of its own, and gives the answers to a sink.
//!
//! What a guest can do is bounded by [`PolicyLimits`]; what it does beyond them becomes an
//! [`Undecided`](restante_deferral::decision::Undecided), is counted, and leads to the fallback that the deferral
//! machine has for that hook:
//!
//! | the guest | becomes |
//! |---|---|
//! | returns `err` | `Declined` |
//! | traps, or recurses beyond its stack | `Trapped` |
//! | runs beyond its deadline | `TimedOut` |
//! | was denied memory and gave up | `OutOfMemory` |
//! | answers with more than a host may copy, or with what cannot be read | `Impossible` |
//! | has more questions waiting than it may, or one too long, or more run than the host has room for | `Overloaded` |
//! | failed so several times in a row, and is spared for a while | `Suspended` |
//!
//! [`record`] writes decisions down, decides them again and compares.
//!
//! Whether an answer that can be read can also be carried out (known ids, sizes, statuses) is checked where it is
//! carried out, in the deferral machine, which says `Impossible` too.

mod cache;
mod clock;
mod compile;
mod contract;
mod decide;
mod description;
mod engine;
mod generation;
pub mod hostile;
mod limits;
mod load;
mod log;
pub mod record;
pub mod standard;

pub use cache::{CacheCounts, CacheError, CompiledCache};
pub use compile::{ChildCompiler, compile_for_parent};
pub use decide::{
    Decision, FailurePolicies, FailurePolicy, GuestLine, Hook, HookStatistics, Observation, Party, PolicyHost,
    Recorder, Shadow, ShadowCounts, TenantStatistics, decide, in_sample,
};
pub use description::{Description, DescriptionError};
pub use engine::{EngineError, PolicyEngine};
pub use generation::Generation;
pub use limits::{PolicyLimits, TenantPolicyLimits};
pub use load::{Compiled, LoadError, Loaded, Loader, Problem, Severity};
pub use log::{GuestLog, LogLevel, LogLine};
