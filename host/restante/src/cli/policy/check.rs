//! `restante policy check`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use restante_deferral::decision::Undecided;
use restante_policy::record::{MeteredPolicy, feasible, typical_host, typical_question};
use restante_policy::{Hook, LoadError, PolicyLimits};
use serde::Serialize;
use serde_json::{Value, json};

use super::run::undecided_name;
use super::subject::{Subject, bytes, grouped, meter, settings};
use super::wasm::Contents;
use crate::cli::output::{say, write};
use crate::cli::table::table;
use crate::policies::library::digest_of;

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

/// How one step of the check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ok,
    /// Worth a look, and no reason not to use it.
    Warning,
    Failed,
}

/// What was checked and how it was.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    verdict: Verdict,
    found: String,
}

/// The steps so far.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn add(&mut self, step: &'static str, verdict: Verdict, found: impl Into<String>) {
        self.0.push(Step { step, verdict, found: found.into() });
    }

    fn has_failed(&self) -> bool {
        self.0.iter().any(|step| step.verdict == Verdict::Failed)
    }
}

/// # Errors
/// The file or the settings cannot be read.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let subject = Subject::read(&arguments.file)?;
    let settings = settings(arguments.settings.as_deref())?.unwrap_or_else(|| json!({}));
    let mut steps = Steps::default();
    check(&subject, &settings, &mut steps)?;
    if arguments.json {
        let report = json!({
            "file": subject.name,
            "sha256": digest_of(&subject.component),
            "usable": !steps.has_failed(),
            "steps": steps.0,
        });
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let rows: Vec<Vec<String>> = steps.0.iter().map(row).collect();
        write(format_args!("{}", table(&["", "checked", "found"], &rows)));
    }
    Ok(if steps.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn row(step: &Step) -> Vec<String> {
    let verdict = match step.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "FAILED",
    };
    vec![verdict.to_owned(), step.step.to_owned(), step.found.clone()]
}

fn check(subject: &Subject, settings: &Value, steps: &mut Steps) -> Result<()> {
    let limits = PolicyLimits::default();
    let size = subject.component.len();
    let made = if subject.was_module { ", made of a core module" } else { "" };
    let most = bytes(limits.max_component_bytes as u64);
    if size <= limits.max_component_bytes {
        steps.add("size", Verdict::Ok, format!("{} of {most}{made}", bytes(size as u64)));
    } else {
        let found = format!("{} of {most}{made}: a server takes it with limits.max_policy_bytes", bytes(size as u64));
        steps.add("size", Verdict::Warning, found);
    }
    match Contents::read(&subject.component) {
        Ok(contents) => {
            let none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
            steps.add("imports", Verdict::Ok, none(&contents.imports));
            let versions = contents.contract_versions();
            let verdict = if versions.is_empty() { Verdict::Warning } else { Verdict::Ok };
            steps.add("contract", verdict, none(&versions));
        }
        Err(error) => steps.add("imports", Verdict::Failed, format!("{error:#}")),
    }
    if steps.has_failed() {
        return Ok(());
    }
    match meter()?.load(&subject.component, settings, &typical_host()) {
        Ok(policy) => {
            steps.add("world", Verdict::Ok, "restante:policy/policy, whole and nothing else imported");
            describe(&policy, steps);
            check_settings(&policy, steps);
            for hook in Hook::ALL {
                check_hook(&policy, hook, &limits, steps);
            }
        }
        Err(LoadError::Settings(problems)) => {
            steps.add("world", Verdict::Ok, "restante:policy/policy, whole and nothing else imported");
            for problem in problems {
                steps.add("settings", Verdict::Failed, problem.to_string());
            }
        }
        Err(error @ (LoadError::CheckFailed(_) | LoadError::SettingsTooLarge { .. })) => {
            steps.add("settings", Verdict::Failed, error.to_string());
        }
        Err(error) => steps.add("world", Verdict::Failed, error.to_string()),
    }
    Ok(())
}

fn describe(policy: &MeteredPolicy, steps: &mut Steps) {
    let description = policy.description();
    steps.add("description", Verdict::Ok, format!("{} {}", description.name, description.version));
    match description.settings_schema.as_deref().map(serde_json::from_str::<Value>) {
        Some(Ok(schema)) => {
            let count = schema.get("properties").and_then(Value::as_object).map_or(0, serde_json::Map::len);
            steps.add("schema", Verdict::Ok, format!("of {count} settings"));
        }
        Some(Err(error)) => steps.add("schema", Verdict::Failed, error.to_string()),
        None => steps.add("schema", Verdict::Warning, "none: nobody sees which settings there are"),
    }
}

fn check_settings(policy: &MeteredPolicy, steps: &mut Steps) {
    for warning in policy.warnings() {
        steps.add("settings", Verdict::Warning, warning.to_string());
    }
    if policy.warnings().is_empty() {
        steps.add("settings", Verdict::Ok, "taken");
    }
}

/// A first call with a typical question.
fn check_hook(policy: &MeteredPolicy, hook: Hook, limits: &PolicyLimits, steps: &mut Steps) {
    let question = match typical_question(hook) {
        Ok(question) => question,
        Err(error) => return steps.add(hook.name(), Verdict::Failed, error.to_string()),
    };
    let measured = policy.decide(question.clone());
    let took = format!(
        "{} instructions, {} of {} of memory",
        grouped(measured.cost),
        bytes(measured.memory_bytes),
        bytes(limits.max_memory_bytes as u64)
    );
    match &measured.outcome {
        Ok(answer) => match feasible(&question, answer, policy.host()) {
            Ok(()) => steps.add(hook.name(), Verdict::Ok, format!("answers; {took}")),
            Err(impossible) => {
                steps.add(hook.name(), Verdict::Failed, format!("answers what cannot be done: {impossible}"));
            }
        },
        Err(undecided) => {
            // Declining is a policy's right; the fallback decides then.
            let verdict = if *undecided == Undecided::Declined { Verdict::Warning } else { Verdict::Failed };
            let why = measured.why.unwrap_or_default();
            steps.add(hook.name(), verdict, format!("{}: {why}; {took}", undecided_name(*undecided)));
        }
    }
}
