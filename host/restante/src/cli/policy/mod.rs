//! `restante policy`: make, try, test and compare policies. Each command has a file.

mod bench;
mod check;
mod comparison;
mod component;
mod inspect;
mod live;
mod new;
mod replay;
mod run;
mod subject;
mod test;
mod wasm;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a project for a policy of your own that builds at once.
    New(new::Arguments),
    /// Make a component from a compiler's core module.
    Component(component::Arguments),
    /// Check that a server would accept a policy, and that each hook answers.
    Check(check::Arguments),
    /// Ask a policy one question.
    Run(run::Arguments),
    /// Test a policy against its cases.
    Test(test::Arguments),
    /// Measure the cost of decisions.
    Bench(bench::Arguments),
    /// Show a component's digest, contract, imports, exports and producers.
    Inspect(inspect::Arguments),
    /// Show what another policy, or other settings, would have decided.
    Replay(replay::Arguments),
    #[command(flatten)]
    Live(live::Command),
}

/// # Errors
/// What cannot be read, used or written.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::New(arguments) => new::run(&arguments),
        Command::Component(arguments) => component::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Replay(arguments) => Ok(replay::run(&arguments)),
        Command::Live(command) => live::run(command),
    }
}
