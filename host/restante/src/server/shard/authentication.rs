//! Who a request is from: what a trusted peer says, or what its own credentials show.
//!
//! | request | from a trusted peer | from elsewhere |
//! |---|---|---|
//! | REGISTER, MESSAGE, INVITE, SUBSCRIBE | as it says | `authentication = "digest"`: credentials; else 403 |
//! | SUBSCRIBE in its dialog | follows it | the same where it comes from another address than before |
//! | BYE and others in their dialog | follow it | follow it |
//! | ACK, CANCEL | never challenged (RFC 3261 §22.1) | the same |
//!
//! A peer is trusted by its address, or over TLS by a domain that its certificate names (RFC 5922 §7). Over WebSocket its
//! address counts for nothing: a browser there connects for whatever page is open in it.
//!
//! Deviation: a 401 is sent from within a transaction, and not without state as RFC 3261 §26.3.2.4 advises: repetitions are
//! absorbed in one place, and transactions are bounded.
//!
//! A dialog's tags are random and known to its two sides alone, and what comes in it sends nobody's messages anywhere, but
//! for a SUBSCRIBE, which says where notifications go.

use restante_deferral::model::{RecipientKey, Sender, TenantName, Verification};
use restante_sip::header::NameAddr;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;

use super::{Now, Shard};
use crate::server::authentication::{Asked, Unauthenticated};
use crate::server::directory::TenantEntry;

/// Host of a From that names nobody (RFC 3323 §4.1.1.3).
const ANONYMOUS_HOST: &str = "anonymous.invalid";

/// Who stands behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// A peer whose word counts.
    TrustedPeer,
    /// A user who showed credentials.
    User(RecipientKey),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// With this.
    Status(u16, &'static str),
    /// It did not show who it is from.
    Unauthenticated(Unauthenticated),
}

