//! SIPp as callers, senders and devices.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often it is looked at whether it ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where SIPp is, and where it may write.
pub struct Sipp {
    root: PathBuf,
    libraries: PathBuf,
    directory: PathBuf,
}

/// One scenario while it runs. Its process is killed when this is dropped, and by the kernel when this thread ends.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Calls at a fixed rate.
pub struct Calls<'a> {
    /// The scenario's file without its ending.
    pub scenario: &'a str,
    /// Tells the same scenario apart.
    pub name: &'a str,
    /// Lines of what its fields say, one a call, in turn.
    pub fields: Vec<String>,
    /// SIPp's name of the transport.
    pub transport: &'a str,
    /// Calls begun in a second.
    pub per_second: f64,
    /// Calls in all.
    pub count: u64,
}

impl Sipp {
    /// The one that `tests/proxies/install.sh` unpacked.
    pub fn find(directory: &Path) -> Result<Sipp> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/proxies/root");
        let folders = std::fs::read_dir(root.join("usr/lib")).context("no SIPp: run `make interop`")?;
        let mut with_kamailio =
            folders.flatten().map(|folder| folder.path()).filter(|path| path.join("kamailio").is_dir());
        let libraries = with_kamailio.next().context("no libraries of SIPp")?;
        Ok(Sipp { root, libraries, directory: directory.to_owned() })
    }

    /// Answers whatever comes to `place`.
    pub fn answer(&self, scenario: &str, place: SocketAddr) -> Result<Running> {
        let port = place.port().to_string();
        // Who is asked again within a minute answers again.
        self.run(scenario, scenario, &["-p", &port, "-t", "u1", "-deadcall_wait", "0"])
    }

    /// Calls `server`. `device` is where its devices are.
    pub fn call(&self, server: SocketAddr, device: SocketAddr, calls: Calls) -> Result<Running> {
        let fields = self.directory.join(format!("{}.csv", calls.name));
        std::fs::write(&fields, format!("SEQUENTIAL\n{}\n", calls.fields.join("\n")))?;
        // SIPp takes whole calls in a time of whole milliseconds.
        let (rate, period) = whole(calls.per_second);
        let arguments = [
            server.to_string(),
            "-inf".to_owned(),
            fields.display().to_string(),
            "-t".to_owned(),
            calls.transport.to_owned(),
            "-r".to_owned(),
            rate.to_string(),
            "-rp".to_owned(),
            period.to_string(),
            "-m".to_owned(),
            calls.count.to_string(),
            "-l".to_owned(),
            "5000".to_owned(),
            "-max_socket".to_owned(),
            "1000".to_owned(),
            "-key".to_owned(),
            "device_port".to_owned(),
            device.port().to_string(),
        ];
        self.run(calls.name, calls.scenario, &arguments.each_ref().map(String::as_str))
    }

    fn run(&self, name: &str, scenario: &str, arguments: &[&str]) -> Result<Running> {
        let log = self.directory.join(format!("{name}.log"));
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/endurance/scenarios").join(format!("{scenario}.xml"));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(self.root.join("usr/bin/sipp"))
            .args(arguments)
            .arg("-sf")
            .arg(file)
            .args(["-i", "127.0.0.1", "-nostdin", "-trace_err", "-error_file"])
            .arg(self.directory.join(format!("{name}.errors")))
            .current_dir(&self.directory)
            .env("LD_LIBRARY_PATH", format!("{0}:{0}/kamailio", self.libraries.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("SIPp does not run")?;
        Ok(Running { name: name.to_owned(), child, log: self.directory.join(format!("{name}.errors")) })
    }
}

impl Running {
    /// Waits until its calls are done, and whether all went as the scenario says; else, what SIPp says.
    pub fn finish(mut self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{}: SIPp ended with {status}: {}", self.name, self.said()),
                None if Instant::now() > until => bail!("{}: SIPp does not end", self.name),
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Fails when it ended, which those that answer do not.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{}: SIPp ended with {status}: {}", self.name, self.said()),
        }
    }

    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().take(40).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// So many calls in so many milliseconds, for at least one a minute.
fn whole(per_second: f64) -> (u64, u64) {
    let mut period = 1_000_u64;
    while (per_second * period as f64 / 1_000.0).fract() > 1e-9 && period < 60_000 {
        period += 1_000;
    }
    (((per_second * period as f64 / 1_000.0).round() as u64).max(1), period)
}
