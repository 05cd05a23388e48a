use bytes::Bytes;
use thiserror::Error;

use super::document::{DocumentError, RegistrationInfo};
use super::{REG, REGINFO};
use crate::dialog::{Dialog, DialogError, MAX_ROUTES};
use crate::header::{MediaType, TokenValue};
use crate::message::{Method, Name, SipMessage};
use crate::writer::{Builder, WriteError};

/// Milliseconds of a second.
const SECOND: u64 = 1000;
/// A NOTIFY has to come so long after a 2xx: 64·T1, Timer N (RFC 6665 §4.1.2.4).
const TIMER_N: u64 = 32 * SECOND;
/// A subscription is refreshed so long before its end, or at half its time where that is later (as TS 24.229 §5.2.3 has it).
const REFRESH_BEFORE: u64 = 600 * SECOND;
/// The shortest wait before another try, doubled with each that fails.
const FIRST_RETRY: u64 = 5 * SECOND;
/// The longest.
const LONGEST_RETRY: u64 = 3600 * SECOND;
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
/// | asking | 423 | asking, with the Min-Expires |
/// | asking, in a dialog | 481, 408, or another refusal that ends it (§4.1.2.2) | waiting, for a new dialog |
/// | asking | anything else, or nothing | waiting, longer each time, or as Retry-After says |
/// | any but waiting | NOTIFY, of the dialog or the first | notified |
/// | notified | close to its end, or a document was missed | asking, in its dialog |
/// | any but waiting | NOTIFY with `terminated` (§4.1.3) | waiting: at once for `deactivated` and `timeout`, else longer |
/// | any | its end passed unrefreshed | waiting |
///
/// A NOTIFY may come before the 2xx, and makes the dialog then (§4.4.1). Deviation: another dialog that a forked SUBSCRIBE
/// made is refused with 481: one registrar knows all that is to be known.
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
    due_at: Option<u64>,
    /// When what was granted ends; none while nothing is.
    ends_at: Option<u64>,
    /// A NOTIFY of this dialog came.
    is_notified: bool,
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
    pub fn new(settings: SubscriberSettings, call_id: String, local_tag: String, due_at: u64) -> Subscriber {
        Subscriber {
            settings,
            call_id,
            local_tag,
            cseq: 0,
            dialog: None,
            is_asking: false,
            due_at: Some(due_at),
            ends_at: None,
            is_notified: false,
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
    pub fn next_wake(&self) -> Option<u64> {
        [self.due_at.filter(|_| !self.is_asking), self.ends_at].into_iter().flatten().min()
    }

    /// When what was granted ends.
    #[must_use]
    pub fn ends_at(&self) -> Option<u64> {
        self.ends_at
    }

    /// Where requests in its dialog go first.
    #[must_use]
    pub fn dialog(&self) -> Option<&Dialog> {
        self.dialog.as_ref()
    }

    /// Its time came. True: [`Subscriber::subscribe`] is to be sent.
    pub fn wake(&mut self, now: u64) -> bool {
        if self.ends_at.is_some_and(|at| at <= now) {
            self.begin_anew(now);
        }
        !self.is_asking && self.due_at.is_some_and(|at| at <= now)
    }

    /// A document was missed: a full one comes after a SUBSCRIBE (RFC 6665 §4.4.1).
    pub fn ask_again(&mut self, now: u64) {
        self.due_at = Some(self.due_at.unwrap_or(now).min(now));
    }

    /// It cannot be sent now: then.
    pub fn postpone(&mut self, until: u64) {
        self.due_at = Some(until);
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
        builder
            .field("Contact", &format!("<{contact_uri}>"))
            .field("Event", REG)
            .field("Accept", REGINFO)
            .field("Expires", &settings.expires_seconds.to_string())
            .field("P-Asserted-Identity", &format!("<{}>", settings.identity))
            .finish()
    }

    /// The final answer to its SUBSCRIBE; `request` is what was sent. None: nothing came, or it could not be sent.
    pub fn answered(&mut self, now: u64, answer: Option<(&SipMessage, &SipMessage)>) {
        // One that was given up meanwhile says nothing of the next.
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
                    self.due_at = Some(now);
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

    fn accepted(&mut self, now: u64, request: &SipMessage, response: &SipMessage) {
        let granted = response.number(Name::Expires).ok().flatten().unwrap_or(self.settings.expires_seconds);
        match &mut self.dialog {
            Some(dialog) => _ = dialog.update(response),
            None => match Dialog::as_client(request, response) {
                Ok(dialog) => self.dialog = Some(dialog),
                Err(_) => return self.failed(now, None),
            },
        }
        if self.is_notified {
            self.lasts(now, granted.min(self.settings.expires_seconds));
        } else {
            // Nobody tells of anything without a NOTIFY.
            self.ends_at = Some(now.saturating_add(TIMER_N));
        }
    }

    /// Takes a NOTIFY with its Call-ID and our tag.
    ///
    /// # Errors
    /// [`NotifyError`]: what to answer.
    pub fn notified(&mut self, now: u64, notify: &SipMessage) -> Result<Notified, NotifyError> {
        let is_reg = |event: TokenValue| event.token == REG;
        if !notify.header(Name::Event).and_then(|event| TokenValue::parse(event).ok()).is_some_and(is_reg) {
            return Err(NotifyError::BadEvent);
        }
        let state = notify.header(Name::SubscriptionState).and_then(|state| TokenValue::parse(state).ok());
        let state = state.ok_or(NotifyError::Malformed("Subscription-State Missing"))?;
        match &mut self.dialog {
            Some(dialog) => dialog.receive(notify)?,
            // Before the 2xx, which then finds its dialog made.
            None if self.is_asking => self.dialog = Some(self.dialog_of(notify)?),
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
            self.is_notified = true;
            self.failures = 0;
            self.lasts(now, state.seconds("expires").unwrap_or(self.settings.expires_seconds));
        }
        Ok(Notified { info, is_last })
    }

    /// Why it ended, and when it may begin again (RFC 6665 §4.1.3).
    fn terminated(&mut self, now: u64, state: &TokenValue) {
        let retry_after = state.seconds("retry-after");
        let is_asking = self.is_asking;
        self.begin_anew(now);
        self.is_asking = is_asking;
        match state.parameter("reason").map(str::to_ascii_lowercase).as_deref() {
            // It may begin at once; a notifier that always says so is asked no more often than one that fails.
            Some("deactivated" | "timeout") | None => {}
            // They say that it will not be otherwise: looked at again when everything may have changed.
            Some("rejected" | "noresource" | "invariant") => self.due_at = Some(now.saturating_add(LONGEST_RETRY)),
            _ => self.failed(now, retry_after),
        }
    }

    /// The dialog that a NOTIFY makes (RFC 6665 §4.4.1): as of a request that comes, but we began it.
    fn dialog_of(&self, notify: &SipMessage) -> Result<Dialog, NotifyError> {
        let dialog = Dialog::as_server(notify, &self.local_tag)?;
        if dialog.remote_tag.is_empty() || dialog.route_set.len() > MAX_ROUTES {
            return Err(NotifyError::Malformed("Malformed From"));
        }
        Ok(Dialog { local_cseq: self.cseq, ..dialog })
    }

    fn lasts(&mut self, now: u64, seconds: u32) {
        let lasts = u64::from(seconds) * SECOND;
        self.ends_at = Some(now.saturating_add(lasts));
        let refresh = lasts.saturating_sub(REFRESH_BEFORE).max(lasts / 2);
        self.due_at = Some(now.saturating_add(refresh));
    }

    /// The dialog is gone. The next SUBSCRIBE begins another one, at once the first time.
    fn begin_anew(&mut self, now: u64) {
        self.dialog = None;
        self.ends_at = None;
        self.is_asking = false;
        let was_notified = std::mem::take(&mut self.is_notified);
        if was_notified && self.failures == 0 {
            self.failures = 1;
            self.due_at = Some(now);
        } else {
            self.failed(now, None);
        }
    }

    fn failed(&mut self, now: u64, retry_after_seconds: Option<u32>) {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after_seconds.map(|seconds| (u64::from(seconds) * SECOND).min(LONGEST_RETRY));
        self.due_at = Some(now.saturating_add(asked.unwrap_or(wait).max(SECOND)));
    }
}
