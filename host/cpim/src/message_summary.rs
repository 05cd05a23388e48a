//! `application/simple-message-summary` (RFC 3842 §3.5, §5.2).

use std::fmt::Write as _;

/// Media type.
pub const CONTENT_TYPE: &str = "application/simple-message-summary";
/// Most messages that are listed.
pub const MAX_LISTED: usize = 100;

/// New and old messages of one class, the urgent ones of each counted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New.
    pub new: u32,
    /// Old.
    pub old: u32,
    /// New and urgent.
    pub new_urgent: u32,
    /// Old and urgent.
    pub old_urgent: u32,
}

/// What a summary tells of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedMessage {
    /// The server's id for it: what a client asks for it by.
    pub message_id: String,
    /// Sender; empty where the sender wants privacy.
    pub from: String,
    /// SIP-date.
    pub date: String,
    /// Subject.
    pub subject: String,
    /// Size of its body.
    pub content_length: u64,
}

/// A summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageSummary {
    /// `Messages-Waiting`
    pub messages_waiting: bool,
    /// `Message-Account`
    pub account: Option<String>,
    /// Classes such as `Pager-Message`, in order.
    pub classes: Vec<(String, Counts)>,
    /// Listed messages.
    pub messages: Vec<ListedMessage>,
}

impl MessageSummary {
    /// Writes the body. Control characters in values become blanks.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = format!("Messages-Waiting: {}\r\n", if self.messages_waiting { "yes" } else { "no" });
        if let Some(account) = &self.account {
            line(&mut text, "Message-Account", account);
        }
        for (class, counts) in &self.classes {
            let Counts { new, old, new_urgent, old_urgent } = counts;
            let _ = write!(text, "{}: {new}/{old} ({new_urgent}/{old_urgent})\r\n", harmless(class));
        }
        for message in self.messages.iter().take(MAX_LISTED) {
            text.push_str("\r\n");
            line(&mut text, "Message-ID", &message.message_id);
            for (name, value) in [("From", &message.from), ("Date", &message.date), ("Subject", &message.subject)] {
                if !value.is_empty() {
                    line(&mut text, name, value);
                }
            }
            line(&mut text, "Content-Length", &message.content_length.to_string());
        }
        text
    }

    /// Reads a body; what is unknown or odd is passed over.
    #[must_use]
    pub fn parse(body: &str) -> MessageSummary {
        let mut summary = MessageSummary::default();
        let mut blocks = body.split("\r\n\r\n").flat_map(|block| block.split("\n\n"));
        for (name, value) in blocks.next().unwrap_or("").lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.trim() {
                "Messages-Waiting" => summary.messages_waiting = value.eq_ignore_ascii_case("yes"),
                "Message-Account" => summary.account = Some(value.to_owned()),
                class => {
                    if let Some(counts) = counts(value) {
                        summary.classes.push((class.to_owned(), counts));
                    }
                }
            }
        }
        for block in blocks.take(MAX_LISTED) {
            let mut message = ListedMessage::default();
            for (name, value) in block.lines().filter_map(|line| line.split_once(':')) {
                let value = value.trim().to_owned();
                match name.trim() {
                    "Message-ID" => message.message_id = value,
                    "From" => message.from = value,
                    "Date" => message.date = value,
                    "Subject" => message.subject = value,
                    "Content-Length" => message.content_length = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            if !message.message_id.is_empty() {
                summary.messages.push(message);
            }
        }
        summary
    }
}

fn counts(value: &str) -> Option<Counts> {
    let (plain, urgent) = value.split_once('(').unwrap_or((value, "0/0"));
    let pair = |text: &str| {
        let (new, old) = text.trim().trim_end_matches(')').split_once('/')?;
        Some((new.trim().parse().ok()?, old.trim().parse().ok()?))
    };
    let ((new, old), (new_urgent, old_urgent)) = (pair(plain)?, pair(urgent)?);
    Some(Counts { new, old, new_urgent, old_urgent })
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = write!(text, "{name}: {}\r\n", harmless(value));
}

fn harmless(value: &str) -> String {
    value
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_cannot_begin_a_line() {
        let message =
            ListedMessage { message_id: "7".into(), subject: "a\r\nMessage-ID: 8".into(), ..Default::default() };
        let summary = MessageSummary { messages: vec![message], ..Default::default() };
        assert_eq!(MessageSummary::parse(&summary.write()).messages.len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(waiting: bool, new in 0u32..9, urgent in 0u32..9, ids in proptest::collection::vec("[0-9]{1,9}", 0..4), from in "(<sip:[a-z]{1,5}@b>)?") {
            let summary = MessageSummary {
                messages_waiting: waiting,
                account: Some("sip:bob@example.org".to_owned()),
                classes: vec![("Pager-Message".to_owned(), Counts { new, old: 0, new_urgent: urgent, old_urgent: 0 })],
                messages: ids.into_iter().map(|message_id| ListedMessage { message_id, from: from.clone(), content_length: 3, ..Default::default() }).collect(),
            };
            prop_assert_eq!(MessageSummary::parse(&summary.write()), summary);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[ -~\r\n]{0,200}") {
            let _ = MessageSummary::parse(&text);
        }
    }
}
