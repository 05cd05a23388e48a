//! Session timers (RFC 4028): how it is noticed that the other side of a session is gone.
//!
//! What both sides agree on, from our side (§9, table 2):
//!
//! | the request supports `timer` | it names a refresher | the answer says | who refreshes |
//! |---|---|---|---|
//! | no | –, or the answering side | `uas` | we |
//! | no | the asking side | nothing: there is no timer | – |
//! | yes | – | `uac`, with `Require: timer` | the peer |
//! | yes | the asking side | `uac`, with `Require: timer` | the peer |
//! | yes | the answering side | `uas` | we |
//!
//! A request without Session-Expires gets no timer: sessions of ours end by themselves. An interval below
//! [`MIN_SE_SECONDS`] is refused with 422 where the request supports `timer`; where only a proxy put it there nobody would
//! understand that, and there is no timer.
//!
//! A [`SessionTimer`] that runs:
//!
//! | state | input | does | next |
//! |---|---|---|---|
//! | waiting, we refresh | half of the interval is over (§10) | refresh | refreshing |
//! | waiting, the peer refreshes | the interval is over but for a third of it, 32 s at most (§10) | end the session | over |
//! | waiting | a refresh of the peer's | – | waiting, anew |
//! | refreshing | 2xx | – | waiting, anew, or without a timer where it says nothing |
//! | refreshing | 422 | refresh again with what its Min-SE says | refreshing |
//! | refreshing | 408, 481, no answer (§10; RFC 3261 §12.2.1.2) | end the session | over |
//! | refreshing | 491: the peer asks for something, too | after a moment (RFC 3261 §14.1), refresh again | refreshing |
//! | refreshing | any other answer | – | waiting for the end of the interval |
//! | refreshing | the interval is over but for a third, 32 s at most | end the session | over |

use std::time::{Duration, Instant};

use crate::header::HeaderError;
use crate::message::{Name, SipMessage};
use crate::writer::Builder;

/// The shortest interval that is taken, in seconds (RFC 4028 §4).
pub const MIN_SE_SECONDS: u32 = 90;
/// The option tag.
pub const TIMER: &str = "timer";
/// A session ends so long before its interval does at the most (§10).
const MAX_MARGIN: Duration = Duration::from_secs(32);

/// Who refreshes, as the messages call the sides of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// Who sent the request.
    Asking,
    /// Who answered it.
    Answering,
}

impl Refresher {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refresher::Asking => "uac",
            Refresher::Answering => "uas",
        }
    }
}

/// Session-Expires (§4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// The interval.
    pub seconds: u32,
    /// Who refreshes; none: the answer says it.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// What a message says; none where it says nothing.
    ///
    /// # Errors
    /// [`HeaderError`]: 400.
    pub fn of(message: &SipMessage) -> Result<Option<SessionExpires>, HeaderError> {
        let Some(text) = message.header(Name::SessionExpires) else { return Ok(None) };
        let seconds = message.number(Name::SessionExpires)?.ok_or(HeaderError::Number)?;
        let refresher = text.split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("refresher").then(|| value.trim().to_ascii_lowercase())
        });
        let refresher = match refresher.as_deref() {
            None => None,
            Some("uac") => Some(Refresher::Asking),
            Some("uas") => Some(Refresher::Answering),
            Some(_) => return Err(HeaderError::Syntax),
        };
        Ok(Some(SessionExpires { seconds, refresher }))
    }

    /// Its value.
    #[must_use]
    pub fn write(self) -> String {
        match self.refresher {
            Some(refresher) => format!("{};refresher={}", self.seconds, refresher.as_str()),
            None => self.seconds.to_string(),
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 422 with Min-SE.
    TooSmall,
    /// 400.
    Malformed,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The interval.
    pub interval: Duration,
    /// We refresh; else the peer.
    pub we_refresh: bool,
}

/// What we answer to a request that sets up or refreshes a session; none: it has no timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What holds from now on.
    pub terms: Terms,
    expires: SessionExpires,
}

impl Answer {
    /// Adds what a 2xx says of it.
    #[must_use]
    pub fn write(self, builder: Builder) -> Builder {
        let require = (self.expires.refresher == Some(Refresher::Asking)).then_some(TIMER);
        builder.field(Name::SessionExpires.as_str(), &self.expires.write()).optional("Require", require)
    }
}

