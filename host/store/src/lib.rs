//! What survives: messages, registrations, preferences. SQLite and body files.
//!
//! * [`Store`]: the promise.
//! * [`sqlite`]: one writer thread that commits whatever waits in one transaction; readers beside it.
//! * [`spool`]: large bodies as files.
//! * [`memory`]: a fake for tests whose commits can be held back, refused and lost.

mod codec;
mod credentials;
pub mod memory;
pub mod spool;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use restante_deferral::commit::{Applied, CommitError, LoadRequest, MessageState, Transaction, Window};
use restante_deferral::model::{
    AliasChange, CanonicalAddress, MessageId, Profile, ProfileChange, RecipientKey, StoredMessage, TenantName,
    Timestamp,
};
use thiserror::Error;

pub use credentials::UserCredentials;

/// Names an order given to a store: who gave it (a shard) and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The shard.
    pub shard: usize,
    /// Its number.
    pub token: u64,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Whose number.
    pub token: u64,
    /// How.
    pub outcome: Outcome,
}

/// What an order led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of [`Store::write`]: per change. An error means that nothing of it was done.
    Written(Result<Vec<Applied>, CommitError>),
    /// Of [`Store::save`].
    Saved(Result<Saved, CommitError>),
    /// Of [`Store::load`].
    Loaded(Result<Box<Window>, CommitError>),
}

/// Takes completions: one batch per shard and commit. Called on a thread of the store; must not block.
pub type Sink = Arc<dyn Fn(usize, Vec<Completion>) + Send + Sync>;

/// Told when the disk cannot be trusted any more, and why.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Something besides messages that is kept of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The user's registrations, in a form of the caller's, and when the last of them ends; none: no registration.
    Registration(Option<SavedRegistration>),
    /// Preferences and aliases, in place of those before.
    Profile(Profile),
    /// A change of them; what it does not name stays, whoever else changed it since it was looked at.
    ProfileChange(ProfileChange),
    /// The same, by which names of others become the user's: they lose them when it gets them, or nothing is kept of
    /// it.
    Takeover(Takeover),
    /// What waits under another name of the user comes to its queue.
    Adoption(Adoption),
    /// What the user authenticates with, in place of what was before; none: nothing.
    Credentials(Option<UserCredentials>),
}

/// Names that were others' become a user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// What is to be different with the user.
    pub change: ProfileChange,
    /// Who loses which name.
    pub from: Vec<(RecipientKey, String)>,
}

impl Takeover {
    /// The changes of the others.
    pub fn losses(&self) -> impl Iterator<Item = (&RecipientKey, ProfileChange)> {
        self.from.iter().map(|(other, name)| {
            let aliases = AliasChange::Remove(vec![name.clone()]);
            (other, ProfileChange { aliases, ..ProfileChange::default() })
        })
    }
}

/// A user's queue takes in what waits under another name of the same tenant, as far as that name is the user's: the profile
/// says so when this is carried out, or the configuration does. Messages keep their numbers, and so their order.
///
/// It takes the first [`Adoption::MAX_MESSAGES`] in delivery order, so that nobody else's order waits long behind it;
/// [`Adopted::more`] says that another order is needed. The last of them also takes over the preferences kept under the
/// name where the user has none. Registrations are left alone: they are the caller's. So are
/// credentials: whoever has them is still who they were given to.
///
/// Nobody may be at work on what waits under the name, or know it, from when this is ordered to when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The name.
    pub alias: CanonicalAddress,
    /// The configuration says that it is the user's.
    pub is_configured: bool,
    /// When the user is to be looked at, if anything came.
    pub wake_at: Timestamp,
}

impl Adoption {
    /// Messages that one order moves at most.
    pub const MAX_MESSAGES: usize = 1_000;
}

/// What [`Store::save`] led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A registration, a profile or credentials are kept.
    Kept,
    /// Of a [`ProfileChange`], or a [`Takeover`]: the profile as it is now.
    Profile(Profile),
    /// Of an [`Adoption`].
    Adopted(Adopted),
}

