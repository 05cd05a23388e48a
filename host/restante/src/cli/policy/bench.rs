//! `restante policy bench`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use restante_policy::record::{typical_host, typical_question_about};
use restante_policy::{Hook, decide};
use serde::Serialize;
use serde_json::json;

use super::run::undecided_name;
use super::subject::{Subject, Tried, bytes, grouped, settings};
use crate::cli::output::{say, write};
use crate::cli::table::table;

/// Decisions that are timed for each line, after some that are not.
const DECISIONS: usize = 2_000;
const WARMING_UP: usize = 50;
/// A line takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Args, Debug)]
pub struct Arguments {
    /// A component, a core module, or `standard`.
    file: PathBuf,
    /// Settings as JSON; none by default.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What decisions about so many messages take.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    hook: Hook,
    messages: u32,
    median_micros: f64,
    p99_micros: f64,
    cost: u64,
    memory_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    undecided: Option<String>,
}

/// # Errors
/// The policy cannot be used.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let subject = Subject::read(&arguments.file)?;
    let settings = settings(arguments.settings.as_deref())?.unwrap_or_else(|| json!({}));
    let tried = Tried::load(&subject, &settings, &typical_host())?;
    let mut lines = Vec::new();
    for hook in Hook::ALL {
        let counts: &[u32] = if hook == Hook::Incoming { &[1] } else { &[1, 50] };
        for messages in counts {
            lines.push(measure(&tried, hook, *messages)?);
        }
    }
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&json!({ "file": subject.name, "decisions": lines }))?);
    } else {
        let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
        let head = ["hook", "messages", "median µs", "99 % µs", "instructions", "memory", ""];
        write(format_args!("{}", table(&head, &rows)));
        say!("each decision in a fresh instance, on one thread");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(line: &Line) -> Vec<String> {
    vec![
        line.hook.name().to_owned(),
        line.messages.to_string(),
        format!("{:.1}", line.median_micros),
        format!("{:.1}", line.p99_micros),
        grouped(line.cost),
        bytes(line.memory_bytes),
        line.undecided.clone().unwrap_or_default(),
    ]
}

fn measure(tried: &Tried, hook: Hook, messages: u32) -> Result<Line> {
    let question = typical_question_about(hook, messages).context("a typical question")?;
    let metered = tried.metered.decide(question.clone());
    let began = Instant::now();
    let mut times = Vec::with_capacity(DECISIONS);
    for number in 0..WARMING_UP + DECISIONS {
        let question = question.clone();
        let before = Instant::now();
        let _ = std::hint::black_box(decide(&tried.serving, question));
        let took = before.elapsed().as_secs_f64() * 1e6;
        if number >= WARMING_UP || began.elapsed() > PATIENCE {
            times.push(took);
        }
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |permille: usize| times.get(times.len().saturating_sub(1) * permille / 1_000).copied();
    let nothing = || anyhow!("no decision in {} s", PATIENCE.as_secs());
    Ok(Line {
        hook,
        messages,
        median_micros: at(500).ok_or_else(nothing)?,
        p99_micros: at(990).ok_or_else(nothing)?,
        cost: metered.cost,
        memory_bytes: metered.memory_bytes,
        undecided: metered.outcome.err().map(undecided_name),
    })
}
