//! `on-expiry`: what waited until its time was up is let go, and its sender is told if it asked to be. Nobody is told
//! about a disposition: a report about a report has no reader (RFC 5438 §5).

use crate::types::{ExpiringMessage, ExpiryAction, ExpiryAnswer, MessageKind};

/// Lets every message go.
pub(super) fn decide(messages: &[ExpiringMessage]) -> Vec<ExpiryAnswer> {
    messages
        .iter()
        .map(|expiring| ExpiryAnswer {
            message: expiring.message.id,
            action: ExpiryAction::Drop(expiring.message.kind == MessageKind::Message),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{disposition, message};
    use crate::types::{Dispositions, ExpirySource};

    #[test]
    fn senders_of_messages_are_told_and_those_of_dispositions_are_not() {
        let expiring = |message| ExpiringMessage {
            message,
            source: ExpirySource::Operator,
            dispositions: Dispositions::NEGATIVE_DELIVERY,
        };
        let answers = decide(&[expiring(message(1)), expiring(disposition(2))]);
        assert_eq!(answers[0], ExpiryAnswer { message: 1, action: ExpiryAction::Drop(true) });
        assert_eq!(answers[1], ExpiryAnswer { message: 2, action: ExpiryAction::Drop(false) });
    }
}
