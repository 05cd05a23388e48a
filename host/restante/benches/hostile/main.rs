//! What a tenant with a hostile policy costs another tenant, and how soon a loop is stopped.
//!
//! `make bench`, or `cargo bench --workspace --locked --bench hostile -- [--rounds N]`
//!
//! The server is the binary in a process of its own. Each hostile policy is live for a tenant, to which messages come at a
//! steady rate in every second phase; in all phases people of another tenant send each other messages, one after the other,
//! and each one's time is taken from the sending to the arrival at the recipient's client. What is promised of an idle
//! machine cannot be seen on a busy one.

mod conversation;
#[path = "../server.rs"]
mod server;
mod stopping;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use self::conversation::{Beside, Latencies};
use self::server::Server;

/// The other tenant may have twice its time alone, or so much more.
const MOST_MORE: Duration = Duration::from_millis(5);
/// A loop may run so much longer than its limit.
const MOST_LATE: Duration = Duration::from_millis(5);
/// What all policies together may add to the server's memory here; see docs/policies.md.
const MOST_BYTES_MORE: u64 = 256 << 20;

/// Components of `plugin/hostile`, and how they are told to behave.
const GUESTS: [(&str, &str); 19] = [
    ("hostile", "endless-loop"),
    ("loop-in-late-allocation", ""),
    ("loop-after-answer", ""),
    ("endless-log", ""),
    ("hostile", "memory-bomb"),
    ("hostile", "memory-touch"),
    ("table-bomb", ""),
    ("hostile", "recursion"),
    ("hostile", "trap"),
    ("hostile", "giant-list"),
    ("hostile", "aliased-strings"),
    ("hostile", "log-flood"),
    ("hostile", "ten-thousand-steps"),
    ("hostile", "others-messages"),
    ("hostile", "same-twice"),
    ("hostile", "negative"),
    ("hostile", "not-a-number"),
    ("hostile", "unknown-message"),
    ("wild-allocation", ""),
];

fn main() -> Result<()> {
    let rounds = argument("--rounds").unwrap_or(4);
    let directory = tempfile::Builder::new().prefix("restante-hostile").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let late = stopping::say_how_late()?;
    let server = Server::start(directory.path(), &tenants(), "error")?;
    let idle_bytes = server.peak_memory_bytes()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = tokio::task::LocalSet::new().block_on(&runtime, beside_each(&server, rounds))?;
    let mut good = late <= MOST_LATE;
    for Measured { name, alone, beside, peak_bytes } in measured {
        let is_spared = beside.p99 <= (alone.p99 * 2).max(alone.p99 + MOST_MORE);
        let more_bytes = peak_bytes.saturating_sub(idle_bytes);
        good &= is_spared && more_bytes <= MOST_BYTES_MORE;
        println!(
            "{name:<26} alone {:>6.2} / {:>6.2} ms   beside {:>6.2} / {:>6.2} ms   memory {:+.1} MiB{}",
            milliseconds(alone.p50),
            milliseconds(alone.p99),
            milliseconds(beside.p50),
            milliseconds(beside.p99),
            more_bytes as f64 / f64::from(1 << 20),
            if is_spared { "" } else { "   MISSED" }
        );
    }
    server.stop()?;
    println!(
        "{}: a loop is stopped {MOST_LATE:?} after its limit at most (p99); the other tenant's p99 is at most twice that \
         alone, or {MOST_MORE:?} more; at most {} MiB more than at the start",
        if good { "reached" } else { "MISSED" },
        MOST_BYTES_MORE >> 20
    );
    anyhow::ensure!(good, "the figures are not those that were promised");
    Ok(())
}

/// Of one policy.
struct Measured {
    name: String,
    /// The other tenant's times alone.
    alone: Latencies,
    /// And beside it.
    beside: Latencies,
    /// The server's memory at most.
    peak_bytes: u64,
}

async fn beside_each(server: &Server, rounds: u32) -> Result<Vec<Measured>> {
    println!("end to end, p50 / p99 of the other tenant");
    let mut measured = Vec::new();
    let mut people = Beside::start(server.sip).await?;
    for (component, behaviour) in GUESTS {
        server.forget_peak();
        let (alone, beside) = people.measure(&domain(component, behaviour), rounds).await?;
        measured.push(Measured {
            name: tenant(component, behaviour),
            alone,
            beside,
            peak_bytes: server.peak_memory_bytes()?,
        });
    }
    people.stop().await;
    Ok(measured)
}

fn tenant(component: &str, behaviour: &str) -> String {
    if behaviour.is_empty() { component.to_owned() } else { behaviour.to_owned() }
}

fn domain(component: &str, behaviour: &str) -> String {
    format!("{}.example.com", tenant(component, behaviour))
}

/// `example.org` with the embedded policy, and one for each of [`GUESTS`].
fn tenants() -> String {
    let guests = Path::new(restante_policy::hostile::PATH).parent().unwrap_or(Path::new("."));
    let mut text = "[tenants.other]\ndomains = [\"example.org\"]\ntrust = [\"127.0.0.0/8\"]\n".to_owned();
    for (component, behaviour) in GUESTS {
        let policy = guests.join(format!("{component}.wasm")).display().to_string();
        let _ = write!(
            text,
            "[tenants.{name}]\ndomains = [{domain:?}]\ntrust = [\"127.0.0.0/8\"]\npolicy = {policy:?}\n",
            name = tenant(component, behaviour),
            domain = domain(component, behaviour),
        );
        if !behaviour.is_empty() {
            let _ = writeln!(text, "settings = {{ behaviour = {behaviour:?} }}");
        }
    }
    text
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn argument(name: &str) -> Option<u32> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)?.parse().ok()
}