/// What an [`Adoption`] led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Messages and dispositions that came.
    pub messages: usize,
    /// More wait under the name.
    pub more: bool,
    /// The user's profile took something over.
    pub changes_profile: bool,
}

/// A user's registrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRegistration {
    /// As the caller writes them.
    pub bytes: Vec<u8>,
    /// When the last binding ends.
    pub expires_at: Timestamp,
}

/// Stored messages of one party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages; dispositions are not counted, but where it is said that they are.
    pub messages: u32,
    /// Their bytes.
    pub size_bytes: u64,
}

/// Why a store cannot be opened or read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Made by a later version of the program.
    #[error("{path} was written by a newer version of this program: its schema is {found}, this program knows {known}")]
    Newer {
        /// The file.
        path: String,
        /// Its schema version.
        found: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// Another process has it.
    #[error("{0} is in use by another process")]
    InUse(String),
    /// Made with a number of partitions that this program cannot serve.
    #[error("{path} has {found} partitions, this program serves one")]
    Partitions {
        /// The file.
        path: String,
        /// How many it has.
        found: i64,
    },
    /// The database is gone, what belongs to its messages is not.
    #[error(
        "{path} is missing or empty, but {spool} holds bodies of messages, which would be removed: put the database back \
         beside them, or move {spool} away to begin without them"
    )]
    NoDatabase {
        /// The file.
        path: String,
        /// The directory of the bodies.
        spool: String,
    },
    /// The database needs some room to be opened, and there is none.
    #[error("{0}: there is no room to open it: make some on its disk, 16 MiB or more, and start again ({1})")]
    NoRoom(String, rusqlite::Error),
    /// The database cannot be opened.
    #[error("{0}: {1}")]
    Open(String, rusqlite::Error),
    /// Something that is stored cannot be read.
    #[error("damaged record: {0}")]
    Damaged(&'static str),
    /// The database says so.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file system says so.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
}

impl StoreError {
    /// It is about one row that was read, and says nothing of others.
    #[must_use]
    pub fn is_of_one_row(&self) -> bool {
        match self {
            StoreError::Damaged(_) => true,
            // Not SQLite's word, but about a value that it gave.
            StoreError::Database(error) => error.sqlite_error().is_none(),
            _ => false,
        }
    }
}

/// Which messages an operator wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this tenant's.
    pub tenant: Option<TenantName>,
    /// Only this recipient's.
    pub recipient: Option<RecipientKey>,
    /// After this one in order of arrival.
    pub after: Option<MessageId>,
}

/// The promise.
///
/// * An order that completed without an error is durable: it outlives the process and the machine's power.
/// * Orders are carried out in the order they were given, each whole or not at all.
/// * A message is stored once per deduplication key within the deduplication window, also after it was removed. What one
///   order inserts is known to the next. A message with two keys is a repetition when either was stored, and stores both.
/// * An order that fails takes nobody with it, except when the disk does: then everything that was to be committed with it
///   fails. After [`CommitError::Full`] the store goes on when there is room; orders that settle, and records of
///   users, have the last of it.
/// * When an fsync fails the process has to end; nothing is said about the orders it was for.
/// * A load sees what was committed before it is carried out; orders given before it may still be on their way. Of what is
///   expired or due the first to become so are given, in delivery order.
/// * A row whose body is a file exists only while the file does: the file is durable before the row, and removed after it.
/// * After a crash there may be files without a row; they are removed when the store is opened.
/// * A message that cannot be read, because the disk changed it, is left out of what is loaded and listed, and no longer
///   looked for; it takes no other with it. It is removed as any other.
/// * Numbers of messages rise with the order of arrival and are never used again, also when they change queues.
/// * A profile is changed where a change says so and nowhere else; an adoption moves a message with all that is known of
///   it, so that at every moment it waits in one queue and counts in one sum.
///
/// Completions come through the [`Sink`], not from these calls, none of which waits for the disk.
pub trait Store: Send + Sync {
    /// Orders changes of messages.
    ///
    /// # Errors
    /// [`CommitError::Overloaded`]: too much waits; nothing was ordered.
    fn write(&self, ticket: Ticket, transaction: Transaction) -> Result<(), CommitError>;

