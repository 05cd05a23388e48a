//! What goes wrong with an order, and whom else it concerns.

use restante_deferral::commit::CommitError;
use rusqlite::ErrorCode;

/// Why an order was not carried out.
#[derive(Debug)]
pub(super) enum Problem {
    /// The database says so.
    Database(rusqlite::Error),
    /// Its body is not there.
    NoBody,
    /// What it would change cannot be read.
    Damaged(String),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Problem {
        Problem::Database(error)
    }
}

impl Problem {
    /// It is about this order alone: others may succeed.
    pub(super) fn is_of_one_order(&self) -> bool {
        match self {
            Problem::NoBody | Problem::Damaged(_) => true,
            Problem::Database(error) => matches!(
                error.sqlite_error_code(),
                None | Some(
                    ErrorCode::TooBig
                        | ErrorCode::ConstraintViolation
                        | ErrorCode::TypeMismatch
                        | ErrorCode::ParameterOutOfRange
                )
            ),
        }
    }

    /// A page is damaged, which others need not touch. The transaction can do nothing more.
    pub(super) fn is_damaged_page(&self) -> bool {
        matches!(self, Problem::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt))
    }

    /// SQLite itself says that there is no room: on the disk, or within its bound.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Problem::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }

    /// See [`is_want_of_room`].
    pub(super) fn is_want_of_room(&self) -> bool {
        matches!(self, Problem::Database(error) if is_want_of_room(error))
    }

    /// An fsync that failed: what the kernel dropped then is not known, although a later one may succeed.
    pub(super) fn is_lost_sync(&self) -> bool {
        matches!(self, Problem::Database(error) if is_lost_sync(error))
    }

    pub(super) fn as_commit_error(&self) -> CommitError {
        if self.is_want_of_room() { CommitError::Full } else { CommitError::Failed }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Database(error) => error.fmt(formatter),
            Problem::NoBody => formatter.write_str("the file of a body is missing"),
            Problem::Damaged(text) => formatter.write_str(text),
        }
    }
}

/// See [`Problem::is_lost_sync`].
pub(super) fn is_lost_sync(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    error.sqlite_error().is_some_and(|error| matches!(error.extended_code, SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC))
}

/// There is no room, or it may be that: SQLite knows no quotas and calls them, and an index of the WAL that cannot grow,
/// errors of the disk.
pub(super) fn is_want_of_room(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::DiskFull || matches!(error.extended_code, SQLITE_IOERR_WRITE | SQLITE_IOERR_SHMSIZE)
    })
}