/// What a request of the peer's is answered (§9).
///
/// # Errors
/// [`Refusal`]
pub fn answer(request: &SipMessage) -> Result<Option<Answer>, Refusal> {
    let Some(asked) = SessionExpires::of(request).map_err(|_| Refusal::Malformed)? else { return Ok(None) };
    request.number(Name::MinSe).map_err(|_| Refusal::Malformed)?;
    let supports = supports(request);
    match supports {
        true if asked.seconds < MIN_SE_SECONDS => return Err(Refusal::TooSmall),
        false if asked.seconds < MIN_SE_SECONDS => return Ok(None),
        _ => {}
    }
    let refresher = match (supports, asked.refresher) {
        (false, Some(Refresher::Asking)) => return Ok(None),
        (false, _) | (true, Some(Refresher::Answering)) => Refresher::Answering,
        (true, _) => Refresher::Asking,
    };
    // An answering side never raises it (§9).
    let seconds = asked.seconds;
    let terms =
        Terms { interval: Duration::from_secs(u64::from(seconds)), we_refresh: refresher == Refresher::Answering };
    Ok(Some(Answer { terms, expires: SessionExpires { seconds, refresher: Some(refresher) } }))
}

/// What a 2xx to a request of ours says (§7.2). A refresher that is not named is us: nothing is lost by one refresh more.
#[must_use]
pub fn answered(response: &SipMessage) -> Option<Terms> {
    let expires = SessionExpires::of(response).ok().flatten()?;
    let we_refresh = expires.refresher != Some(Refresher::Answering);
    Some(Terms { interval: Duration::from_secs(u64::from(expires.seconds.max(MIN_SE_SECONDS))), we_refresh })
}

/// Whether a message supports session timers.
#[must_use]
pub fn supports(message: &SipMessage) -> bool {
    let tags = message.list(Name::Supported).chain(message.list(Name::Require));
    tags.into_iter().any(|tag| tag.eq_ignore_ascii_case(TIMER))
}

/// How long a re-INVITE or UPDATE that met one of the peer's waits (RFC 3261 §14.1): 2.1 to 4 s where the Call-ID is ours, up
/// to 2 s where it is theirs, in steps of 10 ms, so that they do not meet again.
#[must_use]
pub fn wait_after_glare(is_our_call_id: bool, random: u64) -> Duration {
    Duration::from_millis(10 * if is_our_call_id { 210 + random % 191 } else { random % 201 })
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a refresh with [`SessionTimer::asks`].
    Refresh,
    /// End the session.
    End,
}

/// A session's timer.
#[derive(Clone, Copy, Debug)]
pub struct SessionTimer {
    terms: Terms,
    since: Instant,
    /// A refresh was sent in this interval.
    refreshed: bool,
    /// When a refresh that met a request of the peer's is sent again.
    again_at: Option<Instant>,
    /// The largest Min-SE of its requests and of what refused ours, in seconds.
    least_seconds: Option<u32>,
}

impl SessionTimer {
    /// From now on these terms hold.
    #[must_use]
    pub fn new(now: Instant, terms: Terms) -> SessionTimer {
        SessionTimer { terms, since: now, refreshed: false, again_at: None, least_seconds: None }
    }

    /// From now on these terms hold, and what was known of the least interval still does.
    #[must_use]
    pub fn renewed(self, now: Instant, terms: Terms) -> SessionTimer {
        SessionTimer { least_seconds: self.least_seconds, ..SessionTimer::new(now, terms) }
    }

    /// A request of the peer's in the session: what its Min-SE says holds for our refreshes, too (RFC 4028 §7.4).
    pub fn note_least(&mut self, request: &SipMessage) {
        self.least_seconds = self.least_seconds.max(request.number(Name::MinSe).ok().flatten());
    }

    /// Min-SE of our refreshes (RFC 4028 §7.4).
    #[must_use]
    pub fn min_se(&self) -> Option<u32> {
        self.least_seconds
    }

    /// When it wants [`SessionTimer::handle_wake`].
    #[must_use]
    pub fn next_wake(&self) -> Instant {
        if self.terms.we_refresh && !self.refreshed {
            return self.since + self.terms.interval / 2;
        }
        self.again_at.unwrap_or_else(|| self.ends_at()).min(self.ends_at())
    }

