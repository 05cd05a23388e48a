use std::fmt;

use super::{HeaderError, NameAddr};
use crate::uri::Uri;

/// P-Served-User (RFC 5502, RFC 8498): for whom a core invokes an application server, and on which side of the session.
///
/// To be believed of trusted peers only (RFC 5502 §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedUser {
    /// The served user.
    pub uri: Uri,
    /// Which side; none where the core does not say.
    pub session_case: Option<SessionCase>,
    /// Whether the user is registered; none where the core does not say.
    pub registration: Option<ServedRegistration>,
}

/// The side on which the user is served: `sescase` and `orig-cdiv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionCase {
    /// `orig`: the user sends.
    Originating,
    /// `orig-cdiv`: the user diverted what came, and counts as its sender (RFC 8498 §4).
    OriginatingAfterDiversion,
    /// `term`: the user is who it is for.
    Terminating,
}

impl SessionCase {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SessionCase::Originating => "orig",
            SessionCase::OriginatingAfterDiversion => "orig-cdiv",
            SessionCase::Terminating => "term",
        }
    }
}

/// `regstate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServedRegistration {
    /// `reg`
    Registered,
    /// `unreg`
    Unregistered,
}

impl ServedUser {
    /// Parses the value. Further parameters are for others (RFC 5502 §5: generic-param), and a value of `sescase` or
    /// `regstate` that is not known says nothing.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn parse(value: &str) -> Result<ServedUser, HeaderError> {
        let address = NameAddr::parse(value)?;
        let is = |name: &str, wanted: &str| address.parameter(name).is_some_and(|it| it.eq_ignore_ascii_case(wanted));
        let session_case = if address.parameter("orig-cdiv").is_some() {
            Some(SessionCase::OriginatingAfterDiversion)
        } else {
            [SessionCase::Originating, SessionCase::Terminating].into_iter().find(|case| is("sescase", case.as_str()))
        };
        let registration = if is("regstate", "reg") {
            Some(ServedRegistration::Registered)
        } else {
            is("regstate", "unreg").then_some(ServedRegistration::Unregistered)
        };
        Ok(ServedUser { uri: address.uri, session_case, registration })
    }
}

impl fmt::Display for ServedUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{}>", self.uri)?;
        match self.session_case {
            Some(SessionCase::OriginatingAfterDiversion) => formatter.write_str(";orig-cdiv")?,
            Some(case) => write!(formatter, ";sescase={}", case.as_str())?,
            None => {}
        }
        match self.registration {
            Some(ServedRegistration::Registered) => formatter.write_str(";regstate=reg"),
            Some(ServedRegistration::Unregistered) => formatter.write_str(";regstate=unreg"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_core_says_of_the_served_user_is_read() {
        use ServedRegistration::{Registered, Unregistered};
        use SessionCase::{Originating, OriginatingAfterDiversion, Terminating};
        for (text, uri, case, registration) in [
            ("<sip:bob@h>; sescase=term; regstate=unreg", "sip:bob@h", Some(Terminating), Some(Unregistered)),
            ("<sip:bob@h>;SESCASE=Orig;regstate=REG", "sip:bob@h", Some(Originating), Some(Registered)),
            ("<tel:+1555>;orig-cdiv;sescase=orig", "tel:+1555", Some(OriginatingAfterDiversion), None),
            ("\"Bob\" <sip:bob@h;user=phone>", "sip:bob@h;user=phone", None, None),
            ("sip:bob@h;sescase=free;regstate=maybe;x=1", "sip:bob@h", None, None),
        ] {
            let served = ServedUser::parse(text).unwrap();
            assert_eq!(
                (served.uri.to_string().as_str(), served.session_case, served.registration),
                (uri, case, registration),
                "{text}"
            );
        }
        for wrong in ["", "bob", "<sip:bob@h", "<sip:bob@h>;;", "<sip:bob@h>, <sip:eve@h>"] {
            assert!(ServedUser::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(user in "[a-z0-9.]{1,9}", case in 0usize..4, registration in 0usize..3) {
            use ServedRegistration::{Registered, Unregistered};
            use SessionCase::{Originating, OriginatingAfterDiversion, Terminating};
            let served = ServedUser {
                uri: Uri::parse(&format!("sip:{user}@example.org")).unwrap(),
                session_case: [None, Some(Originating), Some(OriginatingAfterDiversion), Some(Terminating)][case],
                registration: [None, Some(Registered), Some(Unregistered)][registration],
            };
            prop_assert_eq!(ServedUser::parse(&served.to_string()).unwrap(), served);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "<?(sip:[a-z@]{0,5})?>?(;[a-z=\"-]{0,9}){0,4}") {
            let _ = ServedUser::parse(&text);
        }
    }
}
