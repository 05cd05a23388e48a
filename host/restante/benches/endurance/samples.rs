//! What the server held over time.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::server::Server;

/// At one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the load began.
    pub at: Duration,
    /// What the program holds, by its allocator's count.
    pub heap_bytes: u64,
    /// Memory that is no file's: the heap with what the allocator keeps for later, stacks, and the memories of policies.
    pub anonymous_bytes: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// Gauges of the metrics.
    pub held: Held,
}

/// What a server that has nothing to do does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub transactions: u64,
    pub relays: u64,
    pub sessions: u64,
    pub subscriptions: u64,
    pub waiting: u64,
}

impl Sample {
    /// Of now.
    pub fn take(server: &Server, at: Duration) -> Result<Sample> {
        let metrics = server.metrics()?;
        let heap_bytes = value(&metrics, "restante_heap_in_use_bytes").context("the allocator does not count")?;
        let (anonymous_bytes, open_files) = (server.anonymous_bytes()?, server.open_files()?);
        Ok(Sample { at, heap_bytes, anonymous_bytes, open_files, held: Held::of(&metrics)? })
    }
}

impl Held {
    /// From the metrics' text.
    fn of(metrics: &str) -> Result<Held> {
        let gauge = |name: &str| value(metrics, name).with_context(|| format!("no {name} among the metrics"));
        Ok(Held {
            transactions: gauge("restante_sip_transactions")?,
            relays: gauge("restante_relays")?,
            sessions: gauge("restante_msrp_sessions")?,
            subscriptions: gauge("restante_subscriptions")?,
            waiting: gauge("restante_messages_waiting")?,
        })
    }
}

/// Writes them as a table, to be looked at.
pub fn write(file: &Path, samples: &[Sample]) -> Result<()> {
    let mut text = "seconds,heap_bytes,anonymous_bytes,open_files,waiting\n".to_owned();
    for Sample { at, heap_bytes, anonymous_bytes, open_files, held } in samples {
        let seconds = at.as_secs();
        writeln!(text, "{seconds},{heap_bytes},{anonymous_bytes},{open_files},{}", held.waiting)?;
    }
    Ok(std::fs::write(file, text)?)
}

/// The value of a row without labels.
pub fn value(metrics: &str, name: &str) -> Option<u64> {
    let row = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    row.trim().parse().ok()
}

/// By which part of its mean something grows over these samples: the slope of the line with the least squares, times the
/// time that they cover.
pub fn growth(samples: &[Sample], bytes: impl Fn(&Sample) -> u64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at, heap) = (|it: &Sample| it.at.as_secs_f64(), |it: &Sample| bytes(it) as f64);
    let (middle, height) = (mean(&at), mean(&heap));
    let spread = mean(&|it| (at(it) - middle).powi(2));
    let rise = mean(&|it| (at(it) - middle) * (heap(it) - height));
    match (samples.first(), samples.last()) {
        (Some(first), Some(last)) if spread > 0.0 && height > 0.0 => rise / spread * (at(last) - at(first)) / height,
        _ => 0.0,
    }
}
