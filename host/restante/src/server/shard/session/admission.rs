//! Whether one more session may begin, for an INVITE of theirs.

use restante_deferral::model::{RecipientKey, Sender};
use restante_sip::transaction::{Flow, ServerTransactionId};

use super::SessionPermit;
use crate::server::directory::TenantEntry;
use crate::server::openings::Opening;
use crate::server::shard::incoming::{OVERLOAD_RETRY_SECONDS, RELAY_RETRY_SECONDS, ROOM_RETRY_SECONDS};
use crate::server::shard::openings::{Kind, RETRY_SECONDS};
use crate::server::shard::{Now, Shard};

/// What the body of an INVITE may be.
const ACCEPT_OFFER: &str = "application/sdp, multipart/mixed";

/// A session that is asked for.
pub(in crate::server::shard) struct Asked<'a> {
    /// Whose messages it is about.
    pub(in crate::server::shard) key: &'a RecipientKey,
    /// Who asks.
    pub(in crate::server::shard) peer: &'a Sender,
    pub(in crate::server::shard) came: Flow,
    pub(in crate::server::shard) is_encrypted: bool,
    /// In which tenant it will store how many bytes.
    pub(in crate::server::shard) stores: Option<(&'a TenantEntry, u64)>,
}

/// What a session has of what others may have, too, until it is forgotten.
pub(in crate::server::shard) struct SessionParts {
    /// Of the tenant's sessions.
    pub(super) _permit: SessionPermit,
    /// Of what the peer may have open, where that asked for the session.
    pub(super) _opening: Option<Opening>,
}

/// Why a session may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server::shard) enum NotAdmitted {
    /// The relay that it should go through is not there.
    NoRelay,
    /// The sender has too many, as the reason phrase says.
    TooManyOfSender(&'static str),
    /// The server has.
    TooMany,
    /// The tenant may not store what would come.
    NoRoom,
    /// The tenant has too many.
    TooManyOfTenant,
}

impl NotAdmitted {
    /// Status, reason phrase and Retry-After. What is of one sender or one tenant is no 503, after which a proxy would
    /// let the whole server be (RFC 3261 §21.5.4).
    fn answer(self) -> (u16, &'static str, u32) {
        match self {
            NotAdmitted::NoRelay => (480, "No Relay For Media", RELAY_RETRY_SECONDS),
            NotAdmitted::TooManyOfSender(reason) => (480, reason, RETRY_SECONDS),
            NotAdmitted::TooMany => (503, "Too Many Sessions", OVERLOAD_RETRY_SECONDS),
            NotAdmitted::NoRoom => (480, "No Room To Store It", ROOM_RETRY_SECONDS),
            NotAdmitted::TooManyOfTenant => (480, "Too Many Sessions", OVERLOAD_RETRY_SECONDS),
        }
    }
}

impl Shard {
    /// Takes what one more session needs.
    pub(in crate::server::shard) fn admit_session(&self, asked: &Asked<'_>) -> Result<SessionParts, NotAdmitted> {
        if self.relay_is_missing(asked.is_encrypted) {
            return Err(NotAdmitted::NoRelay);
        }
        // First: what one sender has too much of is no reason to let the server be.
        let opening = self.open(Kind::Session, &asked.key.tenant, asked.peer, asked.came);
        let opening = opening.map_err(NotAdmitted::TooManyOfSender)?;
        if self.media.len() as u64 >= self.shared.limits.max_sessions {
            return Err(NotAdmitted::TooMany);
        }
        if let Some((tenant, bytes)) = asked.stores
            && !tenant.usage.has_room(self.stored_of(&tenant.name), bytes)
        {
            self.shared.metrics.count_tenant_limit(&tenant.name, "stored");
            return Err(NotAdmitted::NoRoom);
        }
        let permit = self.session_permit(asked.key)?;
        Ok(SessionParts { _permit: permit, _opening: Some(opening) })
    }

    /// A part of the tenant's sessions, without waiting; none for a tenant that was removed meanwhile.
    pub(in crate::server::shard) fn session_permit(&self, key: &RecipientKey) -> Result<SessionPermit, NotAdmitted> {
        let Some(tenant) = self.shared.directory.tenant(&key.tenant) else { return Ok(None) };
        let permit = tenant.usage.sessions.take();
        if permit.is_none() {
            self.shared.metrics.count_tenant_limit(&key.tenant, "sessions");
        }
        permit.map(Some).ok_or(NotAdmitted::TooManyOfTenant)
    }

    pub(in crate::server::shard) fn refuse_session(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        refusal: NotAdmitted,
    ) {
        let (status, reason, retry_after_seconds) = refusal.answer();
        self.refuse(now, transaction, status, reason, Some(retry_after_seconds));
    }

    /// Answers an INVITE whose body is no offer that we take.
    pub(in crate::server::shard) fn refuse_offer(&mut self, now: Now, transaction: ServerTransactionId, status: u16) {
        let accept = (status == 415).then_some(ACCEPT_OFFER);
        self.answer_with(now, transaction, status, |builder| builder.optional("Accept", accept));
    }
}
