//! Challenges, and what answers them (RFC 3261 §22.2, RFC 8760 §2.4).
//!
//! A challenge is answered once, and once more when the server says that only the nonce was too old. What is sent later
//! answers the last challenge at once, with a count that rises, or with the nonce that the server said comes next. Where that
//! is challenged again, the credentials are not shown again unless they were right before: the server forgot its nonce then,
//! else they were rejected (RFC 3261 §22.2), and servers count that.

use std::net::SocketAddr;

use bytes::Bytes;
use restante_sip::authentication::{
    AuthenticationInfo, Challenge, Credentials, HashOfA1, Protection, QualityOfProtection, Subject, Variant,
    response as response_to, user_hash,
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
    /// A request that answered it was not challenged.
    was_right: bool,
    /// The client's nonce, one for the whole session (RFC 7616 §3.4.2).
    cnonce: String,
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
        let challenge = all.into_iter().find(|challenge| quality_for(challenge).is_some())?;
        Some(AnsweredChallenge { challenge, is_proxys, count: 0, was_right: false, cnonce: token() })
    }

    /// How often a request counts as sent anew that answers this from the first.
    pub(super) fn answers_before(&self) -> u8 {
        u8::from(!self.was_right)
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
        let Challenge { realm, nonce, opaque, algorithm, takes_user_hash, .. } = &self.challenge;
        let protection = Protection {
            quality: quality_for(&self.challenge).unwrap_or(QualityOfProtection::Auth),
            cnonce: self.cnonce.clone(),
            nonce_count: format!("{:08x}", self.count),
        };
        let (hash, is_session) = (self.hash(credentials), algorithm.is_session);
        let subject = Subject { method: method.as_str(), uri, nonce, is_session, body: &parsed.body() };
        let username = match takes_user_hash {
            true => user_hash(algorithm.algorithm, &credentials.username, realm),
            false => credentials.username.clone(),
        };
        let value = Credentials {
            username,
            is_user_hash: *takes_user_hash,
            realm: realm.clone(),
            nonce: nonce.clone(),
            uri: uri.to_owned(),
            response: response_to(&hash, &subject, Some(&protection)),
            algorithm: Some(algorithm.to_string()),
            opaque: opaque.clone(),
            protection: Some(protection),
        };
        let name = if self.is_proxys { Name::ProxyAuthorization } else { Name::Authorization };
        let line = format!("{}: {value}\r\n", name.as_str());
        let (before, after) = request.split_at_checked(parsed.header_end()).ok_or(WriteError::Missing)?;
        Ok([before, line.as_bytes(), after].concat().into())
    }

    fn hash(&self, credentials: &ClientCredentials) -> HashOfA1 {
        let ClientCredentials { username, password } = credentials;
        HashOfA1::new(self.challenge.algorithm.algorithm, username, &self.challenge.realm, password)
    }

    /// Whether a server that says so in an answer to this request knows the password, too. None: it shows nothing that can
    /// be judged.
    fn is_shown(&self, credentials: &ClientCredentials, info: &AuthenticationInfo, sent: &SipMessage) -> Option<bool> {
        let said = Credentials::parse(sent.header(Name::Authorization)?).ok()??;
        let is_of_this = |variant: &Variant| *variant == self.challenge.algorithm && said.realm == self.challenge.realm;
        let variant = said.algorithm().filter(is_of_this)?;
        let used = said.protection.as_ref()?;
        let subject =
            Subject { method: "", uri: &said.uri, nonce: &said.nonce, is_session: variant.is_session, body: &[] };
        info.is_right(&self.hash(credentials), &subject, used)
    }
}

/// What is said to a challenge: what every server can check, where it is on offer.
fn quality_for(challenge: &Challenge) -> Option<QualityOfProtection> {
    [QualityOfProtection::Auth, QualityOfProtection::AuthInt].into_iter().find(|quality| challenge.offers(*quality))
}

impl Engine {
    /// Looks at what a server says with a 2xx (RFC 7616 §3.5): the next nonce, and that it knows the password.
    pub(super) fn take_authentication_info(&mut self, sent: &Sent, answer: &SipMessage) {
        let is_success = answer.status().is_some_and(|status| (200..300).contains(&status));
        let Some(value) = answer.header_by_text("Authentication-Info").filter(|_| is_success) else { return };
        let (Some(credentials), Some(challenge)) = (&self.configuration.credentials, &mut self.state.challenge) else {
            return;
        };
        let Ok(info) = AuthenticationInfo::parse(value) else {
            return self.violation("an Authentication-Info that cannot be read".to_owned());
        };
        if challenge.is_shown(credentials, &info, &sent.request) == Some(false) {
            return self.violation("the server does not know the password that it asked for".to_owned());
        }
        if let Some(next_nonce) = info.next_nonce {
            challenge.challenge.nonce = next_nonce;
            challenge.count = 0;
        }
    }

    /// Sends a challenged request again with what answers the challenge. False: it is not, and the answer counts.
    pub(super) fn answer_challenge(
        &mut self,
        transaction: ClientTransactionId,
        sent: Sent,
        answer: &SipMessage,
    ) -> bool {
        let Some(challenge) = AnsweredChallenge::of(answer) else {
            if let Some(answered) = &mut self.state.challenge {
                answered.was_right |= answer.status().is_some_and(|status| (200..300).contains(&status));
            }
            return false;
        };
        let may_again = sent.answers == 0 || (challenge.challenge.stale && sent.answers < MAX_ANSWERS);
        self.state.challenge = Some(challenge);
        let (true, Some(method)) = (may_again, sent.request.method()) else { return false };
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
