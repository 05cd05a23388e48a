//! A core that answers 403 and 404 to everything for ten minutes and then recovers, with the standard policy as it ships, a
//! server that is killed after five of them, and a real disk.
//!
//! `make endurance`, or `cargo bench --workspace --locked --bench outage -- [--seconds N]`

use std::process::ExitCode;
use std::time::Duration;

use restante_tests::Outage;

/// The standard policy waits 30 s, 2 min, 10 min and an hour: ten minutes after the first attempt the last but one is under
/// way.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let seconds = std::env::args().skip_while(|argument| argument != "--seconds").nth(1);
    let lasts = seconds.and_then(|seconds| seconds.parse().ok()).map_or(TEN_MINUTES, Duration::from_secs);
    let outage = Outage { lasts, settings: "", longest_wait: LONGEST_WAIT, recipients: 10 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let figures = runtime.block_on(outage.happens());
    println!("{figures}");
    let is_kept = figures.lost == 0 && figures.too_many == 0 && figures.overtaken == 0;
    let is_told = figures.reported == figures.to_be_reported && figures.accepted == figures.delivered + figures.expired;
    if is_kept && is_told { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
