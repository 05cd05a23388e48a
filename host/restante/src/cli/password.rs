//! Passwords, from files, the environment or a person. None comes from the command line, where everybody could see it.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;
use tokio::signal::unix::{SignalKind, signal};

/// Longest password, in bytes.
const MAX_PASSWORD_BYTES: u64 = 1024;

/// What says it where no file does.
pub const VARIABLE: &str = "RESTANTE_PASSWORD";

/// As [`given`], else from standard input, asked for where that is a terminal.
///
/// # Errors
/// It cannot be read, or is empty, too long, or more than a line.
pub fn read(file: Option<&Path>) -> Result<String> {
    given(file, std::env::var_os(VARIABLE))?.map_or_else(|| checked(&line()?), Ok)
}

/// From a file without its line end, else from the environment, else none.
///
/// # Errors
/// It cannot be read, or is empty, too long, or more than a line.
pub fn given(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<String>> {
    match (file, variable) {
        (Some(file), _) => {
            let text = first_line(file).with_context(|| format!("--password-file {}", file.display()))?;
            checked(&text).map(Some)
        }
        (None, Some(variable)) => match variable.to_str() {
            Some(text) => checked(text).with_context(|| VARIABLE).map(Some),
            None => bail!("{VARIABLE}: expected UTF-8"),
        },
        (None, None) => Ok(None),
    }
}

/// Of what may be longer than any password.
fn first_line(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut limited = io::Read::take(std::fs::File::open(file)?, MAX_PASSWORD_BYTES + 2);
    io::Read::read_to_string(&mut limited, &mut text)?;
    Ok(text)
}

fn checked(text: &str) -> Result<String> {
    let password = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if password.is_empty() || password.len() as u64 > MAX_PASSWORD_BYTES || password.contains(['\r', '\n', '\0']) {
        bail!("expected a password of 1 to {MAX_PASSWORD_BYTES} bytes on one line");
    }
    Ok(password.to_owned())
}

/// Who a user is in Digest when nothing else is said: the user part of a SIP URI, the number of a tel URI.
#[must_use]
pub fn usual_username(address: &str) -> Option<String> {
    let name = canonical(&Uri::parse(address).ok()?)?;
    let rest = name.strip_prefix("sip:").or_else(|| name.strip_prefix("tel:"))?;
    Some(rest.split(['@', ';']).next().unwrap_or(rest).to_owned())
}

fn line() -> Result<String> {
    let stdin = io::stdin();
    let mut text = String::new();
    if !stdin.is_terminal() {
        io::Read::take(stdin.lock(), MAX_PASSWORD_BYTES + 2).read_line(&mut text)?;
        return Ok(text);
    }
    let _hidden = Hidden::begin()?;
    eprint!("Password: ");
    io::Read::take(stdin.lock(), MAX_PASSWORD_BYTES + 2).read_line(&mut text)?;
    eprintln!();
    Ok(text)
}

/// What is typed is not shown while this lives, and no longer: also where Ctrl-C ends the program.
struct Hidden;

/// Held by who changes the terminal: whoever ends the program changes it last.
static TERMINAL: Mutex<()> = Mutex::new(());

impl Hidden {
    fn begin() -> Result<Hidden> {
        show_at_signals()?;
        let _turn = terminal();
        stty("-echo");
        Ok(Hidden)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _turn = terminal();
        stty("echo");
    }
}

/// From now on the program ends at signals as it would without this, but what is typed is shown again then.
fn show_at_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let on = |kind| {
        let _entered = runtime.enter();
        signal(kind)
    };
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let (mut interrupted, mut terminated) = (on(interrupt)?, on(terminate)?);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let kind = runtime.block_on(async {
            tokio::select! {
                _ = interrupted.recv() => interrupt,
                _ = terminated.recv() => terminate,
            }
        });
        let _last_turn = terminal();
        stty("echo");
        eprintln!();
        // What a shell shows for a program that a signal ended.
        std::process::exit(kind.as_raw_value().saturating_add(128));
    })?;
    Ok(())
}

fn terminal() -> MutexGuard<'static, ()> {
    TERMINAL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stty(argument: &str) {
    // On a terminal that does not know it, what is typed is seen.
    let _ = Command::new("stty").arg(argument).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, expected) in [
            ("secret\n", Some("secret")),
            ("two words\r\n", Some("two words")),
            ("bare", Some("bare")),
            (" \n", Some(" ")),
            ("", None),
            ("\n", None),
            ("a\nb\n", None),
            (&"x".repeat(1025), None),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let found = given(Some(file.path()), Some("another".into())).ok().flatten();
            assert_eq!(found.as_deref(), expected, "{text:?}");
            // The environment says one where no file does.
            let found = given(None, Some(text.into())).ok().flatten();
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
        assert!(given(Some(Path::new("/nowhere/password")), Some("another".into())).is_err());
        assert_eq!(given(None, None).unwrap(), None);
    }

    #[test]
    fn a_username_is_what_stands_before_the_domain() {
        for (address, expected) in
            [("sip:Bob@Example.org:5070", "Bob"), ("tel:+1-555-0100", "+15550100"), ("sip:+1555@a.org", "+1555")]
        {
            assert_eq!(usual_username(address).as_deref(), Some(expected));
        }
        assert_eq!(usual_username("sip:example.org"), None);
    }
}
