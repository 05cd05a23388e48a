use bytes::Bytes;
use thiserror::Error;

use super::document::{DocumentError, RegistrationInfo};
use super::{REG, REGINFO};
use crate::UnixMilliseconds;
use crate::dialog::{Dialog, DialogError, MAX_ROUTES, is_token};
use crate::header::{MediaType, TokenValue};
use crate::message::{Method, Name, SipMessage};
use crate::writer::{Builder, WriteError};

const MILLISECONDS_PER_SECOND: u64 = 1000;
/// A NOTIFY has to come so long after a 2xx: 64·T1, Timer N (RFC 6665 §4.1.2.4).
const TIMER_N_MILLISECONDS: u64 = 32 * MILLISECONDS_PER_SECOND;
/// A subscription is refreshed so long before its end, or at half its time where that is later (as TS 24.229 §5.2.3 has
/// it).
const REFRESH_BEFORE_MILLISECONDS: u64 = 600 * MILLISECONDS_PER_SECOND;
/// The shortest wait before another try, doubled with each that fails.
const FIRST_RETRY_MILLISECONDS: u64 = 5 * MILLISECONDS_PER_SECOND;
/// The longest.
const LONGEST_RETRY_MILLISECONDS: u64 = 3600 * MILLISECONDS_PER_SECOND;
/// A subscription that was notified so long is one that works: what failed before it counts no more.
const PROVEN_AFTER_MILLISECONDS: u64 = 60 * MILLISECONDS_PER_SECOND;
/// The longest interval that a 423 may talk us into.
const MAX_EXPIRES_SECONDS: u32 = 7 * 24 * 3600;

/// Who subscribes to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberSettings {
    /// The address-of-record: Request-URI and To.
    pub user: String,
    /// Who asks: From and P-Asserted-Identity, a SIP URI.
    pub identity: String,
    /// Seconds to ask for.
    pub expires_seconds: u32,
}

/// A subscription to registration events (RFC 3680 §4, RFC 6665 §4.1).
///
/// | state | what happens | next |
/// |---|---|---|
/// | waiting | its time comes | asking |
/// | asking | 2xx | notified, or waiting for a NOTIFY (Timer N) |
/// | asking | 423 | asking, with the Min-Expires: at once the first time, then longer each time |
/// | asking, in a dialog | 481, or another refusal that ends it (§4.1.2.2) | waiting, for a new dialog |
/// | asking | anything else, or nothing | waiting, longer each time, or as Retry-After says |
/// | any but waiting | NOTIFY, of the dialog or the first | notified |
/// | notified | close to its end, or a document was missed | asking, in its dialog |
/// | any but waiting | NOTIFY with `terminated` (§4.1.3) | waiting: at once for `deactivated` and `timeout`, else longer |
/// | any | its end passed unrefreshed | waiting |
///
/// Whatever a notifier says, it is asked no faster than one that fails: only what follows a subscription that lived for
/// a minute, or the first gap in a dialog's documents, goes at once.
///
/// What begins anew has a Call-ID and a tag of its own (§4.4.1): see [`Subscriber::renew`]. So neither a late answer
/// nor a late NOTIFY of the dialog before is taken for one of the next.
///
/// A NOTIFY may come before the 2xx, and makes the dialog then (§4.4.1). Deviation: another dialog that a forked
/// SUBSCRIBE made is refused with 481: one registrar knows all that is to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    settings: SubscriberSettings,
    call_id: String,
    local_tag: String,
    /// Of the last SUBSCRIBE outside of a dialog.
    cseq: u32,
    dialog: Option<Dialog>,
    is_asking: bool,
    /// When a SUBSCRIBE is to be sent; none while nothing is due.
    due_at: Option<UnixMilliseconds>,
    /// When what was granted ends; none while nothing is.
    ends_at: Option<UnixMilliseconds>,
    /// When the first NOTIFY of this dialog came.
    notified_since: Option<UnixMilliseconds>,
    /// Until when the 2xx grants it; none before that.
    granted_until: Option<UnixMilliseconds>,
    /// When a SUBSCRIBE was last due and sent.
    asked_at: Option<UnixMilliseconds>,
    /// A document was missed, and none was asked for since.
    is_missing: bool,
    /// One was asked for in this dialog.
    asked_for_missing: bool,
    /// Its dialog is over: what begins anew needs other names.
    is_spent: bool,
    failures: u32,
}

