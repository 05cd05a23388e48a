//! What went in and what came out, as the clients saw it: bodies by their SHA-256, none of it by the server's own word.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// A message that a client handed over and the server accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its recipient, in canonical form.
    pub to: String,
    /// imdn.Message-ID.
    pub message_id: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// Size of the content in bytes.
    pub size: u64,
    /// What it is, for people.
    pub what: String,
    /// It is to expire, and its sender to be told, instead of being delivered.
    pub expires: bool,
}

/// A message that a client received whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who received it, in canonical form.
    pub by: String,
    /// imdn.Message-ID.
    pub message_id: Option<String>,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// Size of the content in bytes.
    pub size: u64,
}

/// Everything that went in and came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    sent: Vec<Sent>,
    received: Vec<Received>,
    failures_told: BTreeSet<String>,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The message.
    pub sent: Sent,
    /// How often its body came out unaltered.
    pub intact: usize,
    /// SHA-256 of bodies that came out altered.
    pub altered: Vec<String>,
    /// Its sender was told that it was not delivered.
    pub failure_told: bool,
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Messages accepted.
    pub sent: usize,
    /// Messages that came out unaltered at least once.
    pub delivered: usize,
    /// Messages that expired as they were to, their senders told.
    pub expired: usize,
    /// Messages that did neither.
    pub lost: usize,
    /// Further times that a message came out.
    pub repeated: usize,
    /// What came out and should not: altered bodies, messages that nobody sent, expired ones.
    pub wrong: usize,
}

impl Ledger {
    /// A message was accepted.
    pub fn sent(&mut self, sent: Sent) {
        self.sent.push(sent);
    }

    /// A message came out.
    pub fn received(&mut self, received: Received) {
        self.received.push(received);
    }

    /// A sender was told that a message was not delivered.
    pub fn failure_told(&mut self, message_id: &str) {
        self.failures_told.insert(message_id.to_owned());
    }

    /// What became of every message, in the order in which they were accepted.
    #[must_use]
    pub fn accounts(&self) -> Vec<Account> {
        self.sent.iter().map(|sent| self.account(sent)).collect()
    }

    /// What is for this recipient and has not come.
    #[must_use]
    pub fn missing(&self, to: &str) -> Vec<String> {
        let missing = |account: &Account| account.sent.to == to && account.intact == 0 && !account.sent.expires;
        self.accounts().into_iter().filter(missing).map(|account| account.sent.what).collect()
    }

    /// Whether this recipient's messages first came in the order in which they were accepted.
    #[must_use]
    pub fn is_in_order(&self, to: &str) -> bool {
        let position = |sent: &Sent| self.received.iter().position(|received| is_of(received, sent));
        let came: Vec<usize> = self.sent.iter().filter(|sent| sent.to == to).filter_map(position).collect();
        came.is_sorted()
    }

    /// The sums.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums { sent: self.sent.len(), ..Sums::default() };
        for account in self.accounts() {
            let came = account.intact.saturating_add(account.altered.len());
            match (account.intact > 0, account.sent.expires) {
                (true, false) => sums.delivered = sums.delivered.saturating_add(1),
                (false, true) if account.failure_told => sums.expired = sums.expired.saturating_add(1),
                (true, true) => sums.wrong = sums.wrong.saturating_add(1),
                (false, _) => sums.lost = sums.lost.saturating_add(1),
            }
            sums.repeated = sums.repeated.saturating_add(came.saturating_sub(1));
            sums.wrong = sums.wrong.saturating_add(account.altered.len());
        }
        let strange = |received: &&Received| !self.sent.iter().any(|sent| is_of(received, sent));
        sums.wrong = sums.wrong.saturating_add(self.received.iter().filter(strange).count());
        sums
    }

    /// SHA-256 over what was to be delivered, and over what came out.
    #[must_use]
    pub fn digests(&self) -> (Option<String>, Option<String>) {
        let due = self.sent.iter().filter(|sent| !sent.expires).map(|sent| sent.sha256.as_str());
        (digest(due), digest(self.received.iter().map(|received| received.sha256.as_str())))
    }

    fn account(&self, sent: &Sent) -> Account {
        let came = self.received.iter().filter(|received| is_of(received, sent));
        let (intact, altered): (Vec<_>, Vec<_>) = came.partition(|received| received.sha256 == sent.sha256);
        Account {
            sent: sent.clone(),
            intact: intact.len(),
            altered: altered.into_iter().map(|received| received.sha256.clone()).collect(),
            failure_told: self.failures_told.contains(&sent.message_id),
        }
    }
}

impl Sums {
    /// What is missing, came twice, or came and should not; nothing when all is right.
    #[must_use]
    pub fn objections(&self) -> Vec<String> {
        let Sums { sent, lost, repeated, wrong, .. } = self;
        let texts = [
            (lost, format!("{lost} of {sent} messages are lost")),
            (repeated, format!("messages came {repeated} times too often")),
            (wrong, format!("{wrong} bodies came that should not have come, or not so")),
        ];
        texts.into_iter().filter(|(count, _)| **count > 0).map(|(_, text)| text).collect()
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Sums) -> Sums {
        Sums {
            sent: self.sent.saturating_add(other.sent),
            delivered: self.delivered.saturating_add(other.delivered),
            expired: self.expired.saturating_add(other.expired),
            lost: self.lost.saturating_add(other.lost),
            repeated: self.repeated.saturating_add(other.repeated),
            wrong: self.wrong.saturating_add(other.wrong),
        }
    }
}

