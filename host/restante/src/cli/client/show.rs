//! What a person, or a program, is shown of what happens to a client. Everything that a peer chose is made harmless.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use restante_client::{Answer, ClientEvent, Content, Mode, ReceivedMessage};
use restante_cpim::message_summary::MessageSummary;
use serde_json::{Value, json};

use super::super::output::Output;
use super::super::table::{counted, harmless};

/// Digits of a hash that are shown to people.
const HASH_DIGITS: usize = 16;
/// Longest text in a file that is shown as well.
const MAX_SHOWN_BYTES: u64 = 4_096;

/// Shows events on standard output.
pub struct Show {
    json: bool,
    save: Option<PathBuf>,
}

impl Show {
    /// In JSON or in words. What is no text goes into the directory.
    pub fn new(json: bool, save: Option<&Path>) -> Show {
        Show { json, save: save.map(Path::to_owned) }
    }

    /// One line of either kind.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn say(&self, words: &str, event: &Value) -> io::Result<()> {
        let line = if self.json { json_line(event) } else { words.to_owned() };
        writeln!(Output, "{line}")?;
        Output.flush()
    }

    /// What happened.
    ///
    /// # Errors
    /// Nobody reads any more, or content cannot be saved.
    pub fn event(&self, event: &ClientEvent) -> io::Result<()> {
        match event {
            ClientEvent::Received(message) => self.received(message),
            ClientEvent::Summary { summary, .. } => self.summary(summary),
            ClientEvent::Disposition { from, message_id, disposition, .. } => {
                let (notification, status) = disposition.elements();
                let words = format!("{status}: message {}, says {}", harmless(message_id), harmless(from));
                let event = json!({
                    "event": "disposition", "message_id": message_id, "notification": notification, "status": status,
                    "from": from,
                });
                self.say(&words, &event)
            }
            ClientEvent::SubscriptionEnded { .. } => {
                self.say("the server ended the subscription", &json!({ "event": "subscription-ended" }))
            }
            ClientEvent::NotificationRefused { status, .. } => {
                let words = match status {
                    Some(status) => format!("the server refused our delivery notification: {status}"),
                    None => "the server does not take our delivery notification: no answer".to_owned(),
                };
                self.say(&words, &json!({ "event": "notification-refused", "status": status }))
            }
            ClientEvent::Violation(text) => {
                let words = format!("protocol violation: {}", harmless(text));
                self.say(&words, &json!({ "event": "violation", "what": text }))
            }
            // The messages in a session were shown already.
            ClientEvent::SessionEnded { .. } | ClientEvent::Scripted { .. } => Ok(()),
        }
    }

    /// A message.
    ///
    /// # Errors
    /// Nobody reads any more, or content cannot be saved.
    pub fn received(&self, message: &ReceivedMessage) -> io::Result<()> {
        let kept = kept_text(message);
        let text = message.text().or(kept.as_deref()).filter(|_| is_text(&message.content_type));
        let file = match (&message.content, text, &self.save) {
            (Content::File(path), ..) => Some(path.clone()),
            (Content::Memory(bytes), None, Some(directory)) => Some(save(directory, &message.sha256, bytes)?),
            (Content::Memory(_), ..) => None,
        };
        let event = json!({
            "event": "received", "from": message.sender, "mode": mode(message.mode), "message_id": message.message_id,
            "repeated": message.repeated, "content_type": message.content_type, "bytes": message.size,
            "sha256": message.sha256, "subject": message.subject, "date_time": message.date_time, "text": text,
            "file": file.as_ref().map(|path| path.display().to_string()),
        });
        self.say(&received(message, text, file.as_deref()), &event)
    }

    fn summary(&self, summary: &MessageSummary) -> io::Result<()> {
        let listed: Vec<Value> = summary
            .messages
            .iter()
            .map(|message| {
                json!({
                    "id": message.message_id, "from": message.from, "date": message.date, "subject": message.subject,
                    "bytes": message.content_length,
                })
            })
            .collect();
        let event = json!({ "event": "summary", "waiting": summary.messages_waiting, "messages": listed });
        self.say(&summary_words(summary), &event)
    }
}

/// `480 Temporarily Unavailable`
pub fn answer(answer: &Answer) -> String {
    format!("{} {}", answer.status, harmless(&answer.reason)).trim_end().to_owned()
}

/// The beginning of a hash.
pub fn shortened(hash: &str) -> String {
    hash.chars().take(HASH_DIGITS).collect()
}

