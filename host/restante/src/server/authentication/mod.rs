//! Whether a request is from who it says, where its tenant demands that users show it by Digest (RFC 8760).
//!
//! * [`mod@self`]: one request against nonces, counts and hashes.
//! * [`known`]: what users authenticate with.
//! * [`accepted`]: what was accepted lately.
//!
//! Every shard asks here. Each table lies in slices or is small, and its lock is held for one look.

mod accepted;
mod known;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use restante_deferral::model::{RecipientKey, Timestamp};
use restante_sip::authentication::{
    AuthenticationInfo, Challenge, Credentials, HashOfA1, Nonce, NonceCounts, NonceKey, Origin, Protection,
    QualityOfProtection, Subject, Variant, is_response, response,
};
use restante_sip::identity::same_user;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::uri::Uri;

use super::directory::TenantEntry;
use super::failures::Failures;
use super::limits::size;
use crate::configuration::Limits;

use self::accepted::Accepted;
pub use self::known::{KnownCredentials, KnownUsers, UsernameTaken};

/// Slices of the nonce counts.
const SLICES: usize = 16;
/// Most Authorization fields that are looked at: clients send one for each realm that they know.
const MAX_FIELDS: usize = 8;

/// What all requests are checked with.
pub struct Authentication {
    /// What users authenticate with.
    pub users: KnownUsers,
    key: NonceKey,
    next_number: AtomicU64,
    counts: Vec<Mutex<NonceCounts>>,
    failures: Mutex<Failures<Origin>>,
    max_failures: u64,
    guesses: RandomState,
    accepted: Accepted,
    nonce_lifetime_milliseconds: u64,
    /// What is remembered here is of this run, and its times are since then: no clock that is set back makes new nonces older
    /// than those that were forgotten.
    began: Instant,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// 401 with these challenges.
    Challenged {
        /// Values of WWW-Authenticate, in order of preference.
        challenges: Vec<String>,
        /// For whoever counts.
        why: Why,
    },
    /// 400: its credentials cannot be read, or are for another request.
    Malformed(&'static str),
    /// 480: too many failures.
    SlowDown {
        /// When to try again.
        retry_after_seconds: u32,
    },
}

/// Why a challenge is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No credentials for this realm, or by no algorithm that is asked for.
    NoCredentials,
    /// Credentials without a `qop` that was offered; without any, nobody could tell their repetition.
    Unprotected,
    /// The nonce is too old, or of another run of the server.
    Stale,
    /// The nonce count was used before.
    Repeated,
    /// The response is wrong, or nobody has this username.
    Wrong,
}

impl Unauthenticated {
    /// As metrics name it.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Unauthenticated::Challenged { why, .. } => match why {
                Why::NoCredentials => "challenged",
                Why::Unprotected => "unprotected",
                Why::Stale => "stale",
                Why::Repeated => "repeated",
                Why::Wrong => "wrong",
            },
            Unauthenticated::Malformed(_) => "malformed",
            Unauthenticated::SlowDown { .. } => "slowed-down",
        }
    }
}

/// What a request shows.
pub struct Presented<'a> {
    /// Its method, as it goes into the hash.
    pub method: Method,
    /// Values of Authorization.
    pub authorizations: Vec<&'a str>,
    /// Its body, for `auth-int`.
    pub body: Bytes,
    /// Whether a digest URI is of what was asked for.
    pub is_for: &'a (dyn Fn(&str) -> bool + Sync),
    /// Of AUTH: its URI, which credentials that name none are for (RFC 4976 §5.1). None: a SIP request.
    pub auth_uri: Option<String>,
}

