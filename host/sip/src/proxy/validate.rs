//! Whether a request may be passed on (RFC 3261 §16.3, RFC 5393).

use std::fmt::Write;

use thiserror::Error;

use super::forwarding::OwnRoutes;
use crate::message::{Name, SipMessage};
use crate::uri::Uri;

/// Branches that a request may have in all where it does not say (RFC 5393 §5.3.3).
pub const DEFAULT_MAX_BREADTH: u32 = 60;

/// Why a request is not passed on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No hop is left: 483.
    #[error("no hop left")]
    TooManyHops,
    /// It was here before, and nothing about it is different: 482.
    #[error("a loop")]
    Loop,
    /// Proxy-Require names what nobody here knows: 420 with these in Unsupported.
    #[error("unknown extensions: {0}")]
    BadExtension(String),
    /// More targets than it may have branches: 440.
    #[error("more branches than Max-Breadth allows")]
    MaxBreadth,
}

impl Refusal {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Refusal::TooManyHops => 483,
            Refusal::Loop => 482,
            Refusal::BadExtension(_) => 420,
            Refusal::MaxBreadth => 440,
        }
    }
}

/// Checks a request that passed [`crate::message::validate_request`]. `loop_mark` is what branches of ours end with for
/// this very request: see [`loop_key`]; `known` are the extensions that Proxy-Require may name.
///
/// # Errors
/// [`Refusal`], in the order of §16.3.
pub fn validate(message: &SipMessage, loop_mark: &str, known: &[&str]) -> Result<(), Refusal> {
    if message.number(Name::MaxForwards).ok().flatten() == Some(0) {
        return Err(Refusal::TooManyHops);
    }
    let was_here = |via: &str| {
        crate::header::Via::parse(via).is_ok_and(|via| via.branch().is_some_and(|branch| branch.ends_with(loop_mark)))
    };
    if !loop_mark.is_empty() && message.list(Name::Via).any(was_here) {
        return Err(Refusal::Loop);
    }
    let unknown: Vec<&str> = message
        .list(Name::ProxyRequire)
        .filter(|tag| !known.iter().any(|known| known.eq_ignore_ascii_case(tag)))
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::BadExtension(unknown.join(", "))) }
}

/// What decides where a request goes (RFC 5393 §4.2.1): the same again is a loop, anything else a spiral. `routes` is
/// the Route that is left once ours is gone. Whom a core has us serve, and as which side, decides too (RFC 5502 §6).
/// Its keyed digest goes into the branch.
#[must_use]
pub fn loop_key(message: &SipMessage, own: &OwnRoutes) -> String {
    let mut key = String::with_capacity(256);
    for part in [message.request_uri().unwrap_or(""), message.call_id().unwrap_or("")] {
        let _ = writeln!(key, "{part}");
    }
    for name in [Name::From, Name::To, Name::CSeq, Name::ProxyRequire, Name::ProxyAuthorization, Name::PServedUser] {
        let _ = writeln!(key, "{}", message.header(name).unwrap_or(""));
    }
    let is_originating = own
        .own
        .as_ref()
        .and_then(Uri::as_sip)
        .is_some_and(|uri| uri.parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case("orig")));
    let _ = writeln!(key, "{is_originating}");
    for route in &own.routes {
        let _ = writeln!(key, "{route}");
    }
    key
}

/// What each of so many parallel branches gets of a request's Max-Breadth, of which nobody has more than
/// [`DEFAULT_MAX_BREADTH`] (RFC 5393 §5.3.3).
///
/// # Errors
/// [`Refusal::MaxBreadth`]
pub fn breadth_of_each(message: &SipMessage, branches: usize) -> Result<u32, Refusal> {
    let text = message.header_by_text("Max-Breadth").and_then(|text| text.trim().parse::<u32>().ok());
    let breadth = text.unwrap_or(DEFAULT_MAX_BREADTH).min(DEFAULT_MAX_BREADTH);
    let each = breadth.checked_div(u32::try_from(branches).unwrap_or(u32::MAX)).unwrap_or(breadth);
    if each == 0 { Err(Refusal::MaxBreadth) } else { Ok(each) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageLimits;

    fn request(more: &str) -> SipMessage {
        let text = format!(
            "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKr00.lf00, SIP/2.0/UDP a;branch=z9hG4bK2\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n{more}\r\n"
        );
        SipMessage::parse(text.into(), &MessageLimits::default()).unwrap()
    }

    #[test]
    fn what_may_not_go_on_is_refused_with_its_status() {
        for (more, mark, expected) in [
            ("", ".lf01", None),
            ("Max-Forwards: 1\r\n", ".lf01", None),
            ("Max-Forwards: 0\r\n", ".lf01", Some((483, ""))),
            ("", ".lf00", Some((482, ""))),
            ("Proxy-Require: path\r\n", ".lf01", None),
            ("Proxy-Require: PATH, frob\r\nProxy-Require: nicate\r\n", ".lf01", Some((420, "frob, nicate"))),
        ] {
            let refusal = validate(&request(more), mark, &["path"]).err();
            assert_eq!(refusal.as_ref().map(Refusal::status), expected.map(|(status, _)| status), "{more}");
            if let Some(Refusal::BadExtension(tags)) = refusal {
                assert_eq!(Some(tags.as_str()), expected.map(|(_, tags)| tags));
            }
        }
    }

    #[test]
    fn a_spiral_is_no_loop() {
        let own = |own: Option<&str>, routes: &[&str]| OwnRoutes {
            request_uri: "sip:bob@b".to_owned(),
            own: own.map(|text| Uri::parse(text).unwrap()),
            routes: routes.iter().map(|&route| route.to_owned()).collect(),
        };
        let plain = own(Some("sip:us;lr"), &[]);
        let key = loop_key(&request(""), &plain);
        assert_eq!(key, loop_key(&request("Max-Forwards: 3\r\nSubject: x\r\n"), &plain));
        assert_ne!(key, loop_key(&request("Proxy-Require: x\r\n"), &plain));
        assert_ne!(key, loop_key(&request(""), &own(Some("sip:us;lr"), &["<sip:mark@scscf;lr>"])));
        // A core that brings a call for its caller first and then for its callee.
        assert_ne!(key, loop_key(&request(""), &own(Some("sip:us;lr;orig"), &[])));
        assert_ne!(key, loop_key(&request("P-Served-User: <sip:a@a>;sescase=orig\r\n"), &plain));
    }

    #[test]
    fn the_breadth_is_shared_by_parallel_branches() {
        assert_eq!(breadth_of_each(&request(""), 2), Ok(30));
        // Nobody widens it.
        assert_eq!(breadth_of_each(&request("Max-Breadth: 4000000000\r\n"), 1), Ok(DEFAULT_MAX_BREADTH));
        assert_eq!(breadth_of_each(&request("Max-Breadth: 5\r\n"), 2), Ok(2));
        assert_eq!(breadth_of_each(&request("Max-Breadth: 1\r\n"), 2), Err(Refusal::MaxBreadth));
        assert_eq!(breadth_of_each(&request("Max-Breadth: 0\r\n"), 1), Err(Refusal::MaxBreadth));
    }
}
