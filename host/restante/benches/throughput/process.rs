//! The server as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Hundredths of a second in which the kernel counts CPU time.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server. It is killed when it is dropped.
pub struct Server {
    child: Child,
    /// Where it takes SIP over UDP and TCP.
    pub sip: SocketAddr,
    socket: PathBuf,
}

impl Server {
    /// Starts the binary on free ports of loopback and waits until it listens.
    pub fn start(directory: &Path) -> Result<Server> {
        let (sip, msrp) = (free_port()?, free_port()?);
        let data = directory.join("data");
        let configuration = directory.join("restante.toml");
        // Everything waits in page mode and goes out one by one: the figures are those of single messages.
        std::fs::write(
            &configuration,
            format!(
                r#"data = "{}"
                [sip]
                listen = ["udp:{sip}", "tcp:{sip}"]
                [msrp]
                listen = ["tcp:{msrp}"]
                [limits]
                max_large_body_bytes = 2000000000
                [tenants.bench]
                domains = ["example.org"]
                trust = ["127.0.0.0/8"]
                [tenants.bench.settings]
                few = 100
                recipient_quota = {{ messages = 1000000, bytes = 10000000000 }}
                sender_quota = {{ messages = 10000000, bytes = 10000000000 }}
                "#,
                data.display()
            ),
        )?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_restante"))
            .args(["serve", "--config"])
            .arg(&configuration)
            .env("RESTANTE_LOG", "info,restante=warn,restante::cli=info")
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let listening = lines.by_ref().map_while(Result::ok).any(|line| {
            let listening = line.contains("administration at");
            said.push(line);
            listening
        });
        let server = Server { child, sip, socket: data.join("admin.sock") };
        if !listening {
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

    /// The most memory it ever had.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// How long its decisions took so far, as its metrics say.
    pub fn decisions(&self) -> Result<String> {
        let text = self.metrics()?;
        let value = |name: &str, hook: &str| -> f64 {
            let start = format!("restante_{name}{{");
            let label = format!("hook=\"{hook}\"");
            let line = text.lines().find(|line| line.starts_with(&start) && line.contains(&label));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
        };
        let figures = ["on-incoming", "on-available"].map(|hook| {
            let asked = value("policy_decisions_total", hook);
            let micros = value("policy_decision_seconds_total", hook) * 1e6;
            format!("{hook} {:.0} at {:.0} µs", asked, if asked > 0.0 { micros / asked } else { 0.0 })
        });
        Ok(figures.join(", "))
    }

    fn metrics(&self) -> Result<String> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
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
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that is free for TCP and UDP.
fn free_port() -> Result<SocketAddr> {
    for _ in 0..100 {
        let place = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if UdpSocket::bind(place).is_ok() {
            return Ok(place);
        }
    }
    bail!("no port is free for UDP and TCP")
}
