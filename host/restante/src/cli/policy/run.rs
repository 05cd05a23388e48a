//! `restante policy run`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use restante_deferral::decision::{HostAbilities, Question, Undecided};
use restante_policy::record::{Measured, feasible, read_question, typical_host, typical_question_json, write_answer};
use restante_policy::{Hook, LogLevel, decide};
use serde_json::{Map, Value, json};

use super::subject::{Subject, Tried, bytes, grouped, read_json, settings};
use crate::cli::output::say;
use crate::cli::table::harmless;

/// Decisions of which the median is shown.
const TIMED_DECISIONS: usize = 11;

#[derive(Args, Debug)]
pub struct Arguments {
    /// A component, a core module, or `standard`.
    file: PathBuf,
    /// Hook to ask, unless the question names it.
    #[arg(long, value_name = "HOOK")]
    hook: Option<HookChoice>,
    /// The question, a case or a record, as JSON; by default a typical question.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Settings as JSON; by default those of the question, or none.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum HookChoice {
    /// A message arrives.
    #[value(name = "on-incoming")]
    Incoming,
    /// The recipient can be reached.
    #[value(name = "on-available")]
    Available,
    /// A client asks for its messages.
    #[value(name = "on-pull")]
    Pull,
    /// An attempt failed.
    #[value(name = "on-failure")]
    Failure,
    /// The time of messages is up.
    #[value(name = "on-expiry")]
    Expiry,
}

impl From<HookChoice> for Hook {
    fn from(choice: HookChoice) -> Hook {
        match choice {
            HookChoice::Incoming => Hook::Incoming,
            HookChoice::Available => Hook::Available,
            HookChoice::Pull => Hook::Pull,
            HookChoice::Failure => Hook::Failure,
            HookChoice::Expiry => Hook::Expiry,
        }
    }
}

/// A question with what belongs to it.
struct Asked {
    question: Question,
    settings: Option<Value>,
    host: HostAbilities,
}

/// # Errors
/// The policy or the question cannot be used.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let subject = Subject::read(&arguments.file)?;
    let asked = question(arguments)?;
    let settings = settings(arguments.settings.as_deref())?.or(asked.settings).unwrap_or_else(|| json!({}));
    let tried = Tried::load(&subject, &settings, &asked.host)?;
    let measured = tried.metered.decide(asked.question.clone());
    let micros = median_micros(&tried, &asked.question);
    let problem = match &measured.outcome {
        Ok(answer) => feasible(&asked.question, answer, &asked.host).err().map(|error| error.to_string()),
        Err(_) => None,
    };
    let hook = Hook::of(&asked.question).name();
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&report(hook, &measured, micros, problem.as_deref()))?);
    } else {
        print(hook, &measured, micros, problem.as_deref())?;
    }
    let decided = measured.outcome.is_ok() && problem.is_none();
    Ok(if decided { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The question of the file, or a typical one.
fn question(arguments: &Arguments) -> Result<Asked> {
    let chosen = arguments.hook.map(Hook::from);
    let (place, mut value) = match (&arguments.input, chosen) {
        (Some(path), _) => (path.display().to_string(), read_json(path)?),
        (None, Some(hook)) => ("typical question".to_owned(), serde_json::from_str(typical_question_json(hook))?),
        (None, None) => bail!("expected --hook, --input or both"),
    };
    let object = value.as_object_mut().ok_or_else(|| anyhow!("{place}: expected a question as a JSON object"))?;
    let said = match object.get("hook") {
        Some(hook) => Some(serde_json::from_value(hook.clone()).with_context(|| format!("{place}: hook"))?),
        None => None,
    };
    let hook: Hook = match (chosen, said) {
        (Some(chosen), Some(said)) if chosen != said => {
            bail!("{place}: is a question to {}, not to {}", said.name(), chosen.name())
        }
        (chosen, said) => chosen.or(said).ok_or_else(|| anyhow!("{place}: has no `hook`; expected --hook"))?,
    };
    let host = match object.remove("host") {
        Some(host) => serde_json::from_value(host).with_context(|| format!("{place}: host"))?,
        None => typical_host(),
    };
    let question = read_question(hook, take(object, "context"), take(object, "input"));
    let question = question.with_context(|| place.clone())?;
    Ok(Asked { question, settings: object.remove("settings"), host })
}

fn take(object: &mut Map<String, Value>, key: &str) -> Value {
    object.remove(key).unwrap_or_default()
}

/// What a decision takes where messages are served: the median of some, each in a fresh instance.
fn median_micros(tried: &Tried, question: &Question) -> f64 {
    let mut times: Vec<f64> = (0..TIMED_DECISIONS)
        .map(|_| {
            let question = question.clone();
            let began = Instant::now();
            let _ = decide(&tried.serving, question);
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(TIMED_DECISIONS / 2).copied().unwrap_or_default()
}

fn report(hook: &str, measured: &Measured, micros: f64, problem: Option<&str>) -> Value {
    let lines: Vec<Value> =
        measured.lines.iter().map(|line| json!({ "level": level(line.level), "text": line.text })).collect();
    let mut report = json!({
        "hook": hook,
        "log": lines,
        "micros": micros,
        "cost": measured.cost,
        "memory-bytes": measured.memory_bytes,
    });
    match &measured.outcome {
        Ok(answer) => report["answer"] = write_answer(answer),
        Err(undecided) => report["undecided"] = json!(undecided),
    }
    if let Some(why) = &measured.why {
        report["why"] = json!(why);
    }
    if let Some(problem) = problem {
        report["impossible"] = json!(problem);
    }
    report
}

fn print(hook: &str, measured: &Measured, micros: f64, problem: Option<&str>) -> Result<()> {
    let (cost, memory) = (grouped(measured.cost), bytes(measured.memory_bytes));
    say!("{hook}: {micros:.0} µs, {cost} instructions, {memory} of memory");
    for line in &measured.lines {
        say!("log {}: {}", level(line.level), harmless(&line.text));
    }
    match &measured.outcome {
        Ok(answer) => print_json(&write_answer(answer))?,
        Err(undecided) => {
            say!("undecided: {}", undecided_name(*undecided));
            say!("  {}", harmless(measured.why.as_deref().unwrap_or_default()));
        }
    }
    if let Some(problem) = problem {
        say!("impossible: {problem}; a server would fall back");
    }
    Ok(())
}

/// JSON with what could steer a terminal escaped.
pub fn print_json(value: &Value) -> Result<()> {
    for line in serde_json::to_string_pretty(value)?.lines() {
        say!("{}", harmless(line));
    }
    Ok(())
}

/// A reason for no answer, as JSON has it.
pub fn undecided_name(undecided: Undecided) -> String {
    serde_json::to_value(undecided).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
    }
}