/// A NOTIFY that was taken: 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    /// What it says; none: nothing, or nothing that can be read.
    pub info: Option<Result<RegistrationInfo, DocumentError>>,
    /// It was the last one of its dialog.
    pub is_last: bool,
}

/// Why a NOTIFY is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotifyError {
    /// Another package.
    #[error("Bad Event")]
    BadEvent,
    /// A field that a NOTIFY needs is missing or wrong.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is of no subscription of ours.
    #[error(transparent)]
    Dialog(#[from] DialogError),
}

impl NotifyError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            NotifyError::BadEvent => 489,
            NotifyError::Malformed(_) => 400,
            NotifyError::Dialog(error) => error.status(),
        }
    }
}

impl Subscriber {
    /// One that is to begin at `due_at`. Call-ID and tag are unguessable, and what its NOTIFYs are known by.
    #[must_use]
    pub fn new(
        settings: SubscriberSettings,
        call_id: String,
        local_tag: String,
        due_at: UnixMilliseconds,
    ) -> Subscriber {
        Subscriber {
            settings,
            call_id,
            local_tag,
            cseq: 0,
            dialog: None,
            is_asking: false,
            due_at: Some(due_at),
            ends_at: None,
            notified_since: None,
            granted_until: None,
            asked_at: None,
            is_missing: false,
            asked_for_missing: false,
            is_spent: false,
            failures: 0,
        }
    }

    /// What its NOTIFYs are known by: Call-ID and our tag.
    #[must_use]
    pub fn key(&self) -> (&str, &str) {
        (&self.call_id, &self.local_tag)
    }

    /// When it wants to be looked at; none while an answer is awaited.
    #[must_use]
    pub fn next_wake(&self) -> Option<UnixMilliseconds> {
        [self.due_at.filter(|_| !self.is_asking), self.ends_at].into_iter().flatten().min()
    }

    /// When what was granted ends.
    #[must_use]
    pub fn ends_at(&self) -> Option<UnixMilliseconds> {
        self.ends_at
    }

    /// Where requests in its dialog go first.
    #[must_use]
    pub fn dialog(&self) -> Option<&Dialog> {
        self.dialog.as_ref()
    }

    /// Its time came. True: [`Subscriber::subscribe`] is to be sent, with other names where [`Subscriber::is_spent`]
    /// says so.
    pub fn wake(&mut self, now: UnixMilliseconds) -> bool {
        if self.ends_at.is_some_and(|at| at <= now) {
            self.begin_anew(now);
        }
        let is_due = !self.is_asking && self.due_at.is_some_and(|at| at <= now);
        if is_due {
            self.asked_at = Some(now);
        }
        is_due
    }

    /// Whether its dialog is over, so that its next SUBSCRIBE needs [`Subscriber::renew`].
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Names what begins anew: Call-ID and tag, unguessable as those before.
    pub fn renew(&mut self, call_id: String, local_tag: String) {
        (self.call_id, self.local_tag) = (call_id, local_tag);
        self.cseq = 0;
        self.is_spent = false;
    }

    /// A document was missed: a full one comes after a SUBSCRIBE (RFC 6665 §4.2.1.2, RFC 3680 §4.7). It is asked for at
    /// once the first time.
    pub fn ask_again(&mut self, now: UnixMilliseconds) {
        let at = if std::mem::replace(&mut self.asked_for_missing, true) { self.not_too_soon(now) } else { now };
        self.is_missing = true;
        self.due_at = Some(self.due_at.unwrap_or(at).min(at));
    }

    /// It cannot be sent now: then.
    pub fn postpone(&mut self, until: UnixMilliseconds) {
        self.due_at = Some(until);
    }

    /// It could not be sent, whatever was made of it: a try that failed.
    pub fn not_sent(&mut self, now: UnixMilliseconds) {
        self.is_asking = false;
        self.failed(now, None);
    }

    /// The next SUBSCRIBE; outside of a dialog it has this Route, a value with its angle brackets.
    ///
    /// # Errors
    /// [`WriteError`]
    pub fn subscribe(&mut self, via: &str, contact_uri: &str, route: &str) -> Result<Bytes, WriteError> {
        let settings = &self.settings;
        let builder = match &mut self.dialog {
            Some(dialog) => dialog.request(&Method::Subscribe, via),
            None => {
                self.cseq = self.cseq.saturating_add(1);
                Builder::request(&Method::Subscribe, &settings.user)
                    .field("Via", via)
                    .field("Max-Forwards", "70")
                    .unfolded("Route", route)
                    .field("From", &format!("<{}>;tag={}", settings.identity, self.local_tag))
                    .field("To", &format!("<{}>", settings.user))
                    .field("Call-ID", &self.call_id)
                    .field("CSeq", &format!("{} SUBSCRIBE", self.cseq))
            }
        };
        self.is_asking = true;
        self.due_at = None;
        self.is_missing = false;
        builder
            .field("Contact", &format!("<{contact_uri}>"))
            .field("Event", REG)
            .field("Accept", REGINFO)
            .field("Expires", &settings.expires_seconds.to_string())
            .field("P-Asserted-Identity", &format!("<{}>", settings.identity))
            .finish()
    }

