//! The binary as a child process.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::patience::{PATIENCE, in_time, until};
use crate::world::free_ports;

/// Lines of `[limits]` with which a busy machine is no reason for refusals and nobody waits for long.
pub const PATIENT_LIMITS: &str = "registration_delay_milliseconds = 20\nmax_decision_milliseconds = 10000\n\
                                  max_commit_wait_milliseconds = 30000\n";
/// What its log says last when it serves.
const READY: &str = "administration at";
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Ports are free when they are looked for and may be taken when they are used: how often it is looked whether they are
/// free again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A directory with a configuration, and the program that serves it, again and again if need be.
pub struct Program {
    directory: TempDir,
    further: String,
    sip_lines: RefCell<String>,
    sip: Cell<SocketAddr>,
    msrp: Cell<u16>,
    has_served: Cell<bool>,
}

/// The program while it serves. It is killed when this is dropped.
pub struct Served {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    log: Vec<String>,
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Program {
    /// A configuration with free ports, [`PATIENT_LIMITS`] and these further lines.
    #[must_use]
    pub fn patient(further: &str) -> Program {
        Program::new(&format!("[limits]\n{PATIENT_LIMITS}{further}"))
    }

    /// A configuration with free ports and these further lines.
    ///
    /// # Panics
    /// The disk does not take it.
    #[must_use]
    pub fn new(further: &str) -> Program {
        let program = Program {
            directory: tempfile::tempdir().expect("a temporary directory"),
            further: further.to_owned(),
            sip_lines: RefCell::default(),
            sip: Cell::new(SocketAddr::new(HOST, 0)),
            msrp: Cell::new(0),
            has_served: Cell::new(false),
        };
        program.choose_ports();
        program
    }

    fn choose_ports(&self) {
        let (sip, msrp) = free_ports(HOST);
        self.sip.set(SocketAddr::new(HOST, sip));
        self.msrp.set(msrp);
        self.write_configuration();
    }

    /// Further lines of `[sip]`, each with its end, instead of earlier ones. The ports stay as they are from now on: somebody
    /// was told of them.
    pub fn set_sip(&self, lines: &str) {
        lines.clone_into(&mut self.sip_lines.borrow_mut());
        self.has_served.set(true);
        self.write_configuration();
    }

    fn write_configuration(&self) {
        let (sip, msrp, lines) = (self.sip().port(), self.msrp.get(), self.sip_lines.borrow().clone());
        self.configure(&format!(
            "data = {data:?}\n\
             [sip]\nlisten = [\"udp:{HOST}:{sip}\", \"tcp:{HOST}:{sip}\"]\n{lines}\
             [msrp]\nlisten = [\"tcp:{HOST}:{msrp}\"]\n\
             {further}\n",
            data = self.data().display().to_string(),
            further = self.further,
        ));
    }

    /// Replaces the configuration.
    ///
    /// # Panics
    /// The disk does not take it.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.configuration_file(), text).expect("a configuration");
    }

    /// The configuration file.
    #[must_use]
    pub fn configuration_file(&self) -> PathBuf {
        self.directory.path().join("restante.toml")
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where it takes SIP, over UDP and TCP.
    #[must_use]
    pub fn sip(&self) -> SocketAddr {
        self.sip.get()
    }

    /// Runs `restante serve` until it serves.
    ///
    /// # Panics
    /// It does not.
    pub async fn serve(&self) -> Served {
        self.serve_with(&[]).await
    }

    /// The same with further arguments.
    ///
    /// # Panics
    /// It does not serve.
    pub async fn serve_with(&self, further: &[&str]) -> Served {
        let configuration = self.configuration_file().display().to_string();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut served = Served::start(&[&["serve", "--config", &configuration], further].concat());
            match served.next_line_with(READY).await {
                Some(_) => {
                    self.has_served.set(true);
                    return served;
                }
                None if served.log.iter().any(|line| line.contains("Address already in use")) => {}
                None => panic!("the program ended without serving: {:#?}", served.log),
            }
            // Somebody took the port since it was looked for; who was told of it already must wait for it.
            if self.has_served.get() {
                sleep(LOOK_EVERY).await;
            } else {
                self.choose_ports();
            }
        }
        panic!("no port is free for long enough");
    }

    /// Runs `restante serve` and does not wait until it serves.
    #[must_use]
    pub fn begin(&self) -> Served {
        Served::start(&["serve", "--config", &self.configuration_file().display().to_string()])
    }

    /// Runs a command against the running server.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Finished {
        let socket = self.data().join("admin.sock").display().to_string();
        run(&[arguments, &["--socket", &socket]].concat())
    }
}

impl Served {
    fn start(arguments: &[&str]) -> Served {
        let mut command = Command::new(binary());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.env_remove("RESTANTE_LOG").spawn().expect("the program runs");
        let stderr = child.stderr.take().expect("its standard error");
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Served { child, lines, log: Vec::new() }
    }

    /// Waits for a line of the log.
    ///
    /// # Panics
    /// It does not come; tells what came.
    pub async fn line_with(&mut self, text: &str) -> String {
        match self.next_line_with(text).await {
            Some(line) => line,
            None => panic!("the program ended without saying {text:?}: {:#?}", self.log),
        }
    }

    async fn next_line_with(&mut self, text: &str) -> Option<String> {
        loop {
            let line = in_time(&format!("a line of the log with {text:?}"), self.lines.recv()).await?;
            self.log.push(line.clone());
            if line.contains(text) {
                return Some(line);
            }
        }
    }

    /// The lines of its log so far that were waited for, and those before them.
    #[must_use]
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a word: SIGKILL.
    ///
    /// # Panics
    /// It cannot be.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end: SIGTERM.
    ///
    /// # Panics
    /// It cannot be asked.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Has it read its configuration again: SIGHUP.
    ///
    /// # Panics
    /// It cannot be asked.
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill(1) runs");
        assert!(done.success());
    }

    /// Whether a process that it started runs: a compiler.
    #[must_use]
    pub fn compiles(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let mut children = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
        children.any(|children| children.is_ok_and(|children| !children.trim().is_empty()))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It goes on.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program ends", || {
            status = self.child.try_wait().expect("its status");
            status.is_some()
        })
        .await;
        status.expect("it ended")
    }

    /// The most memory it ever had, in bytes.
    ///
    /// # Panics
    /// The system does not say.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be run.
#[must_use]
pub fn run(arguments: &[&str]) -> Finished {
    run_in(&[], arguments)
}

/// The same with these variables in its environment.
///
/// # Panics
/// It cannot be run.
#[must_use]
pub fn run_in(environment: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    for name in ["RESTANTE_LOG", "RESTANTE_PASSWORD", "RESTANTE_SOCKET"] {
        command.env_remove(name);
    }
    let output = command.envs(environment.iter().copied()).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Finished { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The binary. Beside the directory of the test that runs: one `cargo build --workspace` makes both.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test that runs");
    let directory = test.parent().and_then(Path::parent).expect("target/release/deps");
    let binary = directory.join("restante");
    assert!(
        binary.is_file(),
        "{} is not there: `cargo build --workspace --locked --release` makes it",
        binary.display()
    );
    binary
}
