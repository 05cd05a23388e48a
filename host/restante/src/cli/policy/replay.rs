//! `restante policy replay`

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use restante_policy::record::{RecordReader, Replay};
use serde_json::json;

use super::comparison;
use super::subject::{Subject, grouped, meter, settings};
use crate::cli::output::{say, set_untold};

/// What the exit status says, for machines: nothing would change, something would, it could not be told.
const NOTHING_CHANGES: u8 = 0;
const SOMETHING_CHANGES: u8 = 1;
const NOT_TOLD: u8 = 2;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Files of records.
    #[arg(required = true)]
    records: Vec<PathBuf>,
    /// The policy that decides again: a component, a core module, or `standard`.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Settings as JSON instead of the recorded ones.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Number of examples to show of each change.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    examples: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// 0 when nothing would change, 1 when something would, 2 when that cannot be told.
pub fn run(arguments: &Arguments) -> ExitCode {
    set_untold(NOT_TOLD);
    match replay(arguments) {
        Ok(true) => NOTHING_CHANGES.into(),
        Ok(false) => SOMETHING_CHANGES.into(),
        Err(error) => {
            eprintln!("restante: {error:#}");
            NOT_TOLD.into()
        }
    }
}

/// Whether nothing changes.
fn replay(arguments: &Arguments) -> Result<bool> {
    let subject = Subject::read(&arguments.policy)?;
    let settings = settings(arguments.settings.as_deref())?;
    let meter = meter()?;
    let mut replay = Replay::new(&meter, &subject.component, settings, arguments.examples);
    let mut count = 0_u64;
    for path in &arguments.records {
        let place = || path.display().to_string();
        let file = BufReader::new(File::open(path).with_context(place)?);
        for record in RecordReader::new(file) {
            replay.add(&record.with_context(place)?).with_context(place)?;
            count = count.saturating_add(1);
        }
    }
    if count == 0 {
        bail!(
            "no records in {}",
            arguments.records.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }
    if arguments.json {
        let (before, after) = replay.costs();
        let mut report = replay.comparison().to_json();
        report["records"] = json!(count);
        report["cost"] = json!({ "recorded": before, "now": after });
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&replay, count)?;
    }
    Ok(replay.comparison().total().changed == 0)
}

fn print(replay: &Replay<'_>, count: u64) -> Result<()> {
    let report = replay.comparison().to_json();
    comparison::show_counts(&report);
    let (before, after) = replay.costs();
    say!("instructions: {} recorded, {} now, on average", grouped(before / count), grouped(after / count));
    comparison::show_groups(&report);
    Ok(())
}
