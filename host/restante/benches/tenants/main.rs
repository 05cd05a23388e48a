//! What a thousand tenants cost: the time of a start from the cache of compiled policies, and memory.
//!
//! `make bench`, or `cargo bench --workspace --locked --bench tenants -- [--tenants N] [--distinct]`
//!
//! The tenants share the embedded policy. With `--distinct` each has a component of its own besides, the embedded one with
//! a section that nobody reads: the same work for compiler and cache as a thousand different policies. Compiling them takes
//! some minutes, once; the figures are those of the next start.

#[path = "../server.rs"]
mod server;

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use self::server::Server;

/// What the figures must reach.
const MOST_START: Duration = Duration::from_secs(2);
const MOST_SHARED_BYTES: u64 = 64 << 20;
const MOST_DISTINCT_BYTES: u64 = 450 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server needs.
#[derive(Clone, Copy)]
struct Figures {
    /// From the process's begin until it serves.
    start: Duration,
    /// Memory then.
    started_bytes: u64,
    /// Memory when a message for each tenant was decided and stored.
    decided_bytes: u64,
}

fn main() -> Result<()> {
    let tenants = argument("--tenants").unwrap_or(1_000);
    let is_distinct = std::env::args().any(|word| word == "--distinct");
    let directory = tempfile::Builder::new().prefix("restante-tenants").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let idle = figures(directory.path(), "idle", 1, false)?;
    say("1 tenant", idle, None);
    let shared = figures(directory.path(), "shared", tenants, false)?;
    say(&format!("{tenants} tenants, one component"), shared, Some(idle));
    let mut good = is_within(shared, idle, MOST_SHARED_BYTES);
    if is_distinct {
        let distinct = figures(directory.path(), "distinct", tenants, true)?;
        say(&format!("{tenants} tenants, {tenants} components"), distinct, Some(idle));
        good &= is_within(distinct, idle, MOST_DISTINCT_BYTES);
    }
    let bound = |bytes: u64| bytes >> 20;
    println!(
        "{}: a start within {MOST_START:?}, at most {} MiB above one tenant on one component, {} MiB on many",
        if good { "reached" } else { "MISSED" },
        bound(MOST_SHARED_BYTES),
        bound(MOST_DISTINCT_BYTES)
    );
    anyhow::ensure!(good, "the figures are not those that were promised");
    Ok(())
}

/// Of the second start: the first one compiles.
fn figures(directory: &Path, name: &str, tenants: u32, is_distinct: bool) -> Result<Figures> {
    let place = directory.join(name);
    std::fs::create_dir(&place)?;
    let mut configuration = String::new();
    for number in 0..tenants {
        let policy = if is_distinct {
            let path = place.join(format!("policy-{number}.wasm"));
            std::fs::write(&path, component(number))?;
            format!("policy = {:?}\n", path.display().to_string())
        } else {
            String::new()
        };
        write!(
            configuration,
            "[tenants.t{number}]\ndomains = [\"t{number}.example\"]\ntrust = [\"127.0.0.0/8\"]\n{policy}"
        )?;
    }
    Server::start(&place, &configuration, "warn")?.stop()?;
    let server = Server::start(&place, &configuration, "warn")?;
    let started_bytes = server.memory_bytes()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for number in 0..tenants {
        message(&socket, server.sip, number)?;
    }
    let figures = Figures { start: server.start, started_bytes, decided_bytes: server.memory_bytes()? };
    server.stop()?;
    Ok(figures)
}

/// A message for somebody of this tenant is stored.
fn message(socket: &UdpSocket, server: SocketAddr, number: u32) -> Result<()> {
    let to = format!("sip:user@t{number}.example");
    let local = socket.local_addr()?;
    let request = format!(
        "MESSAGE {to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKt{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:somebody@t{number}.example>;tag=1\r\nTo: <{to}>\r\nCall-ID: t{number}\r\nCSeq: 1 MESSAGE\r\n\
         Content-Type: text/plain\r\nContent-Length: 4\r\n\r\ntext"
    );
    socket.send_to(request.as_bytes(), server)?;
    let mut answer = [0; 2_048];
    let length = socket.recv(&mut answer)?;
    let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned();
    anyhow::ensure!(answer.starts_with("SIP/2.0 202"), "{to}: {answer}");
    Ok(())
}

/// The embedded policy, made another one by a custom section (component model binary format, section 0).
fn component(number: u32) -> Vec<u8> {
    let name = b"number";
    let content = number.to_be_bytes();
    let mut bytes = restante_policy::standard::COMPONENT.to_vec();
    // Both lengths are below 128, which is one byte.
    let length = 1 + name.len() + content.len();
    bytes.extend([0, u8::try_from(length).unwrap_or(0), u8::try_from(name.len()).unwrap_or(0)]);
    bytes.extend(name);
    bytes.extend(content);
    bytes
}

fn say(what: &str, figures: Figures, idle: Option<Figures>) {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let above = |bytes: u64, idle: u64| {
        let more = mebibytes(bytes.saturating_sub(idle));
        if idle > 0 { format!(" ({more:.1} above one tenant)") } else { String::new() }
    };
    println!(
        "{what:<34} start {:>6.0} ms   memory {:.1} MiB{}, {:.1} MiB{} when each has decided",
        figures.start.as_secs_f64() * 1e3,
        mebibytes(figures.started_bytes),
        above(figures.started_bytes, idle.map_or(0, |idle| idle.started_bytes)),
        mebibytes(figures.decided_bytes),
        above(figures.decided_bytes, idle.map_or(0, |idle| idle.decided_bytes)),
    );
}

fn is_within(figures: Figures, idle: Figures, most_bytes: u64) -> bool {
    figures.start <= MOST_START && figures.decided_bytes.saturating_sub(idle.started_bytes) <= most_bytes
}

fn argument(name: &str) -> Option<u32> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)?.parse().ok()
}
