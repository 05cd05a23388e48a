//! Where a session is in the life of its dialog.

use restante_sip::dialog::Dialog;

/// The dialog of an INVITE, theirs or ours (RFC 3261 §13, §15).
///
/// | phase | what happens | next |
/// |---|---|---|
/// | `Invited` | a 2xx went or came | `Answered` |
/// | | any other final answer, or their CANCEL | the session is forgotten |
/// | | its end is wanted | the same, and our INVITE is cancelled: a 2xx may come all the same |
/// | `Answered` | the ACK came or went, or theirs is missing for too long (§13.3.1.4) | `Confirmed` |
/// | | its end is wanted | the same: no BYE of ours goes before the ACK (§15) |
/// | | their BYE | `Over` |
/// | `Confirmed` | its end is wanted, now or since an earlier phase: our BYE | `Over` |
/// | | their BYE | `Over` |
/// | `Over` | the task ended | the session is forgotten |
///
/// A session is forgotten at once where it has no task.
pub(in crate::server::shard) enum Phase {
    /// There was no final answer.
    Invited {
        /// BYE as soon as it may be sent.
        end_wanted: bool,
    },
    /// There was a 2xx, and no ACK yet.
    Answered {
        /// Made by the 2xx.
        dialog: Dialog,
        /// BYE as soon as it may be sent.
        end_wanted: bool,
    },
    /// Either side may end it.
    Confirmed(Dialog),
    /// Either side said BYE.
    Over(Dialog),
}

impl Phase {
    /// None before the 2xx.
    pub(in crate::server::shard) fn dialog(&self) -> Option<&Dialog> {
        match self {
            Phase::Invited { .. } => None,
            Phase::Answered { dialog, .. } | Phase::Confirmed(dialog) | Phase::Over(dialog) => Some(dialog),
        }
    }

    /// None before the 2xx.
    pub(in crate::server::shard) fn dialog_mut(&mut self) -> Option<&mut Dialog> {
        match self {
            Phase::Invited { .. } => None,
            Phase::Answered { dialog, .. } | Phase::Confirmed(dialog) | Phase::Over(dialog) => Some(dialog),
        }
    }

    /// A 2xx went or came.
    pub(in crate::server::shard) fn answered(&mut self, dialog: Dialog) {
        if let Phase::Invited { end_wanted } = *self {
            *self = Phase::Answered { dialog, end_wanted };
        }
    }

    /// The session is to end as soon as it may; where it may now that is for whoever asks.
    pub(in crate::server::shard) fn want_end(&mut self) {
        match self {
            Phase::Invited { end_wanted } | Phase::Answered { end_wanted, .. } => *end_wanted = true,
            Phase::Confirmed(_) | Phase::Over(_) => {}
        }
    }

    /// The ACK came or went, or is waited for no more. True: the end was wanted before that.
    pub(super) fn confirm(&mut self) -> bool {
        let Phase::Answered { dialog, end_wanted } = self else { return false };
        let end_wanted = *end_wanted;
        *self = Phase::Confirmed(dialog.clone());
        end_wanted
    }

    /// Either side said BYE.
    pub(super) fn over(&mut self) {
        if let Some(dialog) = self.dialog() {
            *self = Phase::Over(dialog.clone());
        }
    }
}