impl<'a> Presented<'a> {
    fn of(request: &'a SipMessage, is_for: &'a (dyn Fn(&str) -> bool + Sync)) -> Presented<'a> {
        Presented {
            method: request.method().unwrap_or(Method::Other(String::new())),
            authorizations: request.headers(Name::Authorization).take(MAX_FIELDS).collect(),
            body: request.body(),
            is_for,
            auth_uri: None,
        }
    }

    /// AUTH has neither `auth-int` nor algorithms that are bound to a session (RFC 4976 §9.1), whatever SIP may have.
    fn qualities<'t>(&self, tenant: &'t TenantEntry) -> &'t [QualityOfProtection] {
        if self.auth_uri.is_some() { &[QualityOfProtection::Auth] } else { &tenant.digest.qualities }
    }

    fn algorithms(&self, tenant: &TenantEntry) -> Vec<Variant> {
        let all = tenant.digest.algorithms.iter().copied();
        if self.auth_uri.is_none() {
            return all.collect();
        }
        let mut unbound: Vec<Variant> = Vec::new();
        for variant in all.map(|variant| Variant { is_session: false, ..variant }) {
            if !unbound.contains(&variant) {
                unbound.push(variant);
            }
        }
        unbound
    }
}

/// A request's surroundings.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The tenant that demands it.
    pub tenant: &'a TenantEntry,
    /// Where it came from.
    pub source: IpAddr,
    /// When.
    pub now: Instant,
}

impl Authentication {
    /// With a random key, which must not be used by another run: the counts of its nonces are in memory only.
    #[must_use]
    pub fn new(key: &[u8; 32], first_number: u64, limits: &Limits, began: Instant) -> Authentication {
        let nonces = size(limits.max_nonces).div_ceil(SLICES);
        Authentication {
            users: KnownUsers::default(),
            key: NonceKey::new(key),
            next_number: AtomicU64::new(first_number),
            counts: (0..SLICES).map(|_| Mutex::new(NonceCounts::new(nonces))).collect(),
            failures: Mutex::new(Failures::new(
                limits.max_failed_authentications,
                limits.failed_authentication_seconds.saturating_mul(1000),
            )),
            max_failures: limits.max_failed_authentications,
            guesses: RandomState::new(),
            accepted: Accepted::default(),
            nonce_lifetime_milliseconds: limits.max_nonce_seconds.saturating_mul(1000),
            began,
        }
    }

