//! The relay for clients that cannot be connected to (RFC 7977): they open a WebSocket, show who they are with AUTH, and get
//! a session URI. What it passes on and how is [`restante_msrp::relay`]; here are the sockets.
//!
//! | peer | is reached |
//! |---|---|
//! | a session of this server | in memory, whoever of the two is active: nothing leaves the process |
//! | another client of this relay | in memory, too: two browsers send to each other |
//! | anybody who connects to the session URI | on that connection, which the MSRP listeners take; encrypted where the URI is, else it is answered 403 |
//! | another host | where `sip.allow_targets` allows its address; else the client gets a REPORT with 403 |
//!
//! Deviation: a `ws:` listener takes AUTH in the clear, where RFC 4976 §9.2 demands TLS: a proxy before it may have it. At start
//! it is warned of, unless it is on loopback.
//!
//! Every direction has room for a few frames. A peer that takes none of them holds up what the client sends, and is left
//! after five seconds; what comes to the client goes on meanwhile.

mod client;
mod leg;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use restante_deferral::model::RecipientKey;
use restante_msrp::session_id::is_relay_session_id;
use restante_msrp::uri::MsrpUri;
use restante_transport::MsrpWebSocket;
use restante_transport::msrp::HandedOver;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::Shared;

/// Bytes in memory between the relay and a session of this server, each way.
const PIPE_BYTES: usize = 64 * 1024;
/// Peers that wait to be served by one client's task.
const MAX_WAITING_PEERS: usize = 16;

/// Serves a client; must be called on a runtime.
pub(super) fn serve(shared: &Arc<Shared>, client: MsrpWebSocket) {
    tokio::spawn(client::run(Arc::downgrade(shared), client));
}

/// Who has which session URI.
pub(super) struct Clients {
    max_per_user: u64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    sessions: HashMap<String, mpsc::Sender<Peer>>,
    of_user: HashMap<RecipientKey, u64>,
}

/// Somebody for a client.
enum Peer {
    /// Who connected to the session URI.
    Connected(HandedOver<String>),
    /// A session of this server, or another client.
    Here(DuplexStream),
}

/// A session URI that is known; until this is dropped.
struct Registered {
    shared: Weak<Shared>,
    session_id: String,
    /// Whether it is a `msrps` URI.
    is_secure: bool,
    user: RecipientKey,
}

impl Clients {
    pub(super) fn new(max_per_user: u64) -> Clients {
        Clients { max_per_user, known: Mutex::default() }
    }

    /// Takes a connection for a client's session. It comes back where it is for no client.
    pub(super) fn accept(&self, handed: HandedOver<String>) -> Option<HandedOver<String>> {
        if !is_relay_session_id(&handed.session) {
            return Some(handed);
        }
        let Some(client) = self.known().sessions.get(&handed.session).cloned() else { return Some(handed) };
        // A client that has as many who wait takes no more of them; they see their connection closed.
        let _ = client.try_send(Peer::Connected(handed));
        None
    }

    /// A stream of a session of this server, or of another client, to the client that a path's first URI names; none: it names none.
    pub(super) fn connect(&self, uri: &MsrpUri) -> Option<DuplexStream> {
        let session_id = uri.session_id.as_deref().filter(|id| is_relay_session_id(id))?;
        let client = self.known().sessions.get(session_id).cloned()?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        client.try_send(Peer::Here(theirs)).ok().map(|()| ours)
    }

    /// Makes a session URI known. None: its user has as many as one may have.
    fn register(
        shared: &Arc<Shared>,
        (session_id, is_secure): (String, bool),
        user: RecipientKey,
        client: mpsc::Sender<Peer>,
    ) -> Option<Registered> {
        let clients = &shared.msrp_relay;
        let mut known = clients.known();
        let count = known.of_user.entry(user.clone()).or_default();
        if *count >= clients.max_per_user {
            return None;
        }
        *count += 1;
        known.sessions.insert(session_id.clone(), client);
        Some(Registered { shared: Arc::downgrade(shared), session_id, is_secure, user })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut known = shared.msrp_relay.known();
        known.sessions.remove(&self.session_id);
        match known.of_user.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = known.of_user.remove(&self.user),
        }
    }
}
