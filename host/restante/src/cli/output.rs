//! Standard output of commands: who reads no more, as `head` does, ends a command quietly.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Writes, and ends the process when that cannot be.
pub fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("restante: cannot write: {error}");
            std::process::exit(1);
        }
    }
}

/// Whether an error says that nobody reads any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe))
}

/// A line on standard output.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::cli::output::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

pub(crate) use say;