    /// As times are remembered here.
    fn since_start(&self, now: Instant) -> Timestamp {
        let passed = now.saturating_duration_since(self.began).as_millis();
        Timestamp(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Which user's request this is. A count is used up by it.
    ///
    /// # Errors
    /// [`Unauthenticated`]
    pub fn check(&self, request: &SipMessage, asked: Asked<'_>) -> Result<RecipientKey, Unauthenticated> {
        self.check_presented(&Presented::of(request, &|uri| is_for(request, uri)), asked)
    }

    /// The same of a request of another protocol: AUTH of MSRP (RFC 4976 §9.1).
    ///
    /// # Errors
    /// [`Unauthenticated`]
    pub fn check_presented(&self, request: &Presented<'_>, asked: Asked<'_>) -> Result<RecipientKey, Unauthenticated> {
        let Asked { tenant, source, now } = asked;
        let now = self.since_start(now);
        let origin = self.key.origin(source);
        self.may_try(origin, now)?;
        let realm = &*tenant.digest.realm;
        let Some((credentials, variant)) = credentials(request, tenant)? else {
            return Err(self.challenged(request, asked, Why::NoCredentials));
        };
        let protection = credentials.protection.as_ref();
        let Some(protection) = protection.filter(|it| request.qualities(tenant).contains(&it.quality)) else {
            return Err(self.challenged(request, asked, Why::Unprotected));
        };
        if !(request.is_for)(&credentials.uri) {
            return Err(Unauthenticated::Malformed("Digest URI Is Not The Request-URI"));
        }
        // Nothing is computed for a nonce that is not ours: guesses need one, and are charged to whoever got it.
        let Ok(nonce) = self.key.read(realm, &credentials.nonce, now.0, self.nonce_lifetime_milliseconds) else {
            return Err(self.challenged(request, asked, Why::Stale));
        };
        self.may_try(nonce.origin, now)?;
        let user = self.named(tenant, &credentials);
        let hash = user.as_ref().and_then(|user| user.hashes.iter().find(|hash| hash.algorithm() == variant.algorithm));
        // Somebody unknown costs as much time as somebody known.
        let nobody = || HashOfA1::new(variant.algorithm, "", realm, "");
        let is_right = is_right(request, hash.unwrap_or(&nobody()), (&credentials, variant), protection);
        // Who asks on behalf of several tenants of one realm asks each of them: that is one guess, and none if it is right for
        // one of them. Nor is it another one when the same request comes again.
        let guess = self.guess(&credentials);
        let Some(user) = user.as_ref().filter(|_| is_right && hash.is_some()) else {
            let failures = self.failures().note_guess(nonce.origin, guess, now);
            if failures == Some(self.max_failures) {
                tracing::warn!(tenant = %tenant.name, %source, "blocked for a while: too many failed authentications");
            }
            return Err(self.challenged(request, asked, Why::Wrong));
        };
        self.failures().withdraw(nonce.origin, guess);
        self.use_count(&nonce, protection, now).ok_or_else(|| self.challenged(request, asked, Why::Repeated))?;
        if tenant.digest.gives_info {
            self.accepted.note(self.guesses.hash_one((&tenant.name, guess)));
        }
        Ok(user.user.clone())
    }

    /// Authentication-Info for the answer to a request that was taken: that the password is known here, and another nonce
    /// where this one has less than half of its time left. None: this tenant did not accept these credentials, or gives none.
    /// A request may be taken for what else is known of it, and an answer that then said whether its credentials are right
    /// would say so of any password, to anybody and as often as they like.
    pub fn info(&self, request: &SipMessage, tenant: &TenantEntry, now: Instant) -> Option<String> {
        if !tenant.digest.gives_info {
            return None;
        }
        let was_accepted = |credentials: &Credentials| {
            self.accepted.contains(self.guesses.hash_one((&tenant.name, self.guess(credentials))))
        };
        self.shown(&Presented::of(request, &|_| true), tenant, now, was_accepted)
    }

    /// The same for an AUTH that [`Authentication::check_presented`] has just taken: its answer must have it (RFC 4976 §9.1),
    /// and nothing but its credentials had it taken.
    pub fn info_of_auth(&self, request: &Presented<'_>, tenant: &TenantEntry, now: Instant) -> Option<String> {
        self.shown(request, tenant, now, |_| true)
    }

    fn shown(
        &self,
        request: &Presented<'_>,
        tenant: &TenantEntry,
        now: Instant,
        was_accepted: impl FnOnce(&Credentials) -> bool,
    ) -> Option<String> {
        let (credentials, variant) = credentials(request, tenant).ok()??;
        let protection = credentials.protection.as_ref()?;
        let (realm, now) = (&*tenant.digest.realm, self.since_start(now));
        let lifetime = self.nonce_lifetime_milliseconds;
        let nonce = self.key.read(realm, &credentials.nonce, now.0, lifetime).ok()?;
        let user = self.named(tenant, &credentials)?;
        let hash = user.hashes.iter().find(|hash| hash.algorithm() == variant.algorithm)?;
        if !was_accepted(&credentials) || !is_right(request, hash, (&credentials, variant), protection) {
            return None;
        }
        let is_old = nonce.issued_at.abs_diff(now.0) > lifetime / 2;
        // Failures with it are charged to whoever got the one before.
        let next_nonce = is_old.then(|| self.nonce(realm, nonce.origin, now));
        let subject = subject("", (&credentials, variant), &[]);
        let protection = Protection { quality: QualityOfProtection::Auth, ..protection.clone() };
        let shown = Some(AuthenticationInfo::shown(hash, &subject, &protection));
        Some(AuthenticationInfo { next_nonce, shown }.to_string())
    }

    /// Who credentials name.
    fn named(&self, tenant: &TenantEntry, credentials: &Credentials) -> Option<std::sync::Arc<KnownCredentials>> {
        let user = match credentials.is_user_hash {
            true => self.users.find_hashed(&tenant.name, &credentials.username),
            false => self.users.find(&tenant.name, &credentials.username),
        };
        user.filter(|user| *user.realm == *tenant.digest.realm)
    }

    /// What tells credentials from others.
    fn guess(&self, credentials: &Credentials) -> u64 {
        self.guesses.hash_one((&credentials.nonce, &credentials.username, &credentials.response))
    }

    fn nonce(&self, realm: &str, origin: Origin, now: Timestamp) -> String {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.key.write(realm, &Nonce { issued_at: now.0, origin, number })
    }

    fn use_count(&self, nonce: &Nonce, protection: &Protection, now: Timestamp) -> Option<()> {
        let slice = usize::try_from(nonce.number % SLICES as u64).unwrap_or(0);
        let mut counts = self.counts.get(slice)?.lock().unwrap_or_else(PoisonError::into_inner);
        counts.note(nonce, protection.count()?, now.0, self.nonce_lifetime_milliseconds).ok()
    }

    /// One for each algorithm, with one nonce (RFC 8760 §2.3).
    fn challenged(&self, request: &Presented<'_>, asked: Asked<'_>, why: Why) -> Unauthenticated {
        let digest = &asked.tenant.digest;
        let nonce = self.nonce(&digest.realm, self.key.origin(asked.source), self.since_start(asked.now));
        let qualities = request.qualities(asked.tenant);
        let challenge = |algorithm: &Variant| {
            let challenge = Challenge {
                realm: digest.realm.to_string(),
                nonce: nonce.clone(),
                opaque: None,
                stale: matches!(why, Why::Stale | Why::Repeated),
                algorithm: *algorithm,
                quality_of_protection: qualities.iter().map(|quality| quality.as_str().to_owned()).collect(),
                takes_user_hash: digest.takes_user_hash,
            };
            challenge.to_string()
        };
        Unauthenticated::Challenged {
            challenges: request.algorithms(asked.tenant).iter().map(challenge).collect(),
            why,
        }
    }

    fn may_try(&self, origin: Origin, now: Timestamp) -> Result<(), Unauthenticated> {
        match self.failures().wait_seconds(origin, now) {
            Some(retry_after_seconds) => Err(Unauthenticated::SlowDown { retry_after_seconds }),
            None => Ok(()),
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures<Origin>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of a request that are for the tenant's realm, by an algorithm that it asks for. What cannot be read may be for another
/// realm, and counts only where there are no others.
fn credentials(
    request: &Presented<'_>,
    tenant: &TenantEntry,
) -> Result<Option<(Credentials, Variant)>, Unauthenticated> {
    let (mut found, mut is_malformed) = (None, false);
    let algorithms = request.algorithms(tenant);
    for value in request.authorizations.iter().take(MAX_FIELDS) {
        let Ok(read) = Credentials::parse_for(value, request.auth_uri.as_deref()) else {
            is_malformed = true;
            continue;
        };
        let Some(credentials) = read.filter(|it| *it.realm == *tenant.digest.realm) else { continue };
        if credentials.is_user_hash && !tenant.digest.takes_user_hash {
            continue;
        }
        let variant = credentials.algorithm().filter(|it| algorithms.contains(it));
        found = found.or(variant.map(|variant| (credentials, variant)));
    }
    match found {
        None if is_malformed => Err(Unauthenticated::Malformed("Malformed Authorization")),
        found => Ok(found),
    }
}

/// Whether the URI in the hash is the one that was asked for: the same user, or the same host where there is none. Clients
/// leave parameters out (RFC 3261 §22.4 lets a server accept more).
fn is_for(request: &SipMessage, uri: &str) -> bool {
    let Some(asked) = request.request_uri() else { return false };
    if asked == uri {
        return true;
    }
    let (Ok(asked), Ok(uri)) = (Uri::parse(asked), Uri::parse(uri)) else { return false };
    match (&asked, &uri) {
        (Uri::Sip(asked), Uri::Sip(uri)) if asked.user.is_none() && uri.user.is_none() => {
            asked.host.eq_ignore_ascii_case(&uri.host)
        }
        _ => same_user(&asked, &uri),
    }
}

fn is_right(request: &Presented<'_>, hash: &HashOfA1, said: (&Credentials, Variant), protection: &Protection) -> bool {
    let expected = response(hash, &subject(request.method.as_str(), said, &request.body), Some(protection));
    is_response(&expected, &said.0.response)
}

fn subject<'a>(method: &'a str, (credentials, variant): (&'a Credentials, Variant), body: &'a [u8]) -> Subject<'a> {
    let Credentials { uri, nonce, .. } = credentials;
    Subject { method, uri, nonce, is_session: variant.is_session, body }
}

#[cfg(test)]
mod tests;
