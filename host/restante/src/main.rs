//! The `restante` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    restante::cli::run()
}