    /// What is due now, if anything is.
    pub fn handle_wake(&mut self, now: Instant) -> Option<Due> {
        if now < self.next_wake() {
            return None;
        }
        let is_to_be_sent = self.again_at.take().is_some() || (self.terms.we_refresh && !self.refreshed);
        if is_to_be_sent && now < self.ends_at() {
            self.refreshed = true;
            return Some(Due::Refresh);
        }
        Some(Due::End)
    }

    /// What our refresh asks for: that we go on refreshing.
    #[must_use]
    pub fn asks(&self) -> SessionExpires {
        let seconds = u32::try_from(self.terms.interval.as_secs()).unwrap_or(u32::MAX);
        SessionExpires { seconds, refresher: Some(Refresher::Asking) }
    }

    /// A final answer to our refresh; none: nobody answered. What is to be done at once. After 491 it is sent again at
    /// `again_at`: see [`wait_after_glare`].
    pub fn refresh_answered(&mut self, response: Option<&SipMessage>, again_at: Instant) -> Option<Due> {
        let Some(response) = response else { return Some(Due::End) };
        match response.status() {
            Some(422) => {
                let least = response.number(Name::MinSe).ok().flatten().unwrap_or(0);
                self.note_least(response);
                let longer = Duration::from_secs(u64::from(least));
                // A Min-SE that is no longer than what was refused would be refused for ever.
                (longer > self.terms.interval).then(|| {
                    self.terms.interval = longer;
                    Due::Refresh
                })
            }
            Some(408 | 481) => Some(Due::End),
            Some(491) => {
                self.again_at = Some(again_at);
                None
            }
            _ => None,
        }
    }

    fn ends_at(&self) -> Instant {
        let interval = self.terms.interval;
        self.since + interval.saturating_sub(MAX_MARGIN.min(interval / 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageLimits;

    fn request(more: &str) -> SipMessage {
        let text = format!(
            "UPDATE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 7 UPDATE\r\n{more}\r\n"
        );
        SipMessage::parse(text.into(), &MessageLimits::default()).unwrap()
    }

    fn response(status: u16, more: &str) -> SipMessage {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 7 UPDATE\r\n{more}\r\n"
        );
        SipMessage::parse(text.into(), &MessageLimits::default()).unwrap()
    }

    #[test]
    fn requests_are_answered_as_the_table_says() {
        type Row = (&'static str, Result<Option<(&'static str, bool, u64)>, Refusal>);
        let table: [Row; 13] = [
            ("", Ok(None)),
            ("Supported: timer\r\n", Ok(None)),
            ("Session-Expires: 1800\r\n", Ok(Some(("1800;refresher=uas", true, 1800)))),
            ("Session-Expires: 1800;refresher=uas\r\n", Ok(Some(("1800;refresher=uas", true, 1800)))),
            ("Session-Expires: 1800;refresher=uac\r\n", Ok(None)),
            ("Supported: 100rel, Timer\r\nx: 600\r\n", Ok(Some(("600;refresher=uac", false, 600)))),
            ("k: timer\r\nSession-Expires: 90 ; refresher=UAC\r\n", Ok(Some(("90;refresher=uac", false, 90)))),
            ("Supported: timer\r\nSession-Expires: 90;refresher=uas\r\n", Ok(Some(("90;refresher=uas", true, 90)))),
            ("Supported: timer\r\nSession-Expires: 89\r\n", Err(Refusal::TooSmall)),
            ("Session-Expires: 60\r\nMin-SE: 60\r\n", Ok(None)),
            ("Supported: timer\r\nSession-Expires: soon\r\n", Err(Refusal::Malformed)),
            ("Session-Expires: 100;refresher=me\r\n", Err(Refusal::Malformed)),
            ("Session-Expires: 100\r\nMin-SE: x\r\n", Err(Refusal::Malformed)),
        ];
        for (more, expected) in table {
            let found = answer(&request(more))
                .map(|answer| answer.map(|it| (it.expires.write(), it.terms.we_refresh, it.terms.interval.as_secs())));
            let expected = expected.map(|it| it.map(|(text, we, seconds)| (text.to_owned(), we, seconds)));
            assert_eq!(found, expected, "{more:?}");
        }
    }

    #[test]
    fn who_is_to_refresh_is_told_that_it_has_to() {
        for (more, requires) in [("Supported: timer\r\n", true), ("", false)] {
            let request = request(&format!("Session-Expires: 300\r\n{more}"));
            let builder = Builder::response(&request, 200, "OK", None, None);
            let bytes = answer(&request).unwrap().unwrap().write(builder).finish().unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text.contains("\r\nRequire: timer\r\n"), requires, "{text}");
        }
    }