    /// The final answer to its SUBSCRIBE; `request` is what was sent. None: nothing came.
    pub fn answered(&mut self, now: UnixMilliseconds, answer: Option<(&SipMessage, &SipMessage)>) {
        // One that was given up meanwhile, or of a dialog that is over, says nothing of the next.
        if answer.is_some_and(|(request, _)| request.call_id() != Some(&self.call_id)) {
            return;
        }
        if !std::mem::take(&mut self.is_asking) {
            return;
        }
        let Some((request, response)) = answer else { return self.failed(now, None) };
        let seconds = |name| response.number(name).ok().flatten();
        match response.status() {
            Some(200..300) => self.accepted(now, request, response),
            Some(423) => match seconds(Name::MinExpires) {
                Some(least) if least > self.settings.expires_seconds && least <= MAX_EXPIRES_SECONDS => {
                    self.settings.expires_seconds = least;
                    self.soon(now);
                }
                _ => self.failed(now, None),
            },
            // RFC 6665 §4.1.2.2: these end it. Anything else leaves it until its end.
            Some(404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604) if self.dialog.is_some() => {
                self.begin_anew(now);
            }
            _ => self.failed(now, seconds(Name::RetryAfter)),
        }
    }

    fn accepted(&mut self, now: UnixMilliseconds, request: &SipMessage, response: &SipMessage) {
        let granted = response.number(Name::Expires).ok().flatten().unwrap_or(self.settings.expires_seconds);
        match &mut self.dialog {
            Some(dialog) => _ = dialog.update(response),
            None => match Dialog::as_client(request, response) {
                Ok(dialog) => self.dialog = Some(dialog),
                Err(_) => return self.failed(now, None),
            },
        }
        self.granted_until = Some(now.saturating_add(u64::from(granted) * MILLISECONDS_PER_SECOND));
        if self.notified_since.is_some() {
            self.lasts(now, granted.min(self.settings.expires_seconds));
        } else {
            // Nobody tells of anything without a NOTIFY.
            self.ends_at = Some(now.saturating_add(TIMER_N_MILLISECONDS));
        }
    }

    /// Takes a NOTIFY with its Call-ID and our tag.
    ///
    /// # Errors
    /// [`NotifyError`]: what to answer.
    pub fn notified(&mut self, now: UnixMilliseconds, notify: &SipMessage) -> Result<Notified, NotifyError> {
        let is_reg = |event: TokenValue| event.token == REG;
        if !notify.header(Name::Event).and_then(|event| TokenValue::parse(event).ok()).is_some_and(is_reg) {
            return Err(NotifyError::BadEvent);
        }
        let state = notify.header(Name::SubscriptionState).and_then(|state| TokenValue::parse(state).ok());
        let state = state.ok_or(NotifyError::Malformed("Subscription-State Missing"))?;
        // A late one of the dialog before this.
        let is_ours = notify.call_id() == Some(&self.call_id)
            && notify.to().is_ok_and(|to| to.tag() == Some(self.local_tag.as_str()));
        if !is_ours {
            return Err(DialogError::Unknown.into());
        }
        match &mut self.dialog {
            Some(dialog) => dialog.receive(notify)?,
            // Before the 2xx, which then finds its dialog made.
            None if self.is_asking && !self.is_spent => self.dialog = Some(self.dialog_of(notify)?),
            None => return Err(DialogError::Unknown.into()),
        }
        let is_reginfo = |value: &str| MediaType::parse(value).is_ok_and(|it| it.is("application", "reginfo+xml"));
        let body = notify.body();
        let info = (!body.is_empty() && notify.header(Name::ContentType).is_some_and(is_reginfo))
            .then(|| RegistrationInfo::parse(&body));
        let is_last = state.is("terminated");
        if is_last {
            self.terminated(now, &state);
        } else {
            let was_notified = self.notified_since.is_some();
            self.notified_since.get_or_insert(now);
            self.forget_failures(now);
            match (state.seconds("expires"), self.granted_until) {
                (Some(seconds), _) => self.lasts(now, seconds),
                // It says nothing of its end, which is as it was (RFC 6665 §4.1.3).
                (None, _) if was_notified => {}
                (None, Some(until)) => self.lasts_until(now, until),
                (None, None) => self.lasts(now, self.settings.expires_seconds),
            }
        }
        Ok(Notified { info, is_last })
    }

