//! What a running server does per second and what it costs, beside what this machine can do at all.
//!
//! `make bench`, or `cargo bench --workspace --locked --bench throughput -- [--messages N] [--megabytes N] [--decisions]`
//!
//! With `--decisions` only what a decision costs.
//!
//! The server is the binary in a process of its own, with the embedded policy, a real disk and the sockets of loopback;
//! this process is the senders and the devices, on the same cores. CPU is that of the server's process alone.

mod decisions;
mod large;
mod machine;
mod page;
#[path = "../server.rs"]
mod server;

use std::time::Duration;

/// What the figures must reach.
const LEAST_STORED_PER_SECOND: f64 = 5_000.0;
const MOST_MICROS_PER_STORED: f64 = 130.0;

/// Everything waits in page mode and goes out one by one: the figures are those of single messages.
const TABLES: &str = r#"
[limits]
max_large_body_bytes = 2000000000
[tenants.bench]
domains = ["example.org"]
trust = ["127.0.0.0/8"]
[tenants.bench.settings]
few = 100
recipient_quota = { messages = 1000000, bytes = 10000000000 }
sender_quota = { messages = 10000000, bytes = 10000000000 }
"#;

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|word| word == "--decisions") {
        return decisions::compare();
    }
    let messages = argument("--messages").unwrap_or(60_000);
    let megabytes = argument("--megabytes").unwrap_or(200);
    let directory = tempfile::Builder::new().prefix("restante-bench").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;

    let echo = machine::udp_echo(Duration::from_secs(2))?;
    println!(
        "udp echo        {:>8.0} /s    {:>6.1} CPU µs each   (receive and send, nothing else)",
        echo.per_second, echo.micros
    );
    let sync = machine::fdatasync(directory.path(), Duration::from_secs(2))?;
    println!("fdatasync       {:>8.0} /s    one 1 KiB write each", sync);

    let server = server::Server::start(directory.path(), TABLES, "info,restante=warn")?;
    let stored = page::store(&server, messages)?;
    println!(
        "stored          {:>8.0} /s    {:>6.1} CPU µs each   {messages} MESSAGEs, 202 awaited by {}",
        stored.per_second,
        stored.micros,
        page::WINDOW
    );
    println!(
        "                slowest 202 {} ms, 99 % within {:.1} ms, sent again {}",
        stored.slowest.as_millis(),
        stored.p99.as_secs_f64() * 1e3,
        stored.sent_again
    );
    let delivered = page::deliver(&server, messages)?;
    println!(
        "delivered       {:>8.0} /s    {:>6.1} CPU µs each   one in flight per contact, {} contacts",
        delivered.per_second,
        delivered.micros,
        page::RECIPIENTS
    );
    println!("                lost {}, repeated {}", delivered.lost, delivered.repeated);
    println!("decisions       {}", decisions_in(&server.metrics()?));
    let large = large::exchange(&server, megabytes)?;
    println!(
        "MSRP in         {:>8.0} MB/s  durable before it is acknowledged, {megabytes} MB",
        large.in_megabytes_per_second
    );
    println!("MSRP out        {:>8.0} MB/s", large.out_megabytes_per_second);
    println!("memory          {:>8} MB at most", server.peak_memory_bytes()? / 1_000_000);
    server.stop()?;

    println!();
    decisions::compare()?;
    println!();
    println!(
        "stored: {:.1} echoes of CPU, {:.1} messages per fdatasync of this disk",
        stored.micros / echo.micros,
        stored.per_second / sync
    );
    let good = stored.per_second >= LEAST_STORED_PER_SECOND && stored.micros <= MOST_MICROS_PER_STORED;
    println!(
        "{}: at least {LEAST_STORED_PER_SECOND:.0} stored per second at most {MOST_MICROS_PER_STORED:.0} CPU µs each",
        if good { "reached" } else { "MISSED" }
    );
    anyhow::ensure!(good && delivered.lost == 0, "the figures are not those that were promised");
    Ok(())
}

fn argument(name: &str) -> Option<u32> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)?.parse().ok()
}

/// How long its decisions took so far, as its metrics say.
fn decisions_in(metrics: &str) -> String {
    let value = |name: &str, hook: &str| -> f64 {
        let start = format!("restante_{name}{{");
        let label = format!("hook=\"{hook}\"");
        let line = metrics.lines().find(|line| line.starts_with(&start) && line.contains(&label));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    };
    let figures = ["on-incoming", "on-available"].map(|hook| {
        let asked = value("policy_decisions_total", hook);
        let micros = value("policy_decision_seconds_total", hook) * 1e6;
        format!("{hook} {:.0} at {:.0} µs", asked, if asked > 0.0 { micros / asked } else { 0.0 })
    });
    figures.join(", ")
}
