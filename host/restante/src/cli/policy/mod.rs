//! `restante policy`: make, try, test and compare policies. Each command has a file.

mod new;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Begin a policy of your own: a project that builds at once.
    New(new::Arguments),
}

/// # Errors
/// What cannot be read, used or written.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::New(arguments) => new::run(&arguments),
    }
}
