//! `restante serve`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::output::say;
use super::table::harmless;
use crate::admin;
use crate::configuration::Configuration;
use crate::logging;
use crate::policies::activation::Step;
use crate::server::certificates::Certificates;
use crate::server::policies::PolicyParts;
use crate::server::roster::Roster;
use crate::server::{Parts, Server};

#[derive(Args, Debug)]
pub struct Arguments {
    /// The configuration; without one the server listens on loopback for example.org.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check whether the server could start with this configuration, and exit. Opens no sockets and leaves the data
    /// directory alone.
    #[arg(long, requires = "config")]
    check: bool,
    /// Exit when the parent process does.
    #[arg(long, hide = true)]
    with_parent: bool,
    /// End at once, as by a power cut, after this step of an activation: for tests.
    #[arg(long, hide = true, value_name = "STEP", value_parser = step)]
    abort_after: Option<Step>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps the server from starting.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.with_parent {
        let signal = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(signal).context("cannot be tied to its parent process")?;
    }
    let configuration = match &arguments.config {
        Some(path) => Configuration::read(path)?,
        None => Configuration::default(),
    };
    logging::start(&configuration.log)?;
    raise_open_files();
    // What is kept is nobody else's business, whatever directory it is kept in.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if arguments.check {
        return check(&configuration);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(&configuration, arguments));
    // A start or a reload that is broken off may have something compiled: nobody waits for that.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

fn check(configuration: &Configuration) -> Result<ExitCode> {
    for warning in configuration.warnings() {
        tracing::warn!("{warning}");
    }
    let policies = PolicyParts::of_this_program(&configuration.limits).context("cannot compile policies")?;
    crate::server::check::check(configuration, policies)?;
    admin::check_token_file(configuration)?;
    let file = configuration.source.path().map(|path| path.display().to_string()).unwrap_or_default();
    say!("{}: valid", harmless(&file));
    Ok(ExitCode::SUCCESS)
}

/// Every connection takes a file descriptor, and so does every compiled policy: as many as the system allows.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_err() {
        tracing::warn!(open_files = limit.current, "the limit on open files could not be raised");
    }
}

async fn serve(configuration: &Configuration, arguments: &Arguments) -> Result<()> {
    for warning in configuration.warnings() {
        tracing::warn!("{warning}");
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut policies = PolicyParts::of_this_program(&configuration.limits).context("cannot compile policies")?;
    if let Some(last) = arguments.abort_after {
        policies.watcher = Arc::new(move |step| {
            if step == last {
                std::process::abort();
            }
        });
    }
    let starting = Server::start_with(configuration, Parts { policies, ..Parts::default() });
    let server = tokio::select! {
        started = starting => started?,
        _ = terminate.recv() => return not_served(),
        _ = interrupt.recv() => return not_served(),
    };
    let admin = admin::start(configuration, &server).await.context("cannot start the administration interface")?;
    for (protocol, address) in server.sip() {
        tracing::info!("SIP on {}:{address}", protocol.as_str().to_ascii_lowercase());
    }
    for (protocol, address) in server.msrp() {
        tracing::info!("MSRP on {protocol}:{address}");
    }
    if let Some(address) = admin.address() {
        tracing::info!("administration on http://{address}, with the token in {}", admin.token_file().display());
    }
    tracing::info!("data in {}, administration at {}", configuration.data.display(), admin.socket().display());
    if arguments.config.is_none() {
        greet(&server);
    }
    let mut reload = Reload::default();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload.begin(&server),
            () = reload.ended() => reload.begin_again(&server),
        }
    }
    tracing::info!("stopping: finishing what is in flight");
    admin.stop();
    server.stop().await;
    tracing::info!("stopped");
    Ok(())
}

fn step(name: &str) -> Result<Step, String> {
    let known = Step::ALL.into_iter().find(|step| step.name() == name);
    known.ok_or_else(|| format!("expected one of {}", Step::ALL.map(Step::name).join(", ")))
}

fn not_served() -> Result<()> {
    tracing::info!("stopped during startup");
    Ok(())
}

/// A reading of the configuration while signals are listened to: it may compile for minutes.
#[derive(Default)]
struct Reload {
    running: Option<JoinHandle<()>>,
    /// The file may have changed since that one read it.
    is_due: bool,
}

impl Reload {
    fn begin(&mut self, server: &Server) {
        self.is_due = self.running.is_some();
        if !self.is_due {
            self.running = Some(tokio::spawn(reload(server.certificates().clone(), server.roster().clone())));
        }
    }

    /// Waits for the end of one that runs.
    async fn ended(&mut self) {
        match &mut self.running {
            // What it came to is in the log.
            Some(running) => _ = running.await,
            None => std::future::pending().await,
        }
        self.running = None;
    }

    fn begin_again(&mut self, server: &Server) {
        if self.is_due {
            self.begin(server);
        }
    }
}

/// Reads the configuration file again, and the files that `[tls]` names. Whatever is wrong with it, the server goes on as it is.
async fn reload(certificates: Arc<Certificates>, roster: Arc<Roster>) {
    // Said in the log.
    let _ = tokio::task::spawn_blocking(move || certificates.reload()).await;
    match tokio::task::spawn_blocking(move || roster.reload()).await {
        Ok(Ok(reloaded)) => {
            for warning in &reloaded.warnings {
                tracing::warn!("{warning}");
            }
            let (added, changed) = (reloaded.added.len(), reloaded.changed.len());
            let (removed, policies) = (reloaded.removed.len(), reloaded.policies.len());
            tracing::info!(added, changed, removed, policies, "configuration reloaded");
        }
        Ok(Err(error)) => tracing::error!("configuration not reloaded, nothing changed: {error}"),
        Err(error) => tracing::error!(%error, "internal error while reloading the configuration"),
    }
}

/// How to send a first message.
fn greet(server: &Server) {
    let udp = server.sip().iter().find(|(protocol, _)| *protocol == restante_transport::Protocol::Udp);
    let Some((_, address)) = udp else { return };
    eprintln!("\nA first message, for somebody who is away:");
    eprintln!(
        "  restante client send --server {address} --from sip:alice@example.org --to sip:bob@example.org --text 'See you at six'"
    );
    eprintln!("and bob is back:");
    eprintln!("  restante client listen --server {address} --as sip:bob@example.org\n");
}
