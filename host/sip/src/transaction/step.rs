//! What the four machines want done after an input.

use bytes::Bytes;

/// One step of a machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// To send to the other side.
    pub(super) send: Option<Bytes>,
    /// To tell the user.
    pub(super) tell: Option<Tell>,
    /// Send a CANCEL for this INVITE.
    pub(super) cancel: bool,
}

/// What the user is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// The message that was the input.
    Message,
    /// No final answer came.
    TimedOut,
    /// No ACK came to the 2xx.
    AckMissing,
    /// The user did not answer.
    Abandoned,
}

impl Step {
    pub(super) fn nothing() -> Step {
        Step::default()
    }

    pub(super) fn send(bytes: Bytes) -> Step {
        Step { send: Some(bytes), ..Step::default() }
    }

    pub(super) fn tell(tell: Tell) -> Step {
        Step { tell: Some(tell), ..Step::default() }
    }
}
