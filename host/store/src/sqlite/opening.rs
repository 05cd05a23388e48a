//! What a start does before the threads run.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use restante_deferral::model::{BodyId, Timestamp};
use rusqlite::Connection;

use super::problem::is_want_of_room;
use super::users::Users;
use super::{OpenOptions, schema, time, wal};
use crate::StoreError;
use crate::spool::Spool;

/// The database and the bodies, of which everybody's numbers are known.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) spool: Spool,
    pub(super) users: Users,
}

/// Opens or makes both and brings them up to date.
pub(super) fn open(options: &OpenOptions, path: &Path, now: Timestamp) -> Result<Opened, StoreError> {
    open_or_fail(options, path, now).map_err(|error| without_room(error, path))
}

fn open_or_fail(options: &OpenOptions, path: &Path, now: Timestamp) -> Result<Opened, StoreError> {
    let spool_path = options.directory.join("spool");
    let file_error = |error| StoreError::File(options.directory.display().to_string(), error);
    let spool = Spool::open(&spool_path).map_err(file_error)?.on_lost_sync(options.fatal.clone());
    let mut connection = schema::open(path)?;
    if schema::is_new(&connection)? && !spool.is_empty().map_err(file_error)? {
        let (path, spool) = (path.display().to_string(), spool_path.display().to_string());
        return Err(StoreError::NoDatabase { path, spool });
    }
    let mut users = bring_up_to_date(&mut connection, options, path, &spool, now);
    if matches!(&users, Err(StoreError::Database(error)) if is_want_of_room(error)) {
        // What a WAL takes that was left is room, too. Each step above is whole or was not done.
        wal::empty_at_start(&connection)?;
        users = bring_up_to_date(&mut connection, options, path, &spool, now);
    }
    Ok(Opened { connection, spool, users: users? })
}

fn bring_up_to_date(
    connection: &mut Connection,
    options: &OpenOptions,
    path: &Path,
    spool: &Spool,
    now: Timestamp,
) -> Result<Users, StoreError> {
    schema::migrate(connection, path)?;
    sweep(connection, spool).map_err(|error| StoreError::File(options.directory.display().to_string(), error))?;
    connection.execute("DELETE FROM registration WHERE registered_until <= ?", [time(now)])?;
    wake_the_reachable(connection, now)?;
    Ok(Users::open(connection, options.max_known_users)?)
}

/// Its own entry in the directory above is made durable, too.
pub(super) fn make_private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

pub(super) fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file_error = |error| StoreError::File(path.display().to_string(), error);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(file_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(directory.display().to_string())),
        Err(std::fs::TryLockError::Error(error)) => Err(file_error(error)),
    }
}

/// Says what to do where that is known.
fn without_room(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Database(error) | StoreError::Open(_, error) if is_want_of_room(&error) => {
            StoreError::NoRoom(path.display().to_string(), error)
        }
        error => error,
    }
}

/// Removes bodies without a row, and complains about rows without a body.
fn sweep(connection: &Connection, spool: &Spool) -> std::io::Result<()> {
    let known = known_bodies(connection).map_err(std::io::Error::other)?;
    let removed = spool.sweep(&known)?;
    if removed > 0 {
        tracing::info!(removed, "removed bodies without a message");
    }
    let missing = known.iter().filter(|id| !spool.exists(**id)).count();
    if missing > 0 {
        tracing::error!(missing, "body files of messages are missing");
    }
    Ok(())
}

fn known_bodies(connection: &Connection) -> rusqlite::Result<HashSet<BodyId>> {
    let mut statement = connection.prepare("SELECT body_id FROM message WHERE body_id IS NOT NULL")?;
    let rows = statement.query_map([], |row| Ok(BodyId(u128::from_be_bytes(row.get(0)?))))?;
    rows.collect()
}

/// After a start nobody is being delivered to: whoever has messages and a registration is looked at, and whoever has
/// messages but nothing to wait for.
fn wake_the_reachable(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO wake SELECT user, ?1 FROM registration
         WHERE registered_until > ?1 AND EXISTS (SELECT 1 FROM place WHERE recipient = user)",
        [time(now)],
    )?;
    // Every recipient is found by one look into the order of recipients, not by reading all places.
    connection.execute(
        "WITH RECURSIVE waiting (recipient) AS (
             SELECT min(recipient) FROM place
             UNION ALL
             SELECT (SELECT min(place.recipient) FROM place WHERE place.recipient > waiting.recipient)
             FROM waiting WHERE waiting.recipient IS NOT NULL)
         INSERT INTO wake SELECT recipient, ?1 FROM waiting
         WHERE recipient IS NOT NULL AND recipient NOT IN (SELECT user FROM wake)",
        [time(now)],
    )?;
    Ok(())
}
