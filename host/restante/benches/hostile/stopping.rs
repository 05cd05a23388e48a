//! How soon after its limit a loop is stopped.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use restante_deferral::decision::Undecided;
use restante_policy::record::{typical_host, typical_question};
use restante_policy::{Hook, Loader, PolicyEngine, PolicyLimits, decide};

use crate::conversation::percentile;
use crate::milliseconds;

/// Limits of a decision, and how often each is met.
const LIMITS: [(u64, u32); 3] = [(5, 400), (20, 200), (200, 30)];

/// Prints how late; the worst p99.
pub fn say_how_late() -> Result<Duration> {
    let component = std::fs::read(restante_policy::hostile::PATH)?;
    let mut worst = Duration::ZERO;
    for (limit, times) in LIMITS {
        let deadline = Duration::from_millis(limit);
        let engine = PolicyEngine::new(PolicyLimits { deadline, ..PolicyLimits::default() })?;
        let loader = Loader::new(engine, None)?;
        let generation = loader.load(&component, r#"{"behaviour": "endless-loop"}"#, &typical_host())?.generation;
        let mut late = Vec::new();
        for _ in 0..times {
            let question = typical_question(Hook::Available)?;
            let began = Instant::now();
            let outcome = decide(&generation, question);
            late.push(began.elapsed().saturating_sub(deadline));
            if outcome != Err(Undecided::TimedOut) {
                bail!("the loop ended with {outcome:?}");
            }
        }
        let (p50, p99) = (percentile(&mut late, 50), percentile(&mut late, 99));
        println!(
            "a loop of {limit} ms    stopped {:.2} ms after its limit, 99 % within {:.2} ms, {times} times",
            milliseconds(p50),
            milliseconds(p99)
        );
        worst = worst.max(p99);
    }
    Ok(worst)
}
