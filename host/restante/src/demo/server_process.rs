//! A server as a process of its own, for what only a process can suffer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::Method;
use serde::de::DeserializeOwned;

use crate::admin::model::QueuePage;
use crate::cli::RunningServer;
use crate::cli::admin_client::request;

/// How long the server may take to start on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(45);
/// How often it is asked whether it is there.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of its log that are shown when it did not start.
const SHOWN_LINES: usize = 5;

/// A running server. It is killed when this is dropped, and by the kernel when this process dies.
pub struct ServerProcess {
    child: Child,
    socket: PathBuf,
}

impl ServerProcess {
    /// Runs `restante serve` and waits until it is there.
    ///
    /// # Errors
    /// It cannot be started, or ended at once: with its last words.
    pub async fn start(executable: &Path, configuration: &Path, data: &Path) -> Result<ServerProcess> {
        let log = configuration.with_extension("log");
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(executable)
            .args(["serve", "--with-parent", "--config"])
            .arg(configuration)
            .env("RESTANTE_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run {} serve", executable.display()))?;
        let mut process = ServerProcess { child, socket: data.join("admin.sock") };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = process.child.try_wait()? {
                bail!("the server process ended at once ({status}): {}", last_lines(&log));
            }
            if process.ask::<serde_json::Value>("/health").await.is_ok() {
                return Ok(process);
            }
            if Instant::now() > deadline {
                bail!("the server process does not answer after {} s: {}", START_PATIENCE.as_secs(), last_lines(&log));
            }
            // Nothing tells from outside that another process has begun to listen.
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    /// Kills it: SIGKILL, nothing of it runs any more.
    ///
    /// # Errors
    /// It was dead already.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server process ended by itself ({status})");
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How many messages wait in it, up to a thousand.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn waiting(&self) -> Result<usize> {
        let page: QueuePage = self.ask("/queue?limit=1000").await?;
        Ok(page.messages.len())
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(&self, path: &'static str) -> Result<T> {
        let server = RunningServer::at(&self.socket);
        tokio::task::spawn_blocking(move || request(&server, Method::GET, path, None)).await?
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Of one that is dead already there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join(" / ")
}