    /// Why it ended, and when it may begin again (RFC 6665 §4.1.3).
    fn terminated(&mut self, now: UnixMilliseconds, state: &TokenValue) {
        let retry_after = state.seconds("retry-after");
        self.begin_anew(now);
        match state.parameter("reason").map(str::to_ascii_lowercase).as_deref() {
            // It may begin at once; a notifier that always says so is asked no more often than one that fails.
            Some("deactivated" | "timeout") | None => {}
            // They say that it will not be otherwise: looked at again when everything may have changed.
            Some("rejected" | "noresource" | "invariant") => {
                self.due_at = Some(now.saturating_add(LONGEST_RETRY_MILLISECONDS))
            }
            _ => self.failed(now, retry_after),
        }
    }

    /// The dialog that a NOTIFY makes (RFC 6665 §4.4.1): as of a request that comes, but we began it.
    fn dialog_of(&self, notify: &SipMessage) -> Result<Dialog, NotifyError> {
        let dialog = Dialog::as_server(notify, &self.local_tag)?;
        if !is_token(&dialog.remote_tag) || dialog.route_set.len() > MAX_ROUTES {
            return Err(NotifyError::Malformed("Malformed From"));
        }
        Ok(Dialog { local_cseq: self.cseq, ..dialog })
    }

    fn lasts(&mut self, now: UnixMilliseconds, seconds: u32) {
        self.lasts_until(now, now.saturating_add(u64::from(seconds) * MILLISECONDS_PER_SECOND));
    }

    fn lasts_until(&mut self, now: UnixMilliseconds, ends_at: UnixMilliseconds) {
        let lasts = ends_at.saturating_sub(now);
        self.ends_at = Some(ends_at);
        let refresh = lasts.saturating_sub(REFRESH_BEFORE_MILLISECONDS).max(lasts / 2);
        let refresh_at = self.not_too_soon(now.saturating_add(refresh));
        // What was missed is not forgotten over an answer that comes after it.
        let missing = self.due_at.filter(|_| self.is_missing);
        self.due_at = Some(missing.unwrap_or(refresh_at).min(refresh_at));
    }

    /// Not before a try that failed would be repeated.
    fn not_too_soon(&self, at: UnixMilliseconds) -> UnixMilliseconds {
        self.asked_at.map_or(at, |asked| at.max(asked.saturating_add(FIRST_RETRY_MILLISECONDS)))
    }

    fn forget_failures(&mut self, now: UnixMilliseconds) {
        if self.notified_since.is_some_and(|since| since.saturating_add(PROVEN_AFTER_MILLISECONDS) <= now) {
            self.failures = 0;
        }
    }

    /// The dialog is gone. The next SUBSCRIBE begins another one, at once the first time.
    fn begin_anew(&mut self, now: UnixMilliseconds) {
        self.forget_failures(now);
        self.dialog = None;
        self.ends_at = None;
        self.granted_until = None;
        self.is_asking = false;
        self.is_spent = true;
        self.is_missing = false;
        self.asked_for_missing = false;
        match self.notified_since.take() {
            Some(_) => self.soon(now),
            None => self.failed(now, None),
        }
    }

    /// At once the first time, then longer each time.
    fn soon(&mut self, now: UnixMilliseconds) {
        if self.failures > 0 {
            return self.failed(now, None);
        }
        self.failures = 1;
        self.due_at = Some(now);
    }

    fn failed(&mut self, now: UnixMilliseconds, retry_after_seconds: Option<u32>) {
        let wait = FIRST_RETRY_MILLISECONDS.saturating_mul(1 << self.failures.min(16)).min(LONGEST_RETRY_MILLISECONDS);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after_seconds
            .map(|seconds| (u64::from(seconds) * MILLISECONDS_PER_SECOND).min(LONGEST_RETRY_MILLISECONDS));
        self.due_at = Some(now.saturating_add(asked.unwrap_or(wait).max(MILLISECONDS_PER_SECOND)));
    }
}
