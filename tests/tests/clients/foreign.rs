//! Programs of others, where `tests/clients/install.sh` unpacked them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use restante_tests::in_time;
use tokio::sync::mpsc;

/// Most lines of a program that wait to be read: one that runs wild is held up.
const MAX_LINES: usize = 1000;

/// Where the packages were unpacked; none, loudly, where they were not.
pub fn root() -> Option<PathBuf> {
    let place = unpacked("clients");
    if place.is_none() {
        skipped("see tests/clients/install.sh");
    }
    place.map(|place| place.join("root"))
}

/// A folder of `target` that packages were unpacked in.
pub fn unpacked(name: &str) -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    place.join("root").is_dir().then(|| place.canonicalize().ok()).flatten()
}

/// Says that a test is not run, past the test harness, which would keep it back.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED clients: {why}");
}

/// A command that finds its libraries and whose program ends with the thread that starts it.
pub fn command(root: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).env("LD_LIBRARY_PATH", libraries(root));
    command
}

/// The folders of the unpacked libraries.
pub fn libraries(root: &Path) -> String {
    let triplet = |folder: &str| {
        let folders = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        folders.map(|folder| folder.path()).find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
    };
    let usr = triplet("usr/lib").unwrap_or_default();
    let all = [usr.clone(), usr.join("pulseaudio"), triplet("lib").unwrap_or_default()];
    all.map(|path| path.display().to_string()).join(":")
}

/// A program that runs, and what it says. It is killed when this is dropped.
pub struct Foreign {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Foreign {
    /// Starts one.
    pub fn start(mut command: Command) -> Foreign {
        let command = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("setpriv runs");
        let (sender, lines) = mpsc::channel(MAX_LINES);
        let (stdout, stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let stdin = child.stdin.take().expect("a pipe");
        let other = sender.clone();
        std::thread::spawn(move || pass_on(stdout, &sender));
        std::thread::spawn(move || pass_on(stderr, &other));
        Foreign { child, stdin, lines, said: Vec::new() }
    }

    /// The next line that has this in it.
    pub async fn line_with(&mut self, part: &str) -> String {
        let what = format!("a line with {part:?}");
        let line = in_time(&what, async {
            while let Some(line) = self.lines.recv().await {
                self.said.push(line.clone());
                if line.contains(part) {
                    return Some(line);
                }
            }
            None
        });
        line.await.unwrap_or_else(|| panic!("the program ended before {part:?}: {:#?}", self.said))
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the program reads");
    }
}

fn pass_on(from: impl Read, to: &mpsc::Sender<String>) {
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        if to.blocking_send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // All that it started is a group of its own, named by the first of them.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}
