//! The notifier's side of subscriptions (RFC 6665) to `message-summary` (RFC 3842).
//!
//! | state | is entered by | what follows |
//! |---|---|---|
//! | Active | a SUBSCRIBE outside of a dialog, answered 200 | NOTIFY at once, at every change, and after each refresh |
//! | Terminated | SUBSCRIBE with `Expires: 0`, the time running out, [`Subscription::terminate`] | one last NOTIFY that says why, if it is not the NOTIFY's own failure |
//!
//! A subscription is always for the user's own messages, so there is no Pending. Times are milliseconds since 1970,
//! passed in.

use bytes::Bytes;
use thiserror::Error;

use crate::UnixMilliseconds;
use crate::dialog::{Dialog, DialogError, establish};
use crate::header::{MediaType, parse_parameters};
use crate::message::{Method, Name, SipMessage};
use crate::uri::find_parameter;
use crate::writer::{Builder, WriteError};

/// The event package.
pub const MESSAGE_SUMMARY: &str = "message-summary";

/// The package's body (RFC 3842 §3.5).
pub const SIMPLE_MESSAGE_SUMMARY: &str = "application/simple-message-summary";

/// Bytes of an Event's `id`. More: 400.
pub const MAX_EVENT_ID_BYTES: usize = 128;

/// How long subscriptions may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionLimits {
    /// What asks for less, but not for 0, is refused with 423; not applied to an hour or more (RFC 6665 §4.2.1.1).
    pub min_expires_seconds: u32,
    /// What asks for more gets this.
    pub max_expires_seconds: u32,
    /// For a SUBSCRIBE that asks for nothing.
    pub default_expires_seconds: u32,
}

impl Default for SubscriptionLimits {
    fn default() -> Self {
        SubscriptionLimits { min_expires_seconds: 60, max_expires_seconds: 86_400, default_expires_seconds: 3600 }
    }
}

/// Why a SUBSCRIBE is refused. Nothing was changed. The text is the reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SubscribeError {
    /// Another event package, or none.
    #[error("Bad Event")]
    BadEvent,
    /// The time asked for is too short.
    #[error("Interval Too Brief")]
    TooBrief {
        /// For Min-Expires.
        min_expires_seconds: u32,
    },
    /// Accept leaves no body that the package has.
    #[error("Not Acceptable")]
    NotAcceptable,
    /// A field that a SUBSCRIBE needs is wrong.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is for another dialog, another event id, or a subscription that has ended.
    #[error(transparent)]
    Dialog(#[from] DialogError),
}

impl SubscribeError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            SubscribeError::BadEvent => 489,
            SubscribeError::TooBrief { .. } => 423,
            SubscribeError::NotAcceptable => 406,
            SubscribeError::Malformed(_) => 400,
            SubscribeError::Dialog(error) => error.status(),
        }
    }

    /// Header fields that the answer needs.
    #[must_use]
    pub fn fields(self) -> Vec<rsip::Header> {
        let other = |name: &str, value: &str| rsip::Header::Other(name.to_owned(), value.to_owned());
        match self {
            SubscribeError::BadEvent => vec![other("Allow-Events", MESSAGE_SUMMARY)],
            SubscribeError::TooBrief { min_expires_seconds } => {
                vec![rsip::Header::MinExpires(min_expires_seconds.to_string().into())]
            }
            SubscribeError::NotAcceptable => vec![rsip::Header::Accept(SIMPLE_MESSAGE_SUMMARY.to_owned().into())],
            SubscribeError::Malformed(_) | SubscribeError::Dialog(_) => Vec::new(),
        }
    }
}

/// What a SUBSCRIBE asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// `id` of Event.
    pub event_id: Option<String>,
    /// How long it is given; 0 ends the subscription, or asks for one NOTIFY only.
    pub expires_seconds: u32,
}

