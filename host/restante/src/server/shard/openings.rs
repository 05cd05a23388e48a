//! What senders have open here: see [`crate::server::openings`].

use std::sync::Arc;

use restante_deferral::model::{RecipientKey, Sender, TenantName, Verification};
use restante_sip::transaction::Flow;
use restante_sip::uri::Uri;

use super::Shard;
use super::authentication::is_anonymous;
use crate::server::openings::{Exceeded, Opener, Opening, Openings};

/// Seconds for Retry-After: as for a tenant's sessions.
pub(super) const RETRY_SECONDS: u32 = 5;

/// What a sender opens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// An MSRP session, to bring something or to fetch.
    Session,
    /// An INVITE that is passed on, or what follows in its dialog.
    Call,
}

impl Shard {
    /// One more of a kind, for who sent a request.
    ///
    /// # Errors
    /// What to say with 480, which is of this sender alone: after 503 a proxy would let the whole server be (RFC 3261
    /// §21.5.4), and 486 would be said of who is called.
    pub(super) fn open(
        &self,
        kind: Kind,
        tenant: &TenantName,
        sender: &Sender,
        came: Flow,
    ) -> Result<Opening, &'static str> {
        self.open_as(kind, tenant, self.opener(tenant, sender, came))
    }

    /// One more request in a dialog that passes by here, from where nobody vouches for who it is from: it is counted by its
    /// address as a call is. None: it comes from a peer that the tenant trusts.
    ///
    /// # Errors
    /// The same.
    pub(super) fn open_in_dialog(&self, tenant: &TenantName, came: Flow) -> Result<Option<Opening>, &'static str> {
        if self.trusts(tenant, came) {
            return Ok(None);
        }
        self.open_as(Kind::Call, tenant, Opener { sender: None, source: Some(came.remote.ip()) }).map(Some)
    }

    fn open_as(&self, kind: Kind, tenant: &TenantName, opener: Opener) -> Result<Opening, &'static str> {
        let openings: &Arc<Openings> = match kind {
            Kind::Session => &self.shared.open_sessions,
            Kind::Call => &self.shared.open_calls,
        };
        openings.open(opener).map_err(|exceeded| {
            let (limit, reason) = match (kind, exceeded) {
                (Kind::Session, Exceeded::Sender) => ("sessions", "Too Many Sessions Of This Sender"),
                (Kind::Session, Exceeded::Source) => ("source-sessions", "Too Many Sessions From There"),
                (Kind::Call, Exceeded::Sender) => ("calls", "Too Many Calls Of This Sender"),
                (Kind::Call, Exceeded::Source) => ("source-calls", "Too Many Calls From There"),
            };
            self.shared.metrics.count_sender_limit(tenant, limit);
            reason
        })
    }

    fn opener(&self, tenant: &TenantName, sender: &Sender, came: Flow) -> Opener {
        let is_nobody = Uri::parse(&sender.uri).is_ok_and(|uri| is_anonymous(&uri) || names_nobody(&uri));
        match sender.verification {
            Verification::TrustedPeer if is_nobody => Opener { sender: None, source: Some(came.remote.ip()) },
            verification => {
                let key = RecipientKey { tenant: tenant.clone(), address: sender.address.clone() };
                let key = self.shared.directory.owner_of(&key).unwrap_or(key);
                let source = (verification != Verification::TrustedPeer).then(|| came.remote.ip());
                Opener { sender: Some(key), source }
            }
        }
    }
}

/// Whether it is how gateways write who withholds its number: without a user, or with a word in place of one.
fn names_nobody(uri: &Uri) -> bool {
    let is_word =
        |user: &str| ["anonymous", "unavailable", "restricted"].iter().any(|word| user.eq_ignore_ascii_case(word));
    uri.as_sip().is_some_and(|uri| uri.user.as_deref().is_none_or(is_word))
}
