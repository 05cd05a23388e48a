//! Challenges, and what answers them (RFC 3261 §22.2, RFC 8760 §2.4).
//!
//! A challenge is answered once, and once more when the server says that only the nonce was too old. What is sent later
//! answers the last challenge at once, with a count that rises.

use std::net::SocketAddr;

use bytes::Bytes;
use restante_sip::authentication::{
    Challenge, Credentials, HashOfA1, Protection, QualityOfProtection, response as response_to,
};
use restante_sip::message::{MessageLimits, Name, SipMessage};
use restante_sip::transaction::ClientTransactionId;
use restante_sip::writer::{Builder, WriteError};
use restante_transport::Protocol;

use super::{Engine, Pending};
use crate::configuration::ClientCredentials;
use crate::random::token;

/// How often one request is sent anew: for the challenge, and for a nonce that was too old.
const MAX_ANSWERS: u8 = 2;

/// A request that may be challenged.
pub(super) struct Sent {
    pub(super) request: SipMessage,
    pub(super) to: (Protocol, SocketAddr),
    pub(super) answers: u8,
}

/// A challenge, and how often it was answered.
#[derive(Clone)]
pub(super) struct AnsweredChallenge {
    challenge: Challenge,
    is_proxys: bool,
    count: u32,
}

impl AnsweredChallenge {
    /// The topmost that can be answered (RFC 8760 §2.4).
    fn of(answer: &SipMessage) -> Option<AnsweredChallenge> {
        let is_proxys = match answer.status()? {
            401 => false,
            407 => true,
            _ => return None,
        };
        let name = if is_proxys { Name::ProxyAuthenticate } else { Name::WwwAuthenticate };
        let all = answer.headers(name).flat_map(|value| Challenge::parse_list(value).unwrap_or_default());
        let challenge = all.into_iter().find(Challenge::offers_auth)?;
        Some(AnsweredChallenge { challenge, is_proxys, count: 0 })
    }

    /// The request with what answers the challenge.
    pub(super) fn answer(&mut self, credentials: &ClientCredentials, request: Bytes) -> Result<Bytes, WriteError> {
        let parsed = SipMessage::parse(request.clone(), &MessageLimits::default()).map_err(|_| WriteError::Missing)?;
        let (Some(method), Some(uri)) = (parsed.method(), parsed.request_uri()) else { return Ok(request) };
        // A test may have said it itself.
        if parsed.count(Name::Authorization) > 0 {
            return Ok(request);
        }
        self.count = self.count.saturating_add(1);
        let Challenge { realm, nonce, opaque, algorithm, .. } = &self.challenge;
        let protection = Protection {
            quality: QualityOfProtection::Auth,
            cnonce: token(),
            nonce_count: format!("{:08x}", self.count),
        };
        let hash = HashOfA1::new(*algorithm, &credentials.username, realm, &credentials.password);
        let value = Credentials {
            username: credentials.username.clone(),
            realm: realm.clone(),
            nonce: nonce.clone(),
            uri: uri.to_owned(),
            response: response_to(&hash, &method, uri, nonce, Some(&protection)),
            algorithm: Some(algorithm.as_str().to_owned()),
            opaque: opaque.clone(),
            protection: Some(protection),
        };
        let name = if self.is_proxys { Name::ProxyAuthorization } else { Name::Authorization };
        let line = format!("{}: {value}\r\n", name.as_str());
        let (before, after) = request.split_at_checked(parsed.header_end()).ok_or(WriteError::Missing)?;
        Ok([before, line.as_bytes(), after].concat().into())
    }
}

impl Engine {
    /// Sends a challenged request again with what answers the challenge. False: it is not, and the answer counts.
    pub(super) fn answer_challenge(
        &mut self,
        transaction: ClientTransactionId,
        sent: Sent,
        answer: &SipMessage,
    ) -> bool {
        let Some(challenge) = AnsweredChallenge::of(answer) else { return false };
        let may_again = sent.answers == 0 || (challenge.challenge.stale && sent.answers < MAX_ANSWERS);
        let (true, Some(method)) = (may_again, sent.request.method()) else { return false };
        self.state.challenge = Some(challenge);
        let Ok(cseq) = sent.request.cseq().map(|cseq| cseq.number.saturating_add(1)) else { return false };
        let again = self.send_request(&method, sent.to, |via| anew(&sent.request, via, cseq));
        let Ok((renewed, request)) = again else { return false };
        if let Some(sent_again) = self.state.sent.get_mut(&renewed) {
            sent_again.answers = sent.answers.saturating_add(1);
        }
        self.renew(transaction, renewed, request, cseq);
        true
    }

    /// Whoever waits for the answer to a request waits for that to its successor.
    fn renew(
        &mut self,
        transaction: ClientTransactionId,
        renewed: ClientTransactionId,
        request: SipMessage,
        cseq: u32,
    ) {
        if let Some(session) = self.state.invites.remove(&transaction) {
            self.state.invites.insert(renewed, session);
            self.request_of_session(session, request.clone());
        }
        if let Some(registration) = &mut self.state.registration
            && request.call_id() == Some(&registration.call_id)
        {
            registration.cseq = cseq;
        }
        if let Some(subscription) = &mut self.state.subscription
            && request.call_id() == Some(&subscription.dialog.call_id)
        {
            subscription.dialog.local_cseq = cseq;
        }
        let pending = match self.state.pending.remove(&transaction) {
            Some(Pending::Subscribe { expires_seconds, reply, .. }) => {
                Pending::Subscribe { request, expires_seconds, reply }
            }
            Some(pending) => pending,
            None => return,
        };
        self.state.pending.insert(renewed, pending);
    }
}

/// The same request in a new transaction, with the next CSeq and nothing that answers a challenge.
fn anew(request: &SipMessage, via: &str, cseq: u32) -> Result<Bytes, WriteError> {
    let method = request.method().ok_or(WriteError::Missing)?;
    let mut builder = Builder::request(&method, request.request_uri().ok_or(WriteError::Missing)?).field("Via", via);
    for field in request.fields() {
        builder = match field.name {
            Name::Via | Name::Authorization | Name::ProxyAuthorization | Name::ContentLength => builder,
            Name::CSeq => builder.field("CSeq", &format!("{cseq} {method}")),
            _ => builder.unfolded(request.field_name(field), request.field_value(field)),
        };
    }
    builder.finish_with_body(&request.body())
}
