//! How a client may misbehave, so that a test can see what the other side does about it.

use std::collections::VecDeque;

/// An answer from a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripted {
    /// This status.
    Status(u16),
    /// None at all.
    Silence,
}

/// A script; whatever it does not speak of is done as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Answers to the next MESSAGEs, notifications and reports included.
    pub message_answers: VecDeque<Scripted>,
    /// Answers to the next INVITEs.
    pub invite_answers: VecDeque<Scripted>,
    /// Answers to the next NOTIFYs.
    pub notify_answers: VecDeque<Scripted>,
    /// Answers every MESSAGE so once `message_answers` is used up.
    pub every_message: Option<Scripted>,
    /// Answers every INVITE so once `invite_answers` is used up.
    pub every_invite: Option<Scripted>,
    /// Breaks the connection of the next session that receives so many bytes.
    pub break_after_bytes: Option<u64>,
    /// Acknowledges so many messages of each session and leaves the others without an answer.
    pub acknowledge_only: Option<usize>,
    /// MSRP statuses for the next whole messages; 200 accepts.
    pub message_verdicts: VecDeque<u16>,
    /// Sends no ACK to a 2xx.
    pub withhold_ack: bool,
    /// Never opens or binds an MSRP connection.
    pub withhold_connection: bool,
    /// Answers INVITEs with a 200 that has no session description.
    pub answer_without_sdp: bool,
}

impl Behaviour {
    pub(crate) fn next_message_answer(&mut self) -> Option<Scripted> {
        self.message_answers.pop_front().or(self.every_message)
    }

    pub(crate) fn next_invite_answer(&mut self) -> Option<Scripted> {
        self.invite_answers.pop_front().or(self.every_invite)
    }
}