    /// Orders that a record of a user be kept or changed.
    ///
    /// # Errors
    /// [`CommitError::Overloaded`]
    fn save(&self, ticket: Ticket, user: RecipientKey, record: Record) -> Result<(), CommitError>;

    /// Orders part of a queue to be read.
    ///
    /// # Errors
    /// [`CommitError::Overloaded`]
    fn load(&self, ticket: Ticket, recipient: RecipientKey, request: LoadRequest) -> Result<(), CommitError>;

    /// How long the oldest order for writing waits already.
    fn oldest_write_age(&self) -> Duration;

    /// Whether the disk has no room for further messages: they fail with [`CommitError::Full`].
    fn is_full(&self) -> bool {
        false
    }

    /// What is stored for a user, and of what the user sent: from memory after the first time.
    fn totals(&self, user: &RecipientKey) -> (Totals, Totals);

    /// What is stored in a whole tenant.
    fn tenant_totals(&self, tenant: &TenantName) -> Totals;

    /// The dispositions beside that, which no other sum counts, reports of ours among them.
    fn tenant_dispositions(&self, tenant: &TenantName) -> Totals;

    /// Messages, and dispositions, of all tenants together.
    fn all_totals(&self) -> (Totals, Totals);

    /// Users whose `WakeAt` has come, at most `limit`. Blocks on the disk. While there are more, the next call goes on
    /// after the last one, so that alarms that are left to ring hide no others; then it begins again.
    ///
    /// # Errors
    /// [`StoreError`]
    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecipientKey>, StoreError>;

    /// Users for whom something is stored, in pages: `after` is the last user of the page before. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn recipients(&self, after: Option<u64>, limit: usize) -> Result<Vec<(u64, RecipientKey)>, StoreError>;

    /// Whether anything is stored for a user, dispositions included, which [`Store::totals`] leaves out. Blocks; where the
    /// disk cannot be read, it is said that there is.
    fn has_messages(&self, user: &RecipientKey) -> bool;

    /// All registrations that last beyond `now`, in pages: `after` is the last user of the page before. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn registrations(
        &self,
        now: Timestamp,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, RecipientKey, SavedRegistration)>, StoreError>;

    /// A user's registrations, ended ones included while they are kept. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn registration(&self, user: &RecipientKey) -> Result<Option<SavedRegistration>, StoreError>;

    /// All users with a profile. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn profiles(&self) -> Result<Vec<(RecipientKey, Profile)>, StoreError>;

    /// A user's profile. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn profile(&self, user: &RecipientKey) -> Result<Profile, StoreError>;

    /// What all users authenticate with. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn credentials(&self) -> Result<Vec<(RecipientKey, UserCredentials)>, StoreError>;

    /// Messages in order of arrival, their bodies left out, with the size of each body. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<(StoredMessage, u64)>, StoreError>;

    /// One message, its body left out, with the size of the body. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn show(&self, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError>;

    /// Whose message this is, also where it cannot be read itself. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    fn recipient_of(&self, id: MessageId) -> Result<Option<RecipientKey>, StoreError>;
}

/// Makes a message what a state says became of it.
pub(crate) fn apply_state(message: &mut StoredMessage, state: MessageState) {
    message.attempts = state.attempts;
    message.not_before = state.not_before;
    message.last_failure = state.last_failure;
    message.page_refused = state.page_refused;
    message.large_refused = state.large_refused;
    message.notified_at = state.notified_at;
    message.fetch_deadline = state.fetch_deadline;
    message.push_after_deadline = state.push_after_deadline;
    message.message.expires_at = state.expires_at;
    message.message.hand_over_to = state.hand_over_to;
    message.devices = state.devices;
}
