//! The relay that our sessions go through (RFC 4976), where the operator named one: one connection that is kept, on which
//! AUTH is asked and renewed, and which all sessions share. Where several relays are named, or a name leads to several places,
//! the first is taken that is reached and takes us; when that is lost, or takes us no more, they are tried from the first on.
//!
//! | what comes from the relay | goes to |
//! |---|---|
//! | an answer to AUTH | [`AuthorizationClient`] |
//! | a request or response whose To-Path is a session of ours | that session, as if it had a connection of its own |
//! | anything else | a SEND gets 481, all else is dropped |
//!
//! Deviation: a relay that is named with `msrp:` is asked in the clear, where RFC 4976 §9.2 demands TLS: in a closed network there
//! are such. At start it is warned of.
//!
//! A session has one end of a stream in memory; what it writes is passed on frame by frame, so that the chunks of several
//! sessions never mix. A session that does not read holds up all others, which one connection cannot do without: see
//! [`patience`]. When the connection is lost all sessions on it lose theirs, and the link connects again.

mod credentials;
mod patience;
mod running;
mod sorting;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use restante_msrp::uri::MsrpUri;
use restante_transport::Tls;
use restante_transport::resolution::Names;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::credentials::Password;
use self::running::{Link, Relay};
use crate::configuration::MsrpRelay;

/// Bytes between a session and the link, each way.
const PIPE_BYTES: usize = 128 * 1024;
/// Sessions that wait to be known to the link.
const MAX_WAITING: usize = 1_024;
/// Time for the relay to take what is written.
const STALL: Duration = Duration::from_secs(30);

/// What sessions see of it.
pub(super) struct RelayLink {
    is_secure: bool,
    known: Arc<Mutex<Option<Grant>>>,
    attach: mpsc::Sender<Attached>,
    task: JoinHandle<()>,
}

/// What the relay granted.
#[derive(Clone, Debug)]
struct Grant {
    use_path: Vec<MsrpUri>,
    until: Instant,
}

/// A session that begins to use the link.
struct Attached {
    session_id: String,
    stream: DuplexStream,
    /// Whether somebody reads it yet.
    has_begun: Arc<AtomicBool>,
}

impl RelayLink {
    /// Starts it, where there are relays; must be called on a runtime.
    ///
    /// # Errors
    /// A password cannot be read.
    pub(super) fn start(relays: &[MsrpRelay], tls: Arc<Tls>, names: Arc<Names>) -> Result<Option<RelayLink>> {
        let relays = read(relays)?;
        let Some(first) = relays.first() else { return Ok(None) };
        let is_secure = first.uri.secure;
        let known = Arc::<Mutex<Option<Grant>>>::default();
        let (attach, attached) = mpsc::channel(MAX_WAITING);
        let link = Link::new(relays, (tls, names), known.clone());
        Ok(Some(RelayLink { is_secure, known, attach, task: tokio::spawn(link.run(attached)) }))
    }

    /// Whether its connections are encrypted.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// What stands before a session's own URI in its path, as long as the relay takes us.
    pub(super) fn use_path(&self) -> Option<Vec<MsrpUri>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|grant| grant.until > Instant::now()).map(|grant| grant.use_path.clone())
    }

    /// The stream of a session, which says when it begins to read. None: too many wait.
    pub(super) fn attach(&self, session_id: &str, has_begun: Arc<AtomicBool>) -> Option<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let attached = Attached { session_id: session_id.to_owned(), stream: theirs, has_begun };
        self.attach.try_send(attached).ok().map(|()| ours)
    }
}

/// Whether the passwords for all of them can be read.
///
/// # Errors
/// One cannot be.
pub(super) fn check(relays: &[MsrpRelay]) -> Result<()> {
    read(relays).map(drop)
}

fn read(relays: &[MsrpRelay]) -> Result<Vec<Relay>> {
    let read = |relay: &MsrpRelay| {
        let password = Password::read(relay).with_context(|| "msrp.relay.password_file")?;
        Ok(Relay { uri: relay.uri.0.clone(), password })
    };
    relays.iter().map(read).collect()
}

impl Drop for RelayLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