    #[test]
    fn answers_to_us_say_who_refreshes() {
        for (more, expected) in [
            ("", None),
            ("Session-Expires: 1800;refresher=uac\r\n", Some((true, 1800))),
            ("Session-Expires: 1800;refresher=uas\r\n", Some((false, 1800))),
            ("Session-Expires: 10\r\n", Some((true, 90))),
            ("Session-Expires: x\r\n", None),
        ] {
            let found = answered(&response(200, more)).map(|it| (it.we_refresh, it.interval.as_secs()));
            assert_eq!(found, expected, "{more:?}");
        }
    }

    fn timer(now: Instant, seconds: u64, we_refresh: bool) -> SessionTimer {
        SessionTimer::new(now, Terms { interval: Duration::from_secs(seconds), we_refresh })
    }

    #[test]
    fn we_refresh_at_half_time_and_end_it_when_nobody_answers() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut it = timer(now, 300, true);
        assert_eq!((it.next_wake(), it.handle_wake(at(149))), (at(150), None));
        assert_eq!(it.handle_wake(at(150)), Some(Due::Refresh));
        assert_eq!(it.asks().write(), "300;refresher=uac");
        assert_eq!((it.next_wake(), it.handle_wake(at(200))), (at(268), None));
        assert_eq!(it.handle_wake(at(268)), Some(Due::End));
        // The margin is a third of a short interval.
        assert_eq!(timer(now, 90, false).next_wake(), at(60));
    }

    #[test]
    fn a_peer_that_does_not_refresh_is_gone() {
        let now = Instant::now();
        let mut it = timer(now, 1800, false);
        assert_eq!(it.next_wake(), now + Duration::from_secs(1768));
        assert_eq!(it.handle_wake(now + Duration::from_secs(1767)), None);
        assert_eq!(it.handle_wake(now + Duration::from_secs(1768)), Some(Due::End));
    }

    #[test]
    fn what_a_refresh_is_answered_decides_how_it_goes_on() {
        let now = Instant::now();
        for (answer, expected, seconds) in [
            (Some((481, "")), Some(Due::End), 300),
            (Some((408, "")), Some(Due::End), 300),
            (None, Some(Due::End), 300),
            (Some((500, "")), None, 300),
            (Some((491, "")), None, 300),
            (Some((422, "Min-SE: 600\r\n")), Some(Due::Refresh), 600),
            (Some((422, "Min-SE: 300\r\n")), None, 300),
            (Some((422, "")), None, 300),
        ] {
            let mut it = timer(now, 300, true);
            it.handle_wake(now + Duration::from_secs(150));
            let message = answer.map(|(status, more)| response(status, more));
            assert_eq!(it.refresh_answered(message.as_ref(), now + Duration::from_secs(153)), expected, "{answer:?}");
            assert_eq!(it.asks().seconds, seconds);
        }
    }

    #[test]
    fn a_refresh_that_met_one_of_the_peers_is_sent_again_a_moment_later() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut it = timer(now, 300, true);
        for (sent, again) in [(150, 153), (153, 155)] {
            assert_eq!(it.handle_wake(at(sent)), Some(Due::Refresh));
            assert_eq!(it.refresh_answered(Some(&response(491, "")), at(again)), None);
            assert_eq!((it.next_wake(), it.handle_wake(at(again - 1))), (at(again), None));
        }
        // But not beyond the end of the interval.
        it.refresh_answered(Some(&response(491, "")), at(1_000));
        assert_eq!((it.next_wake(), it.handle_wake(at(268))), (at(268), Some(Due::End)));
    }

    #[test]
    fn who_made_the_call_id_waits_longer() {
        for random in [0, 1, 190, 191, 200, 201, u64::MAX] {
            let (ours, theirs) = (wait_after_glare(true, random), wait_after_glare(false, random));
            assert!((2_100..=4_000).contains(&ours.as_millis()), "{ours:?}");
            assert!(theirs.as_millis() <= 2_000, "{theirs:?}");
        }
    }
}
