//! Standard output of commands: who reads no more, as `head` does, ends a command quietly.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, StdoutLock, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use thiserror::Error;

/// What a command ends with that could not write all it had to say: 0 when nobody reads any more, else 1.
static UNTOLD: AtomicU8 = AtomicU8::new(0);

/// Of a command whose status says something: what it ends with when it cannot write.
pub fn set_untold(status: u8) {
    UNTOLD.store(status, Ordering::Relaxed);
}

/// Writes, and ends the process when that cannot be.
pub fn write(text: Arguments<'_>) {
    write_by(|out| out.write_fmt(text));
}

/// The same with bytes.
pub fn write_bytes(bytes: &[u8]) {
    write_by(|out| out.write_all(bytes));
}

fn write_by(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) {
    let mut out = io::stdout().lock();
    let status = i32::from(UNTOLD.load(Ordering::Relaxed));
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(status),
        Err(error) => {
            eprintln!("restante: cannot write: {error}");
            std::process::exit(status.max(1));
        }
    }
}

/// Nobody reads standard output any more. Another pipe that was closed, such as a server's connection, is something else.
#[derive(Debug, Error)]
#[error("the output was closed")]
struct ClosedOutput;

/// Standard output for those who give errors back.
#[derive(Clone, Copy, Debug)]
pub struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(of_output)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(of_output)
    }
}

fn of_output(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::BrokenPipe { io::Error::new(ErrorKind::BrokenPipe, ClosedOutput) } else { error }
}

/// Whether an error says that nobody reads [`Output`] any more.
pub fn is_closed(error: &anyhow::Error) -> bool {
    let says_so = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<ClosedOutput>());
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(says_so))
}

/// A line on standard output.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::cli::output::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

pub(crate) use say;

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn only_the_output_that_nobody_reads_ends_a_command_quietly() {
        let closed = || io::Error::from(ErrorKind::BrokenPipe);
        let output = Err::<(), _>(of_output(closed())).context("while it was shown").unwrap_err();
        let connection = Err::<(), _>(closed()).context("the server closed the connection").unwrap_err();
        let full = Err::<(), _>(of_output(ErrorKind::StorageFull.into())).context("a full disk").unwrap_err();
        assert_eq!([output, connection, full].each_ref().map(is_closed), [true, false, false]);
    }
}
