//! `restante demo`

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};

use super::output::Output;
use super::progress::bar;
use super::table::table;
use crate::configuration::Log;
use crate::demo::printer::{Audience, Printer};
use crate::demo::{Options, Progress, Report, Story, Transfer, run_story, stories};
use crate::logging;

/// What a shell gets from a program that was interrupted.
const INTERRUPTED: u8 = 130;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    /// Tell only this story; may be given several times.
    #[arg(long, value_name = "NAME")]
    story: Vec<String>,
    /// List the stories.
    #[arg(long)]
    list: bool,
}

/// Tells the stories. The exit status says whether all ended well.
///
/// # Errors
/// There is no such story, or nothing can be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        let rows: Vec<Vec<String>> =
            stories().iter().map(|story| vec![story.name.to_owned(), story.title.to_owned()]).collect();
        super::output::write(format_args!("{}", table(&["story", "what happens"], &rows)));
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::var_os("RESTANTE_LOG").is_some() {
        logging::start(&Log::default())?;
    }
    let chosen = chosen(&arguments.story)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            result = tell(&chosen, arguments.json) => result,
            // What is dropped here takes its directory and its processes with it.
            _ = terminate.recv() => Ok(ExitCode::from(INTERRUPTED)),
            _ = interrupt.recv() => Ok(ExitCode::from(INTERRUPTED)),
        }
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Story>> {
    if let Some(unknown) = names.iter().find(|name| !stories().iter().any(|story| story.name == name.as_str())) {
        bail!("no story {unknown:?}; restante demo --list shows them");
    }
    let is_chosen = |story: &&Story| names.is_empty() || names.iter().any(|name| name == story.name);
    Ok(stories().iter().filter(is_chosen).collect())
}

async fn tell(chosen: &[&'static Story], json: bool) -> Result<ExitCode> {
    let mut printer = Printer::new(audience(json), Output);
    let bar = Bar::default();
    let mut options = Options::new(std::env::current_exe().context("the path of this program is not known")?);
    if !json && io::stderr().is_terminal() {
        options.progress = Some(bar.progress());
    }
    let mut reports: Vec<Report> = Vec::new();
    for story in chosen {
        printer.begin(story)?;
        let report = run_story(story.name, &options).await?;
        bar.clear();
        printer.report(&report)?;
        reports.push(report);
    }
    printer.summary(&reports)?;
    Ok(if reports.iter().all(Report::is_success) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn audience(json: bool) -> Audience {
    let is_plain = !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match (json, is_plain) {
        (true, _) => Audience::Program,
        (false, true) => Audience::Plain,
        (false, false) => Audience::Terminal,
    }
}

/// One progress bar at a time.
#[derive(Clone, Default)]
struct Bar {
    shown: Arc<Mutex<Option<(String, ProgressBar)>>>,
}

impl Bar {
    fn progress(&self) -> Progress {
        let bar = self.clone();
        Arc::new(move |transfer| bar.show(transfer))
    }

    fn show(&self, transfer: &Transfer) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = shown.as_ref().is_some_and(|(label, _)| *label == transfer.label);
        if !is_same {
            if let Some((_, before)) = shown.take() {
                before.finish_and_clear();
            }
            *shown = Some((transfer.label.clone(), bar(&transfer.label, transfer.total_bytes)));
        }
        if let Some((_, bar)) = shown.as_ref() {
            bar.set_position(transfer.done_bytes);
        }
    }

    fn clear(&self) {
        if let Some((_, bar)) = self.shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}
