//! The foreign implementation as a child process: JSON lines in and out, as tests/interop/README.md has them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use restante_msrp::sdp::MsrpDescription;
use restante_sip::message::SipMessage;
use restante_tests::in_time;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The peer ends by itself after so many seconds: later than anything that is waited for.
const LIFETIME: &str = "600";

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    Active,
    Passive,
}

impl Setup {
    fn word(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Passive => "passive",
        }
    }
}

/// A peer; it ends when it is dropped.
pub struct Peer {
    child: std::process::Child,
    lines: UnboundedReceiver<String>,
    setup: Setup,
    path: String,
}

impl Peer {
    /// Starts it; none, loudly, where it is not installed.
    pub fn start(setup: Setup) -> Option<Peer> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = tests.join("../target/interop");
        if !installed.join("relay").is_dir() {
            // Past the test harness, which would keep it back.
            let _ = writeln!(std::io::stderr(), "SKIPPED msrp-interop: see tests/interop/install.sh");
            return None;
        }
        let mut child = std::process::Command::new("python3")
            .arg(tests.join("interop/peer.py"))
            .arg(&installed)
            .arg(setup.word())
            .arg(LIFETIME)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let stdout = child.stdout.take().expect("standard output");
        let (sender, lines) = unbounded_channel();
        std::thread::spawn(move || {
            use std::io::BufRead;
            for line in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut peer = Peer { child, lines, setup, path: String::new() };
        let ready = peer.next_line();
        assert_eq!(ready["event"], "ready", "{ready}");
        peer.path = ready["path"].as_str().expect("a path").to_owned();
        Some(peer)
    }

    /// Its session description.
    pub fn description(&self, direction: &str) -> Bytes {
        let first = self.path.split(' ').next().unwrap_or_default();
        let place = first.trim_start_matches("msrp://").split('/').next().unwrap_or_default();
        let (host, port) = place.rsplit_once(':').expect("host and port");
        let port = if self.setup == Setup::Active { "9" } else { port };
        format!(
            "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=message {port} TCP/MSRP *\r\n\
             a=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\na=path:{}\r\na=setup:{}\r\na={direction}\r\n",
            self.path,
            self.setup.word()
        )
        .into()
    }

    /// Tells it our path, from our offer or answer.
    pub async fn connect(&mut self, described: &SipMessage) {
        let ours = MsrpDescription::parse(&described.body(), false).expect("an MSRP description");
        self.say(&json!({ "remote_path": ours.path.to_string() }));
    }

    /// Sends a message and waits until it is acknowledged and reported.
    pub async fn send(&mut self, body: &[u8]) {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(body).expect("a file");
        let path: PathBuf = file.path().to_owned();
        let id = format!("m{}", body.len());
        self.say(&json!({ "send": { "file": path, "content_type": "message/cpim", "message_id": id } }));
        let (mut answered, mut reported) = (false, false);
        while !(answered && reported) {
            let event = self.event(&["response", "report"]).await;
            if event["message_id"] != id.as_str() {
                continue;
            }
            match event["event"].as_str() {
                Some("response") => {
                    assert_eq!(event["code"], 200, "{event}");
                    answered = true;
                }
                _ => {
                    assert!(event["status"].to_string().contains("200"), "{event}");
                    reported = true;
                }
            }
        }
    }

    /// The next message that it received: size, Content-Type and SHA-256.
    pub async fn received(&mut self) -> (u64, String, String) {
        let event = self.event(&["message"]).await;
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (event["size"].as_u64().unwrap_or(0), text("content_type"), text("sha256"))
    }

    /// The next event of one of these kinds; an error fails the story.
    async fn event(&mut self, kinds: &[&str]) -> Value {
        loop {
            let line = in_time("a word of the peer", self.lines.recv()).await.expect("a peer that goes on");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            let kind = event["event"].as_str().unwrap_or_default();
            assert!(kind != "error" && kind != "aborted", "{event}");
            if kinds.contains(&kind) {
                return event;
            }
        }
    }

    fn next_line(&mut self) -> Value {
        let line = self.lines.blocking_recv().expect("a word of the peer");
        serde_json::from_str(&line).expect("JSON")
    }

    fn say(&mut self, line: &Value) {
        let input = self.child.stdin.as_mut().expect("standard input");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("a peer that listens");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
