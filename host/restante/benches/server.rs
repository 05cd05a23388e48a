//! The server as a process of its own, for all benches.
#![allow(dead_code, reason = "each bench looks at something else of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Hundredths of a second in which the kernel counts CPU time.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long the administration may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server. It is killed when it is dropped.
pub struct Server {
    child: Child,
    /// Where it takes SIP over UDP and TCP.
    pub sip: SocketAddr,
    /// From the process's begin until it served.
    pub start: Duration,
    socket: PathBuf,
}

impl Server {
    /// Starts the binary on free ports of loopback, with these tables of its configuration, and waits until it serves.
    /// `log` is a filter; what it lets through is shown.
    pub fn start(directory: &Path, tables: &str, log: &str) -> Result<Server> {
        Server::start_listening(directory, [&[], &[]], tables, log, &[])
    }

    /// The same; it takes SIP and MSRP at further places, too, as the configuration writes them.
    pub fn start_listening(
        directory: &Path,
        further: [&[String]; 2],
        tables: &str,
        log: &str,
        environment: &[(&str, &str)],
    ) -> Result<Server> {
        let (sip, msrp) = (free_port()?, free_port()?);
        let own = [vec![format!("udp:{sip}"), format!("tcp:{sip}")], vec![format!("tcp:{msrp}")]];
        let [sip_places, msrp_places] = [0, 1].map(|it| [&own[it], further[it]].concat());
        let data = directory.join("data");
        let configuration = directory.join("restante.toml");
        let text = format!(
            "data = {:?}\n[sip]\nlisten = {sip_places:?}\n[msrp]\nlisten = {msrp_places:?}\n{tables}",
            data.display().to_string()
        );
        std::fs::write(&configuration, text)?;
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_restante"))
            .args(["serve", "--config"])
            .arg(&configuration)
            .env("RESTANTE_LOG", format!("{log},restante::cli=info"))
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let serves = lines.by_ref().map_while(Result::ok).any(|line| {
            let serves = line.contains("administration at");
            said.push(line);
            serves
        });
        let server = Server { child, sip, start: began.elapsed(), socket: data.join("admin.sock") };
        if !serves {
            bail!("the server does not start: {}", said.join("\n"));
        }
        // Whatever else it says is for people.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Ok(server)
    }

    /// CPU seconds of all its threads so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // utime and stime, counted from behind the name.
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS_PER_SECOND)
    }

    /// Memory that it has now.
    pub fn memory_bytes(&self) -> Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most memory that it had since [`Self::forget_peak`], or ever.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// Memory that is no file's: the heap, stacks and guests.
    pub fn anonymous_bytes(&self) -> Result<u64> {
        self.bytes_in("smaps_rollup", "Anonymous:")
    }

    /// Files and sockets that it has open.
    pub fn open_files(&self) -> Result<u64> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count() as u64)
    }

    /// Begins anew to look for the peak, where the kernel lets us (Linux, `clear_refs`).
    pub fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    /// Runs a command against its administration, with a password in its environment; what it says must be success.
    pub fn command(&self, arguments: &[&str], password: &str) -> Result<()> {
        let output = Command::new(env!("CARGO_BIN_EXE_restante"))
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .env("RESTANTE_PASSWORD", password)
            .output()?;
        anyhow::ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Its metrics, in Prometheus' form.
    pub fn metrics(&self) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Asks it to end and waits.
    pub fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        self.bytes_in("status", field)
    }

    fn bytes_in(&self, file: &str, field: &str) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| field.to_owned())?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that is free for TCP and UDP.
pub fn free_port() -> Result<SocketAddr> {
    for _ in 0..100 {
        let place = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if UdpSocket::bind(place).is_ok() {
            return Ok(place);
        }
    }
    bail!("no port is free for UDP and TCP")
}
