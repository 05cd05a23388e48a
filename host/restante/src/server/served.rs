//! For whom a request is: what a core says in P-Served-User (RFC 5502) where its word counts, else the Request-URI.
//!
//! | the request | is for |
//! |---|---|
//! | with P-Served-User, from a peer that the served user's tenant trusts | the served user, on the side that `sescase` names |
//! | the same for nobody's user, from a peer that some tenant trusts | nobody (404), or on the originating side whoever follows |
//! | with `orig` in the Route that names us, from a trusted peer | on the originating side |
//! | with P-Served-User that cannot be read, or from anybody else | the Request-URI |

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use restante_deferral::model::RegistrationState;
use restante_sip::header::{NameAddr, ServedRegistration, ServedUser, SessionCase};
use restante_sip::message::{Name, SipMessage};
use restante_sip::transaction::Flow;
use restante_sip::uri::{Uri, host_address};
use restante_transport::{ConnectionId, NameId};

use super::Shared;
use super::directory::Peer;
use super::flow;

/// INVITEs that are remembered because their CANCEL would be looked for elsewhere.
const MAX_ELSEWHERE: usize = 4096;

/// For whom a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// The user's name.
    pub(super) uri: Uri,
    /// Which side of the session, where a core says so.
    pub(super) session_case: Option<SessionCase>,
    /// What the core says of the user's registration.
    pub(super) registration: RegistrationState,
}

impl Served {
    fn plain(uri: &Uri) -> Served {
        Served { uri: uri.clone(), session_case: None, registration: RegistrationState::Unknown }
    }

    /// The user sends it: it is not ours to defer.
    pub(super) fn is_originating(&self) -> bool {
        matches!(self.session_case, Some(SessionCase::Originating | SessionCase::OriginatingAfterDiversion))
    }
}

impl Shared {
    /// For whom a request with this Request-URI is.
    pub(super) fn served(&self, message: &SipMessage, request_uri: &Uri, came: &Flow) -> Served {
        let told = message.header(Name::PServedUser).and_then(|value| ServedUser::parse(value).ok());
        let marked = || message.list(Name::Route).next().and_then(|route| NameAddr::parse(route).ok());
        let Some(told) = told else {
            let mut served = Served::plain(request_uri);
            if marked().is_some_and(|route| route.uri.parameter("orig").is_some() && self.is_ours(&route.uri))
                && self.directory.is_trusted(&self.peer(came))
            {
                served.session_case = Some(SessionCase::Originating);
            }
            return served;
        };
        let peer = self.peer(came);
        let is_believed = match self.directory.served(&told.uri) {
            Some((tenant, _)) => tenant.trusts(&peer),
            None => self.directory.is_trusted(&peer),
        };
        if !is_believed {
            return Served::plain(request_uri);
        }
        let registration = match told.registration {
            Some(ServedRegistration::Registered) => RegistrationState::Registered,
            Some(ServedRegistration::Unregistered) => RegistrationState::Unregistered,
            None => RegistrationState::Unknown,
        };
        Served { uri: told.uri, session_case: told.session_case, registration }
    }

    /// Whether a URI names this server.
    pub(super) fn is_ours(&self, uri: &Uri) -> bool {
        let (Some(uri), Some(sender)) = (uri.as_sip(), self.sender()) else { return false };
        let host = |text: &str| host_address(text).ok_or_else(|| text.to_ascii_lowercase());
        sender.listeners().iter().any(|bound| {
            let advertised = host(&bound.advertise.host) == host(&uri.host)
                && bound.advertise.port.unwrap_or(5060) == uri.port_or_default();
            let listened = flow::socket_of(uri) == Some(bound.local);
            advertised || listened
        })
    }

    /// Who sent something, or will be sent it, as far as that may make its word count.
    pub(super) fn peer(&self, flow: &Flow) -> Peer {
        let says_who = !flow::protocol_of(flow.transport).is_web_socket();
        let sender = self.sender().filter(|_| flow::protocol_of(flow.transport).is_encrypted());
        // Nobody, where TLS has shown nothing, or the connection is gone. Before there is one: who will have to be
        // there, or nothing is sent.
        let names = sender.and_then(|sender| match (flow.connection, flow.name) {
            (Some(id), _) => sender.peer_names(ConnectionId(id.0)),
            (None, Some(name)) => sender.tls().host(NameId(name.0)).map(|host| Arc::from([host.as_ref().into()])),
            (None, None) => None,
        });
        Peer { address: says_who.then(|| flow.remote.ip()), names: names.unwrap_or_default() }
    }
}

/// Shards of INVITEs whose served user is not their Request-URI's: a CANCEL, and the ACK of a refusal, have the
/// Request-URI alone, and the INVITE's branch (RFC 3261 §9.1, §17.1.1.3). The oldest is forgotten when there are too
/// many.
#[derive(Default)]
pub(super) struct Elsewhere {
    hasher: RandomState,
    /// So that nobody waits where there is nothing.
    count: AtomicUsize,
    known: Mutex<(HashMap<u64, usize>, VecDeque<u64>)>,
}

impl Elsewhere {
    pub(super) fn note(&self, invite: &SipMessage, shard: usize) {
        let Some(key) = self.key(invite) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (shards, order) = &mut *known;
        if shards.insert(key, shard).is_none() {
            order.push_back(key);
        }
        while order.len() > MAX_ELSEWHERE
            && let Some(oldest) = order.pop_front()
        {
            shards.remove(&oldest);
        }
        self.count.store(shards.len(), Ordering::Release);
    }

    pub(super) fn shard(&self, message: &SipMessage) -> Option<usize> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let key = self.key(message)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.get(&key).copied()
    }

    fn key(&self, message: &SipMessage) -> Option<u64> {
        let via = message.top_via().ok()?;
        Some(self.hasher.hash_one((via.branch()?, message.call_id()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(method: &str, number: usize) -> SipMessage {
        let text = format!(
            "{method} sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{number}\r\nCall-ID: c\r\n\
             CSeq: 1 {method}\r\nFrom: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        SipMessage::parse(text.into_bytes().into(), &Default::default()).unwrap()
    }

    #[test]
    fn a_cancel_is_found_by_its_branch_and_what_is_known_is_bounded() {
        let elsewhere = Elsewhere::default();
        assert_eq!(elsewhere.shard(&message("CANCEL", 0)), None);
        elsewhere.note(&message("INVITE", 0), 3);
        elsewhere.note(&message("INVITE", 0), 3);
        assert_eq!(elsewhere.shard(&message("CANCEL", 0)), Some(3));
        assert_eq!(elsewhere.shard(&message("CANCEL", 1)), None);
        (1..=MAX_ELSEWHERE).for_each(|number| elsewhere.note(&message("INVITE", number), 1));
        assert_eq!(elsewhere.shard(&message("CANCEL", 0)), None, "the oldest is forgotten");
        assert_eq!(elsewhere.shard(&message("CANCEL", 1)), Some(1));
        assert_eq!(elsewhere.known.lock().unwrap().1.len(), MAX_ELSEWHERE);
    }
}