/// Message-IDs are unique for their sender only, and in a story every sender makes up its own at random.
fn is_of(received: &Received, sent: &Sent) -> bool {
    received.by == sent.to && received.message_id.as_deref() == Some(sent.message_id.as_str())
}

/// Of one body its own hash, of several the hash over their hashes in alphabetical order.
fn digest<'a>(hashes: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut hashes: Vec<&str> = hashes.collect();
    hashes.sort_unstable();
    match hashes.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        several => Some(HEXLOWER.encode(&Sha256::digest(several.join("\n")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(message_id: &str, sha256: &str) -> Sent {
        Sent {
            to: "sip:bob@example.org".to_owned(),
            message_id: message_id.to_owned(),
            sha256: sha256.to_owned(),
            size: 1,
            what: format!("message {message_id}"),
            expires: false,
        }
    }

    fn received(message_id: &str, sha256: &str) -> Received {
        Received {
            by: "sip:bob@example.org".to_owned(),
            message_id: Some(message_id.to_owned()),
            sha256: sha256.to_owned(),
            size: 1,
        }
    }

    fn ledger(went_in: &[(&str, &str)], came_out: &[(&str, &str)]) -> Ledger {
        let mut ledger = Ledger::default();
        came_out.iter().for_each(|(message_id, sha256)| ledger.received(received(message_id, sha256)));
        went_in.iter().for_each(|(message_id, sha256)| ledger.sent(sent(message_id, sha256)));
        ledger
    }

    #[test]
    fn everything_once_is_right_whichever_was_noted_first() {
        let ledger = ledger(&[("1", "aa"), ("2", "bb")], &[("1", "aa"), ("2", "bb")]);
        assert_eq!(ledger.sums(), Sums { sent: 2, delivered: 2, ..Sums::default() });
        assert!(ledger.sums().objections().is_empty() && ledger.is_in_order("sip:bob@example.org"));
        let (went_in, came_out) = ledger.digests();
        assert!(went_in.is_some() && went_in == came_out);
    }

    #[test]
    fn what_is_missing_repeated_altered_or_strange_is_counted() {
        for (came_out, expected) in [
            (vec![], Sums { sent: 1, lost: 1, ..Sums::default() }),
            (vec![("1", "aa"), ("1", "aa")], Sums { sent: 1, delivered: 1, repeated: 1, ..Sums::default() }),
            (vec![("1", "ab")], Sums { sent: 1, lost: 1, wrong: 1, ..Sums::default() }),
            (vec![("1", "aa"), ("7", "cc")], Sums { sent: 1, delivered: 1, wrong: 1, ..Sums::default() }),
            (vec![("1", "ab"), ("1", "aa")], Sums { sent: 1, delivered: 1, repeated: 1, wrong: 1, ..Sums::default() }),
        ] {
            let ledger = ledger(&[("1", "aa")], &came_out);
            assert_eq!(ledger.sums(), expected, "{came_out:?}");
            assert!(!ledger.sums().objections().is_empty());
            assert_ne!(ledger.digests().0, ledger.digests().1, "{came_out:?}");
        }
    }

    #[test]
    fn somebody_elses_copy_is_no_delivery() {
        let mut ledger = ledger(&[("1", "aa")], &[]);
        ledger.received(Received { by: "sip:carol@example.org".to_owned(), ..received("1", "aa") });
        assert_eq!(ledger.sums(), Sums { sent: 1, lost: 1, wrong: 1, ..Sums::default() });
        assert_eq!(ledger.missing("sip:bob@example.org"), ["message 1"]);
    }

    #[test]
    fn what_is_to_expire_is_right_when_its_sender_was_told_and_nobody_got_it() {
        let mut ledger = Ledger::default();
        ledger.sent(Sent { expires: true, ..sent("1", "aa") });
        assert_eq!(ledger.sums().lost, 1, "nobody was told");
        ledger.failure_told("1");
        assert_eq!(ledger.sums(), Sums { sent: 1, expired: 1, ..Sums::default() });
        assert_eq!(ledger.digests(), (None, None));
        ledger.received(received("1", "aa"));
        assert_eq!(ledger.sums(), Sums { sent: 1, wrong: 1, ..Sums::default() });
    }

    #[test]
    fn order_is_that_of_the_first_arrival() {
        let of = |came_out: &[(&str, &str)]| {
            ledger(&[("1", "a"), ("2", "b"), ("3", "c")], came_out).is_in_order("sip:bob@example.org")
        };
        assert!(of(&[("1", "a"), ("2", "b"), ("1", "a"), ("3", "c")]));
        assert!(of(&[("1", "a"), ("3", "c")]));
        assert!(!of(&[("2", "b"), ("1", "a"), ("3", "c")]));
    }

    #[test]
    fn sums_add_up() {
        let one = Sums { sent: 2, delivered: 1, lost: 1, ..Sums::default() };
        let other = Sums { sent: 1, expired: 1, repeated: 1, wrong: 1, ..Sums::default() };
        let both = Sums { sent: 3, delivered: 1, expired: 1, lost: 1, repeated: 1, wrong: 1 };
        assert_eq!(one.and(&other), both);
    }
}
