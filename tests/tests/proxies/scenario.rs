//! SIPp while it runs a scenario.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::kamailio::{libraries, repository, root};

/// How often it is looked whether it ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// SIPp while it runs a scenario of `tests`; ended when this is dropped, and by itself in two minutes.
pub struct Sipp {
    child: Child,
    directory: PathBuf,
}

impl Sipp {
    /// Runs a scenario below `tests` towards a place, with these further arguments and files of its own in a directory.
    pub fn start(towards: SocketAddr, directory: &Path, scenario: &str, arguments: &[&str]) -> Sipp {
        let root = root().expect("SIPp was fetched with Kamailio");
        let libraries = libraries(&root).expect("its libraries");
        std::fs::create_dir_all(directory).expect("a directory");
        let directory = directory.to_owned();
        let output = || {
            let log = directory.join("sipp.log");
            std::fs::File::options().create(true).append(true).open(log).expect("a log")
        };
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "timeout", "-k", "1", "118", "setpriv", "--pdeathsig", "KILL"])
            .arg(root.join("usr/bin/sipp"))
            .arg(towards.to_string())
            .arg("-sf")
            .arg(repository().join("tests").join(scenario))
            .args(["-i", "127.0.0.1", "-nostdin", "-timeout", "115", "-timeout_error", "-trace_err"])
            .args(["-error_file", "errors.log", "-trace_logs", "-log_file", "said.log"])
            .args(arguments)
            .current_dir(&directory)
            .env("LD_LIBRARY_PATH", libraries)
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .spawn()
            .expect("SIPp runs");
        Sipp { child, directory }
    }

    /// Whether every call went as the scenario says. The timers that scenarios wait for take most of a minute: SIPp ends
    /// by itself, later than anything else that is waited for.
    pub async fn succeeds(&mut self) -> bool {
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status.success();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What it and its scenario objected to, and its screen.
    pub fn complaints(&self) -> String {
        self.read("errors.log") + &self.read("sipp.log")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