fn received(message: &ReceivedMessage, text: Option<&str>, file: Option<&Path>) -> String {
    let mut words = format!(
        "from {} ({}, {} bytes of {}, SHA-256 {})",
        harmless(&message.sender),
        mode(message.mode),
        message.size,
        harmless(&message.content_type),
        shortened(&message.sha256)
    );
    if message.repeated {
        words.push_str(", which came before");
    }
    if let Some(subject) = &message.subject {
        words.push_str(&format!("\n  subject: {}", harmless(subject)));
    }
    text.iter().flat_map(|text| text.lines()).for_each(|line| words.push_str(&format!("\n  {}", harmless(line))));
    match (text, file) {
        (_, Some(file)) => words.push_str(&format!("\n  saved as {}", file.display())),
        (Some(_), None) => {}
        (None, None) => words.push_str("\n  not kept: it is not text, and no --save was given"),
    }
    words
}

fn summary_words(summary: &MessageSummary) -> String {
    if !summary.messages_waiting {
        return "no waiting messages".to_owned();
    }
    let waiting: u32 = summary.classes.iter().map(|(_, counts)| counts.new).fold(0, u32::saturating_add);
    let mut words = format!("{} waiting", counted(waiting, "message"));
    for message in &summary.messages {
        words.push_str(&format!(
            "\n  {}: {} from {}, {}",
            harmless(&message.message_id),
            counted(message.content_length, "byte"),
            harmless(if message.from.is_empty() { "an unnamed sender" } else { &message.from }),
            harmless(&message.date)
        ));
        if !message.subject.is_empty() {
            words.push_str(&format!(", {}", harmless(&message.subject)));
        }
    }
    words
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Page => "page mode",
        Mode::Push => "pushed in a session",
        Mode::Fetch => "fetched",
    }
}

/// A short text that went into a file.
fn kept_text(message: &ReceivedMessage) -> Option<String> {
    match &message.content {
        Content::File(path) if message.size <= MAX_SHOWN_BYTES => std::fs::read_to_string(path).ok(),
        Content::File(_) | Content::Memory(_) => None,
    }
}

fn is_text(content_type: &str) -> bool {
    restante_cpim::media_type::essence(content_type).starts_with("text/")
}

/// Saves content under its hash: the same content is the same file.
fn save(directory: &Path, sha256: &str, content: &[u8]) -> io::Result<PathBuf> {
    let path = directory.join(format!("restante-{sha256}.bin"));
    match File::create_new(&path) {
        Ok(mut file) => file.write_all(content)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(path)
}

/// JSON on one line. What steers a terminal is escaped, which means the same to a program.
fn json_line(value: &Value) -> String {
    let is_plain =
        |character: char| matches!(harmless(character.encode_utf8(&mut [0; 4])), std::borrow::Cow::Borrowed(_));
    value.to_string().chars().fold(String::new(), |mut line, character| {
        if is_plain(character) {
            line.push(character);
        } else {
            line.push_str(&format!("\\u{:04x}", u32::from(character)));
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn message(content_type: &str, content: &[u8]) -> ReceivedMessage {
        ReceivedMessage {
            at: SystemTime::UNIX_EPOCH,
            mode: Mode::Page,
            sender: "sip:a\x1b[1m@example.org".to_owned(),
            message_id: None,
            repeated: false,
            content_type: content_type.to_owned(),
            content_encoding: None,
            size: content.len() as u64,
            sha256: "0123456789abcdef0123".to_owned(),
            content: Content::Memory(content.to_vec().into()),
            subject: Some("x\r\ny".to_owned()),
            date_time: None,
            call_id: String::new(),
            conversation_id: None,
            sip_fields: Vec::new(),
        }
    }

    #[test]
    fn nothing_that_a_peer_wrote_steers_the_terminal() {
        let message = message("text/plain", "one\ntwo \u{9b}2J\u{202e}".as_bytes());
        let words = received(&message, message.text(), None);
        assert!(words.ends_with("\n  subject: x\\r\\ny\n  one\n  two \\u{9b}2J\\u{202e}"), "{words}");
        assert!(!words.contains(['\x1b', '\r', '\u{9b}']));
        let line = json_line(&json!({ "text": "a\u{9b}\u{202e}\n" }));
        assert_eq!(line, "{\"text\":\"a\\u009b\\u202e\\n\"}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], "a\u{9b}\u{202e}\n");
    }

    #[test]
    fn what_is_no_text_is_saved_under_a_name_of_our_own() {
        let directory = tempfile::tempdir().unwrap();
        let show = Show::new(false, Some(directory.path()));
        for _ in 0..2 {
            show.received(&message("image/png; name=\"../../evil\"", b"\x89PNG")).unwrap();
        }
        let names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["restante-0123456789abcdef0123.bin"]);
        let words = received(&message("image/png", b"\x89PNG"), None, None);
        assert!(words.contains("not kept"), "{words}");
    }
}