impl SubscribeRequest {
    /// Reads and judges a SUBSCRIBE.
    ///
    /// # Errors
    /// [`SubscribeError`]
    pub fn parse(request: &SipMessage, limits: &SubscriptionLimits) -> Result<SubscribeRequest, SubscribeError> {
        let event_id = event_id(request.header(Name::Event).ok_or(SubscribeError::BadEvent)?)?;
        let asked = request.number(Name::Expires).map_err(|_| SubscribeError::Malformed("Malformed Expires"))?;
        let expires_seconds = asked.unwrap_or(limits.default_expires_seconds).min(limits.max_expires_seconds);
        if asked.is_some_and(|asked| asked > 0 && asked < limits.min_expires_seconds.min(3600)) {
            return Err(SubscribeError::TooBrief { min_expires_seconds: limits.min_expires_seconds });
        }
        if !accepts_summary(request)? {
            return Err(SubscribeError::NotAcceptable);
        }
        Ok(SubscribeRequest { event_id, expires_seconds })
    }
}

/// Why a subscription ended (RFC 6665 §4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminationReason {
    /// The subscriber let it end, or asked for it.
    Timeout,
    /// Subscribe again at once: this server stops.
    Deactivated,
    /// Subscribe again later.
    Probation,
    /// No longer allowed.
    Rejected,
    /// What was subscribed to is no more.
    NoResource,
}

impl TerminationReason {
    /// As Subscription-State writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TerminationReason::Timeout => "timeout",
            TerminationReason::Deactivated => "deactivated",
            TerminationReason::Probation => "probation",
            TerminationReason::Rejected => "rejected",
            TerminationReason::NoResource => "noresource",
        }
    }
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionState {
    /// The subscriber is told of changes.
    Active,
    /// It is over; the next NOTIFY says so and is the last.
    Terminated(TerminationReason),
}

/// One subscription. Its fields are plain, so that it can be kept with the recipient it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The dialog, which belongs to it alone.
    pub dialog: Dialog,
    /// `id` of Event.
    pub event_id: Option<String>,
    /// When it ends, milliseconds since 1970.
    pub expires_at: UnixMilliseconds,
    /// Where it stands.
    pub state: SubscriptionState,
}

impl Subscription {
    /// The subscription that a SUBSCRIBE outside of a dialog makes, to be answered 200 with `local_tag` in To. One with
    /// `Expires: 0` is over at once and gets one NOTIFY (RFC 6665 §4.4.3).
    ///
    /// # Errors
    /// [`SubscribeError`]
    pub fn accept(
        now: UnixMilliseconds,
        request: &SipMessage,
        local_tag: &str,
        limits: &SubscriptionLimits,
    ) -> Result<Subscription, SubscribeError> {
        let asked = SubscribeRequest::parse(request, limits)?;
        let mut subscription = Subscription {
            dialog: Dialog::as_server(request, local_tag)?,
            event_id: asked.event_id,
            expires_at: now,
            state: SubscriptionState::Active,
        };
        subscription.last_until(now, asked.expires_seconds);
        Ok(subscription)
    }

    /// Takes a SUBSCRIBE inside of the dialog: a new time, or the end. A NOTIFY follows in both cases.
    ///
    /// # Errors
    /// [`SubscribeError`]; 481 when it is for another subscription or this one is over.
    pub fn refresh(
        &mut self,
        now: UnixMilliseconds,
        request: &SipMessage,
        limits: &SubscriptionLimits,
    ) -> Result<(), SubscribeError> {
        if !self.is_active() || now >= self.expires_at {
            return Err(DialogError::Unknown.into());
        }
        let asked = SubscribeRequest::parse(request, limits)?;
        if asked.event_id != self.event_id {
            return Err(DialogError::Unknown.into());
        }
        self.dialog.receive(request)?;
        self.last_until(now, asked.expires_seconds);
        Ok(())
    }

    /// Completes the 200 to a SUBSCRIBE: Record-Route, Contact, Expires.
    #[must_use]
    pub fn answer(&self, now: UnixMilliseconds, response: Builder, request: &SipMessage, contact_uri: &str) -> Builder {
        establish(response, request, contact_uri)
            .field("Expires", &self.seconds_left(now).to_string())
            .field("Allow-Events", MESSAGE_SUMMARY)
    }

