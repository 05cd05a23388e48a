//! How sessions end: BYE from either side, a refusal, or time.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use restante_sip::dialog::{Dialog, DialogId};
use restante_sip::message::{Method, SipMessage};
use restante_sip::transaction::ServerTransactionId;
use restante_transport::Protocol;

use super::{Bye, InviteSession, Purpose};
use crate::engine::{Engine, Pending, tell};
use crate::error::ClientError;
use crate::event::{ClientEvent, SessionSummary};
use crate::msrp_session::Order;
use crate::outgoing::{Answer, FetchOutcome};

impl Engine {
    pub(in crate::engine) fn bye_received(&mut self, transaction: ServerTransactionId, message: &SipMessage) {
        let key = DialogId::of_request(message).and_then(|id| self.state.dialogs.get(&id).copied());
        let Some(session) = key.and_then(|key| self.state.sessions.get_mut(&key)) else {
            self.violation("BYE of no dialog".to_owned());
            return self.answer(transaction, 481);
        };
        // Both sides may end a session at once: ours is over then, and theirs is answered all the same (RFC 5407 §3.2.1).
        let crosses = matches!(session.bye, Bye::Sent | Bye::Answered);
        if let (Some(Err(error)), false) = (session.dialog.as_mut().map(|dialog| dialog.receive(message)), crosses) {
            self.violation(format!("BYE: {error}"));
            return self.answer(transaction, error.status());
        }
        session.bye = Bye::Received;
        let runs = session.orders.is_some();
        session.order(Order::Drain);
        self.answer(transaction, 200);
        if let (false, Some(key)) = (runs, key) {
            self.session_over(key);
        }
    }

    /// Our BYE was answered, or never will be.
    pub(in crate::engine) fn bye_done(&mut self, key: u64) {
        self.with_session(key, |session| {
            session.bye = Bye::Answered;
            session.close();
        });
        self.finish_if_over(key);
    }

    pub(in crate::engine) fn end_overdue_sessions(&mut self, now: Instant) {
        let overdue: Vec<u64> =
            self.state.sessions.iter().filter(|(_, session)| session.deadline <= now).map(|(key, _)| *key).collect();
        for key in overdue {
            self.with_session(key, |session| {
                session.deadline = now + Duration::from_secs(60);
                session.close();
            });
            self.send_bye(key);
        }
    }

    /// No final answer to our INVITE.
    pub(in crate::engine) fn fail_session(&mut self, key: u64, error: ClientError) {
        if let Some(mut session) = self.remove_session(key) {
            session.purpose.fail(error);
        }
    }

    pub(super) fn end_with_answer(&mut self, key: u64, answer: Answer) {
        let Some(session) = self.remove_session(key) else { return };
        match session.purpose {
            Purpose::Large { mut outcome, reply, .. } => {
                outcome.detail = format!("refused with {}", answer.status);
                outcome.answer = answer;
                tell(reply, Ok(*outcome));
            }
            Purpose::Fetch { reply, .. } => {
                tell(reply, Ok(FetchOutcome { answer, messages: Vec::new(), orderly: true }));
            }
            Purpose::Push { .. } => {}
        }
    }

    /// The session cannot be used: BYE, and whoever asked for it is told why.
    pub(super) fn give_up(&mut self, key: u64, why: &str) {
        self.with_session(key, |session| session.purpose.fail(ClientError::Session(why.to_owned())));
        self.violation(format!("a session that cannot be used: {why}"));
        self.send_bye(key);
    }

    pub(super) fn send_bye(&mut self, key: u64) {
        let Some(session) = self.state.sessions.get_mut(&key) else { return };
        if session.bye != Bye::None {
            return self.finish_if_over(key);
        }
        session.bye = Bye::Sent;
        let place = session.place;
        match session.dialog.take() {
            Some(mut dialog) => {
                self.send_bye_in(&mut dialog, place, Some(key));
                self.with_session(key, |session| session.dialog = Some(dialog));
            }
            None => self.bye_done(key),
        }
    }

    pub(super) fn send_bye_in(&mut self, dialog: &mut Dialog, place: (Protocol, SocketAddr), key: Option<u64>) {
        let cseq = dialog.local_cseq;
        let sent = self.send_request(&Method::Bye, place, |via| {
            dialog.local_cseq = cseq;
            dialog.request(&Method::Bye, via).finish()
        });
        match (sent, key) {
            (Ok((transaction, _)), Some(session)) => {
                self.state.pending.insert(transaction, Pending::Bye { session });
            }
            (Err(_), Some(session)) => self.bye_done(session),
            (_, None) => {}
        }
    }

    /// A session is over when its signalling and its connection are.
    fn finish_if_over(&mut self, key: u64) {
        let Some(session) = self.state.sessions.get(&key) else { return };
        if session.orders.is_none() && matches!(session.bye, Bye::Answered | Bye::Received) {
            self.session_over(key);
        }
    }

    fn session_over(&mut self, key: u64) {
        let Some(session) = self.remove_session(key) else { return };
        let orderly = session.bye == Bye::Received;
        let fetched = matches!(session.purpose, Purpose::Fetch { .. });
        let call_id = session.context.call_id.clone();
        match session.purpose {
            Purpose::Large { outcome, reply, .. } => return tell(reply, Ok(*outcome)),
            Purpose::Fetch { answer, reply } => {
                tell(reply, Ok(FetchOutcome { answer, messages: session.received, orderly }));
            }
            Purpose::Push { .. } => {}
        }
        let summary = SessionSummary { call_id, fetched, messages: session.acknowledged, orderly };
        self.event(ClientEvent::SessionEnded { at: SystemTime::now(), summary });
    }

    fn remove_session(&mut self, key: u64) -> Option<InviteSession> {
        let session = self.state.sessions.remove(&key)?;
        session.order(Order::Close);
        if let Some(id) = &session.local.uri.session_id {
            self.state.msrp_sessions.remove(id);
        }
        if let Some(dialog) = &session.dialog {
            self.state.dialogs.remove(&dialog.id());
        }
        if let Purpose::Push { transaction } = session.purpose {
            self.state.invitations.remove(&transaction);
        }
        self.state.invites.retain(|_, session| *session != key);
        Some(session)
    }
}
