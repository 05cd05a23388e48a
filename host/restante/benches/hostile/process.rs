//! The server as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// A running server. It is killed when it is dropped.
pub struct Server {
    child: Child,
    /// Where it takes SIP over UDP.
    pub sip: SocketAddr,
}

impl Server {
    /// Starts the binary for these tenants on free ports of loopback and waits until it serves.
    pub fn start(directory: &Path, tenants: &str) -> Result<Server> {
        let (sip, msrp) = (free_port()?, free_port()?);
        let configuration = directory.join("restante.toml");
        let data = directory.join("data").display().to_string();
        std::fs::write(
            &configuration,
            format!("data = {data:?}\n[sip]\nlisten = [\"udp:{sip}\"]\n[msrp]\nlisten = [\"tcp:{msrp}\"]\n{tenants}"),
        )?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_restante"))
            .args(["serve", "--config"])
            .arg(&configuration)
            .env("RESTANTE_LOG", "error,restante::cli=info")
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
        let server = Server { child, sip };
        if !serves {
            bail!("the server does not start: {}", said.join("\n"));
        }
        // Whatever else it says is for people.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Ok(server)
    }

    /// The most memory that it had since [`Self::forget_peak`].
    pub fn peak_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// Begins anew to look for the peak, where the kernel lets us (Linux, `clear_refs`).
    pub fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
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
