//! Status codes of MSRP (RFC 4975 §10).

use std::fmt;

/// A three-digit status of an MSRP response, or of a REPORT in the namespace `000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

impl Status {
    /// The request was successful (§10.1).
    pub const OK: Status = Status(200);
    /// A request was unintelligible (§10.2).
    pub const BAD_REQUEST: Status = Status(400);
    /// The attempted action is not allowed (§10.3).
    pub const FORBIDDEN: Status = Status(403);
    /// The request needs authentication (RFC 4976 §10.3).
    pub const UNAUTHORIZED: Status = Status(401);
    /// A transaction did not complete in the allotted time (§10.4). Mostly made up locally after 30 s.
    pub const TIMED_OUT: Status = Status(408);
    /// The receiver wishes the sender to stop sending the particular message (§10.5).
    pub const STOP_SENDING: Status = Status(413);
    /// The media type is not understood (§10.6).
    pub const UNSUPPORTED_MEDIA_TYPE: Status = Status(415);
    /// A parameter is out of bounds (§10.7).
    pub const OUT_OF_BOUNDS: Status = Status(423);
    /// The session does not exist (§10.8).
    pub const NO_SUCH_SESSION: Status = Status(481);
    /// The request method is not understood (§10.9).
    pub const UNKNOWN_METHOD: Status = Status(501);
    /// The session is already bound to another network connection (§10.10).
    pub const BOUND_TO_ANOTHER_CONNECTION: Status = Status(506);

    /// A status of three digits.
    #[must_use]
    pub fn new(code: u16) -> Option<Status> {
        (100..=999).contains(&code).then_some(Status(code))
    }

    /// The number.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }

    /// 2xx. RFC 4975 defines 200 alone; what a later document adds in that class is a success too.
    #[must_use]
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }

    /// Whether the sender gives up the whole session, not only the message: it has to (§10.8, §10.10), or nobody is there any
    /// more who answers in time (§10.4), and each further message would be waited for as long.
    #[must_use]
    pub fn ends_session(self) -> bool {
        [Status::NO_SUCH_SESSION, Status::BOUND_TO_ANOTHER_CONNECTION, Status::TIMED_OUT].contains(&self)
    }

    /// The comment that we write after the number.
    #[must_use]
    pub fn comment(self) -> &'static str {
        match self.0 {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            408 => "Request Timeout",
            413 => "Stop Sending Message",
            415 => "Unsupported Media Type",
            423 => "Parameter Out Of Bounds",
            481 => "No Such Session",
            501 => "Unknown Method",
            506 => "Bound To Another Connection",
            _ => "",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:03}", self.0)
    }
}