    /// The next NOTIFY, with `via` on top. It says that the subscription is over when it is.
    ///
    /// # Errors
    /// [`WriteError`]
    pub fn notify(
        &mut self,
        now: UnixMilliseconds,
        via: &str,
        contact_uri: &str,
        summary: &[u8],
    ) -> Result<Bytes, WriteError> {
        let event = match &self.event_id {
            Some(id) => format!("{MESSAGE_SUMMARY};id={id}"),
            None => MESSAGE_SUMMARY.to_owned(),
        };
        let state = match self.state {
            SubscriptionState::Active => format!("active;expires={}", self.seconds_left(now)),
            SubscriptionState::Terminated(reason) => format!("terminated;reason={}", reason.as_str()),
        };
        self.dialog
            .request(&Method::Notify, via)
            .field("Contact", &format!("<{contact_uri}>"))
            .field("Event", &event)
            .field("Subscription-State", &state)
            .field("Content-Type", SIMPLE_MESSAGE_SUMMARY)
            .finish_with_body(summary)
    }

    /// Takes the final answer to a NOTIFY, 408 for none and 503 for one that could not be sent (RFC 6665 §4.2.2).
    /// False: the subscription is gone and nothing more is sent in it.
    pub fn notify_answered(&mut self, status: u16, has_retry_after: bool) -> bool {
        let kept = match status {
            ..300 => true,
            // Challenges ask for the same request again, and Retry-After for patience; with these it is the end,
            // whatever else they have.
            401 | 407 => true,
            404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604 => false,
            _ => has_retry_after,
        };
        if !kept {
            self.terminate(TerminationReason::Timeout);
        }
        kept && self.is_active()
    }

    /// Ends it when its time is up. True: it ended now, and a last NOTIFY is to be sent.
    pub fn expire(&mut self, now: UnixMilliseconds) -> bool {
        let over = self.is_active() && now >= self.expires_at;
        if over {
            self.terminate(TerminationReason::Timeout);
        }
        over
    }

    /// Ends it; a last NOTIFY is to be sent.
    pub fn terminate(&mut self, reason: TerminationReason) {
        if self.is_active() {
            self.state = SubscriptionState::Terminated(reason);
        }
    }

    /// Whether the subscriber is still to be told of changes.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == SubscriptionState::Active
    }

    fn last_until(&mut self, now: UnixMilliseconds, seconds: u32) {
        self.expires_at = now.saturating_add(u64::from(seconds) * 1000);
        if seconds == 0 {
            self.terminate(TerminationReason::Timeout);
        }
    }

    /// Rounded down: what is promised must be kept.
    fn seconds_left(&self, now: UnixMilliseconds) -> u64 {
        self.expires_at.saturating_sub(now) / 1000
    }
}

fn event_id(event: &str) -> Result<Option<String>, SubscribeError> {
    let (package, parameters) = event.split_at(event.find(';').unwrap_or(event.len()));
    if package.trim() != MESSAGE_SUMMARY {
        return Err(SubscribeError::BadEvent);
    }
    let malformed = SubscribeError::Malformed("Malformed Event");
    let parameters = parse_parameters(parameters).map_err(|_| malformed)?;
    match find_parameter(&parameters, "id") {
        None => Ok(None),
        Some(id) if id.len() > MAX_EVENT_ID_BYTES => Err(malformed),
        Some(id) if !id.is_empty() && id.bytes().all(crate::message_token) => Ok(Some(id.to_owned())),
        Some(_) => Err(malformed),
    }
}

/// No Accept stands for the package's default body (RFC 6665 §3.1.3, RFC 3842 §3.5).
fn accepts_summary(request: &SipMessage) -> Result<bool, SubscribeError> {
    let malformed = |_| SubscribeError::Malformed("Malformed Accept");
    let summary = MediaType::parse(SIMPLE_MESSAGE_SUMMARY).map_err(malformed)?;
    if request.count(Name::Accept) == 0 {
        return Ok(true);
    }
    for accepted in request.list(Name::Accept) {
        let accepted = MediaType::parse(accepted).map_err(malformed)?;
        if accepted.covers(&summary) {
            return Ok(true);
        }
    }
    Ok(false)
}
