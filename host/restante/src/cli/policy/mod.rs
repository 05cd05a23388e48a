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
    /// Begin a policy of your own: a project that builds at once.
    New(new::Arguments),
    /// Make a component of the core module that a compiler wrote.
    Component(component::Arguments),
    /// Check that a server would take a policy, and that each hook answers.
    Check(check::Arguments),
    /// Put one question to a policy.
    Run(run::Arguments),
    /// Hold a policy to its cases.
    Test(test::Arguments),
    /// Measure what decisions cost.
    Bench(bench::Arguments),
    /// Show what a file is: digest, contract, imports, exports, who made it.
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
