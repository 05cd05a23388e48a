//! The server as a process of its own, and what it needs.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running server. It is killed when it is dropped.
pub struct Server {
    child: Child,
    sip: SocketAddr,
    start: Duration,
}

/// What it needs.
#[derive(Clone, Copy)]
pub struct Figures {
    /// From the process's begin until it serves.
    pub start: Duration,
    /// Memory then.
    pub started_bytes: u64,
    /// Memory when a message for each tenant was decided and stored.
    pub decided_bytes: u64,
}

impl Server {
    /// Starts the binary on free ports of loopback and waits until it serves.
    pub fn start(directory: &Path, tenants: &str) -> Result<Server> {
        let (sip, msrp) = (free_port()?, free_port()?);
        let configuration = directory.join("restante.toml");
        let data = directory.join("data").display().to_string();
        std::fs::write(
            &configuration,
            format!("data = {data:?}\n[sip]\nlisten = [\"udp:{sip}\"]\n[msrp]\nlisten = [\"tcp:{msrp}\"]\n{tenants}"),
        )?;
        let started_at = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_restante"))
            .args(["serve", "--config"])
            .arg(&configuration)
            .env("RESTANTE_LOG", "warn,restante::cli=info")
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
        let server = Server { child, sip, start: started_at.elapsed() };
        if !serves {
            bail!("the server does not start: {}", said.join("\n"));
        }
        // Whatever else it says is for people.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Ok(server)
    }

    /// What it needs with so many tenants, one message for each included.
    pub fn figures(&self, tenants: u32) -> Result<Figures> {
        let started_bytes = self.memory_bytes()?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for number in 0..tenants {
            self.message(&socket, number)?;
        }
        Ok(Figures { start: self.start, started_bytes, decided_bytes: self.memory_bytes()? })
    }

    fn message(&self, socket: &UdpSocket, number: u32) -> Result<()> {
        let to = format!("sip:user@t{number}.example");
        let local = socket.local_addr()?;
        let request = format!(
            "MESSAGE {to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKt{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:somebody@t{number}.example>;tag=1\r\nTo: <{to}>\r\nCall-ID: t{number}\r\nCSeq: 1 MESSAGE\r\n\
             Content-Type: text/plain\r\nContent-Length: 4\r\n\r\ntext"
        );
        socket.send_to(request.as_bytes(), self.sip)?;
        let mut answer = [0; 2_048];
        let length = socket.recv(&mut answer)?;
        let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned();
        anyhow::ensure!(answer.starts_with("SIP/2.0 202"), "{to}: {answer}");
        Ok(())
    }

    /// Memory that it has now.
    fn memory_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
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
