//! `restante policy test`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use restante_policy::record::{Case, CaseFailure, CaseRunner, read_cases, typical_host};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::subject::{Subject, meter, read_bounded, settings};
use crate::cli::output::say;
use crate::cli::table::{counted, harmless};
use crate::policies::library::digest_of;

/// Larger files are no files of cases.
const MAX_CASES_BYTES: u64 = 64 << 20;
/// Where cargo puts what it builds for policies, below its target directory.
const BUILT: &str = "target/wasm32-unknown-unknown/release";
/// How far up the target directory of a workspace is looked for.
const MAX_LEVELS: usize = 5;

#[derive(Args, Debug)]
pub struct Arguments {
    /// A policy's directory, with the cases in `cases` or in itself; or one file of cases or records.
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// The policy: a component, a core module, or `standard`. Otherwise what was built in the directory.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Settings as JSON for cases that have none of their own.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A case with where it is from, and what became of it.
struct Tried {
    file: String,
    name: String,
    hook: &'static str,
    failure: Option<CaseFailure>,
}

/// # Errors
/// There is no policy or no case, or a case cannot be read.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let policy = match &arguments.policy {
        Some(path) => path.clone(),
        None => built_policy(&arguments.directory)?,
    };
    let subject = Subject::read(&policy)?;
    let settings = settings(arguments.settings.as_deref())?.unwrap_or_else(|| json!({}));
    let meter = meter()?;
    let mut runner = CaseRunner::new(&meter, &subject.component, settings, typical_host());
    let mut tried = Vec::new();
    for file in case_files(&arguments.directory)? {
        let name = file.display().to_string();
        for (number, case) in cases(&file)?.into_iter().enumerate() {
            tried.push(Tried {
                file: name.clone(),
                name: if case.name.is_empty() {
                    format!("case {}", number.saturating_add(1))
                } else {
                    case.name.clone()
                },
                hook: case.hook(),
                failure: runner.run(&case).failure,
            });
        }
    }
    if tried.is_empty() {
        bail!("{}: no cases found", arguments.directory.display());
    }
    let failed = tried.iter().filter(|case| case.failure.is_some()).count();
    if arguments.json {
        let report = json!({
            "policy": subject.name,
            "sha256": digest_of(&subject.component),
            "passed": tried.len().saturating_sub(failed),
            "failed": failed,
            "cases": tried.iter().map(report).collect::<Vec<_>>(),
        });
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        say!("policy {}", harmless(&subject.name));
        tried.iter().for_each(print);
        say!("{}, {failed} failed", counted(tried.len(), "case"));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cases(file: &Path) -> Result<Vec<Case>> {
    let place = || file.display().to_string();
    let text = String::from_utf8(read_bounded(file, MAX_CASES_BYTES)?).with_context(place)?;
    read_cases(&text).with_context(place)
}

/// The files of cases, by name.
fn case_files(place: &Path) -> Result<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let cases = place.join("cases");
    let directory = if cases.is_dir() { cases } else { place.to_owned() };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json" || ending == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The one policy that was built in a directory: a component beside the cases, or what cargo built there or in the
/// workspace above.
fn built_policy(place: &Path) -> Result<PathBuf> {
    let directory = if place.is_file() { place.parent().unwrap_or(Path::new(".")) } else { place };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "wasm") {
            found.push(path);
        }
    }
    match found.len() {
        0 => {}
        1 => return found.pop().ok_or_else(|| anyhow!("gone")),
        _ => bail!("{}: has several policies; expected --policy", directory.display()),
    }
    let absolute = directory.canonicalize().with_context(|| directory.display().to_string())?;
    if let Some(name) = package_name(&absolute) {
        let file = format!("{}.wasm", name.replace('-', "_"));
        let built = absolute.ancestors().take(MAX_LEVELS).map(|level| level.join(BUILT).join(&file));
        if let Some(path) = built.into_iter().find(|path| path.is_file()) {
            return Ok(path);
        }
    }
    bail!("{}: no policy was built here; build it, or name one with --policy", directory.display())
}

/// The name in a directory's Cargo.toml.
fn package_name(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join("Cargo.toml")).ok()?;
    let manifest: toml::Table = text.parse().ok()?;
    manifest.get("package")?.get("name")?.as_str().map(str::to_owned)
}

fn report(tried: &Tried) -> Value {
    let mut report = json!({
        "file": tried.file, "name": tried.name, "hook": tried.hook, "passed": tried.failure.is_none(),
    });
    match &tried.failure {
        None => {}
        Some(CaseFailure::Unusable(why)) => report["why"] = json!(why),
        Some(CaseFailure::Differs { expected, actual, why }) => {
            report["expected"] = expected.clone();
            report["actual"] = actual.clone();
            report["why"] = json!(why);
        }
    }
    report
}

fn print(tried: &Tried) {
    let verdict = if tried.failure.is_none() { "ok    " } else { "FAILED" };
    say!("{verdict}  {}: {} ({})", harmless(&tried.file), harmless(&tried.name), tried.hook);
    match &tried.failure {
        None => {}
        Some(CaseFailure::Unusable(why)) => say!("        {}", harmless(why)),
        Some(CaseFailure::Differs { expected, actual, why }) => {
            print_difference(expected, actual);
            if let Some(why) = why {
                say!("        {}", harmless(why));
            }
        }
    }
}

/// Line by line: `-` what was expected, `+` what the policy says.
fn print_difference(expected: &Value, actual: &Value) {
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let (expected, actual) = (text(expected), text(actual));
    for change in TextDiff::from_lines(&expected, &actual).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        say!("      {sign} {}", harmless(change.value().trim_end_matches('\n')));
    }
}
