//! `restante demo`: deferred delivery, shown on real sockets.
//!
//! Every story has a server of its own on loopback, with the embedded policy and a temporary directory, and clients that
//! speak SIP and MSRP with it. What is shown is what crossed the wire; what is counted is what the clients received.
//!
//! * [`stories`], [`run_story`]: the stories, and one of them as a [`Report`].
//! * [`stage::Stage`], [`actor::Actor`]: what a story is told with.
//! * [`sequence`], [`diagram`]: from the wire to a picture. [`ledger`]: what went in and what came out.
//! * [`front`]: what may stand between clients and server.
//! * [`printer`]: for people, or for programs.

pub mod actor;
pub mod diagram;
pub mod front;
pub mod ledger;
pub mod printer;
mod recorder;
pub mod report;
pub mod sequence;
mod server_process;
pub mod stage;
mod stories;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::time::timeout;

pub use report::Report;
pub use stories::stories;

use front::Front;
use stage::Stage;

/// How long a story may take.
const STORY_PATIENCE: Duration = Duration::from_secs(180);
/// The size that the large message has: 20 MB.
const LARGE_BYTES: u64 = 20_000_000;

/// What a demonstration is asked for.
#[derive(Clone)]
pub struct Options {
    /// The `restante` binary, which is run where a story needs a server as a process of its own.
    pub executable: PathBuf,
    /// Size of the large message in bytes.
    pub large_bytes: u64,
    /// Told how the large message comes along.
    pub progress: Option<Progress>,
    /// Stands between clients and server.
    pub front: Option<Arc<dyn Front>>,
}

/// A large message on its way.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Who does what with it.
    pub label: String,
    /// Bytes so far.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Called while a large message is on its way.
pub type Progress = Arc<dyn Fn(&Transfer) + Send + Sync>;

/// A story that can be told.
#[derive(Clone, Copy)]
pub struct Story {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub title: &'static str,
    /// Who takes part, from left to right.
    pub columns: &'static [&'static str],
    /// Tells it.
    pub tell: for<'a> fn(&'a mut Stage) -> Telling<'a>,
}

/// A story that is being told. The error says in a sentence what did not come.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

impl Options {
    /// With this binary and everything else as the demonstration has it.
    #[must_use]
    pub fn new(executable: PathBuf) -> Options {
        Options { executable, large_bytes: LARGE_BYTES, progress: None, front: None }
    }
}

/// Tells the story with this name.
///
/// # Errors
/// There is none with this name, or no temporary directory can be made. That a story does not end well is said in its
/// report.
pub async fn run_story(name: &str, options: &Options) -> Result<Report> {
    let known = || stories().iter().map(|story| story.name).collect::<Vec<_>>().join(", ");
    let story = stories().iter().find(|story| story.name == name);
    let story = story.ok_or_else(|| anyhow!("no story {name:?}; there are {}", known()))?;
    let begun = Instant::now();
    let mut stage = Stage::new(story.columns, options)?;
    let mut failures = Vec::new();
    match timeout(STORY_PATIENCE, (story.tell)(&mut stage)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failures.push(format!("{error:#}")),
        Err(_) => failures.push(format!("the story did not end within {} s", STORY_PATIENCE.as_secs())),
    }
    // What is said while everybody leaves is no part of the story.
    let steps = stage.steps();
    if let Err(error) = stage.close().await {
        failures.push(format!("{error:#}"));
    }
    failures.extend(stage.violations());
    Ok(Report::new(story, steps, &stage.ledger(), failures, begun.elapsed()))
}