impl From<(u16, &'static str)> for Refusal {
    fn from((status, reason): (u16, &'static str)) -> Refusal {
        Refusal::Status(status, reason)
    }
}

impl Shard {
    /// Who stands behind a request for a tenant. Credentials are used up by it.
    pub(super) fn backing(
        &self,
        now: Now,
        tenant: &TenantEntry,
        message: &SipMessage,
        came: Flow,
    ) -> Result<Backing, Refusal> {
        let source = came.remote.ip();
        if tenant.trusts(&self.shared.peer(&came)) {
            return Ok(Backing::TrustedPeer);
        }
        if !tenant.digest.is_demanded {
            return Err(Refusal::Status(403, "Sender Not Authenticated"));
        }
        let checked = self.shared.authentication.check(message, Asked { tenant, source, now: now.monotonic });
        let outcome = checked.as_ref().map_or_else(Unauthenticated::outcome, |_| "accepted");
        self.shared.metrics.count_authentication(&tenant.name, outcome);
        match checked {
            // The name that the credentials were given to may have become another name of somebody.
            Ok(user) => Ok(Backing::User(self.shared.directory.owner_of(&user).unwrap_or(user))),
            Err(why) => Err(Refusal::Unauthenticated(why)),
        }
    }

    /// Who sent a request: what a trusted peer asserts (RFC 3325 §5), else From; from elsewhere who authenticated.
    pub(super) fn sender(
        &self,
        now: Now,
        tenant: &TenantEntry,
        message: &SipMessage,
        came: Flow,
    ) -> Result<Sender, Refusal> {
        let backing = self.backing(now, tenant, message, came)?;
        let from: NameAddr = message.from().map_err(|_| (400, "Malformed From"))?;
        let is_private = message.asks_privacy("id");
        let user = match backing {
            Backing::User(user) => user,
            Backing::TrustedPeer => {
                let asserted =
                    message.name_addrs(Name::PAssertedIdentity).map_err(|_| (400, "Malformed P-Asserted-Identity"))?;
                // Who asks a network not to be named in From either is not named by us (RFC 3323 §4.1, §4.2).
                let is_private = is_private || message.asks_privacy("user") || is_anonymous(&from.uri);
                let uri = asserted.into_iter().map(|it| it.uri).next().unwrap_or(from.uri);
                let address = self.shared.directory.address(&uri).ok_or((403, "Sender Is Not A User"))?;
                let verification = Verification::TrustedPeer;
                return Ok(Sender { address, uri: uri.to_string(), verification, private: is_private });
            }
        };
        let is_anonymous = is_anonymous(&from.uri);
        if !is_anonymous && !self.is_name_of(&from.uri, &user) {
            self.shared.metrics.count_authentication(&tenant.name, "other-identity");
            return Err(Refusal::Status(403, "Not Your Identity"));
        }
        // What it asserts itself counts for nothing (RFC 3325 §5); of its own names it may prefer one (§9.2).
        let preferred = message.name_addrs(Name::PPreferredIdentity).unwrap_or_default();
        let preferred = preferred.into_iter().map(|it| it.uri).find(|uri| self.is_name_of(uri, &user));
        let uri = preferred.or_else(|| (!is_anonymous).then_some(from.uri)).map(|uri| uri.to_string());
        Ok(Sender {
            uri: uri.unwrap_or_else(|| user.address.to_string()),
            address: user.address,
            verification: Verification::Authenticated,
            private: is_private || is_anonymous,
        })
    }

    /// Whether a request may register somebody. A user who authenticated registers itself, under any of its names.
    pub(super) fn may_register(
        &self,
        now: Now,
        tenant: &TenantEntry,
        message: &SipMessage,
        came: Flow,
        registered: &RecipientKey,
    ) -> Result<(), Refusal> {
        let Backing::User(user) = self.backing(now, tenant, message, came)? else { return Ok(()) };
        let from: NameAddr = message.from().map_err(|_| (400, "Malformed From"))?;
        if user != *registered || !self.is_name_of(&from.uri, &user) {
            self.shared.metrics.count_authentication(&tenant.name, "other-identity");
            return Err(Refusal::Status(403, "Not Your Identity"));
        }
        Ok(())
    }

    /// Answers a request that is refused.
    pub(super) fn refuse_because(&mut self, now: Now, transaction: ServerTransactionId, refusal: Refusal) {
        match refusal {
            Refusal::Status(status, reason) => self.refuse(now, transaction, status, reason, None),
            Refusal::Unauthenticated(Unauthenticated::Challenged { challenges, .. }) => {
                self.answer_with(now, transaction, 401, |builder| {
                    challenges.iter().fold(builder, |builder, challenge| builder.field("WWW-Authenticate", challenge))
                });
            }
            Refusal::Unauthenticated(Unauthenticated::Malformed(reason)) => {
                self.refuse(now, transaction, 400, reason, None);
            }
            Refusal::Unauthenticated(Unauthenticated::SlowDown { retry_after_seconds }) => {
                self.refuse(now, transaction, 480, "Too Many Failed Authentications", Some(retry_after_seconds));
            }
        }
    }

    /// What goes with a 2xx to somebody who authenticated; none where its tenant gives nothing.
    pub(super) fn authentication_info(
        &self,
        now: Now,
        transaction: ServerTransactionId,
        status: u16,
    ) -> Option<String> {
        let request = self.endpoint.request(transaction).filter(|_| (200..300).contains(&status))?;
        let uri = match request.method()? {
            Method::Register => request.to().ok()?.uri,
            Method::Message | Method::Invite | Method::Subscribe if request.to().ok()?.tag().is_none() => {
                Uri::parse(request.request_uri()?).ok()?
            }
            _ => return None,
        };
        let tenant = self.shared.directory.tenant_of(&uri)?;
        self.shared.authentication.info(request, &tenant, now.monotonic)
    }

    /// Whether some tenant trusts whoever a request came from.
    pub(super) fn is_trusted(&self, came: Flow) -> bool {
        self.shared.directory.is_trusted(&self.shared.peer(&came))
    }

    /// Whether a tenant trusts whoever a request came from, or will go to.
    pub(super) fn trusts(&self, tenant: &TenantName, flow: Flow) -> bool {
        self.shared.directory.tenant(tenant).is_some_and(|tenant| tenant.trusts(&self.shared.peer(&flow)))
    }

    fn is_name_of(&self, uri: &Uri, user: &RecipientKey) -> bool {
        self.shared.directory.served(uri).is_some_and(|(_, named)| named == *user)
    }
}

/// Whether a URI names nobody.
pub(super) fn is_anonymous(uri: &Uri) -> bool {
    uri.as_sip().is_some_and(|uri| uri.host.eq_ignore_ascii_case(ANONYMOUS_HOST))
}
