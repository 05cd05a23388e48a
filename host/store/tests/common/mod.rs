//! What the tests have in common: users, messages, and a store with its completions.
#![allow(dead_code, missing_docs, reason = "each test uses its part")]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use restante_deferral::commit::{Applied, Change, CommitError, LoadRequest, MessageState, Select, Transaction, Window};
use restante_deferral::model::*;
use restante_store::memory::MemoryStore;
use restante_store::sqlite::{OpenOptions, SqliteStore};
use restante_store::{Adopted, Adoption, Completion, Outcome, Record, Saved, Sink, Store, Ticket};

pub fn sink() -> (Sink, Receiver<Completion>) {
    let (sender, receiver) = channel();
    let sink: Sink = Arc::new(move |_, completions| completions.into_iter().for_each(|it| _ = sender.send(it)));
    (sink, receiver)
}

pub fn user(name: &str) -> RecipientKey {
    RecipientKey { tenant: TenantName("t".into()), address: CanonicalAddress(format!("sip:{name}@example.org").into()) }
}

pub fn message(number: u64, to: &str) -> NewMessage {
    NewMessage {
        recipient: user(to),
        deduplication: DeduplicationKey(
            u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834).to_be_bytes(),
        ),
        deduplication_as_written: None,
        envelope: Envelope {
            kind: MessageKind::Message,
            mode: Mode::Page,
            sender: Sender {
                address: user("alice").address,
                uri: "sip:alice@example.org".into(),
                verification: Verification::TrustedPeer,
                private: false,
            },
            request_uri: format!("sip:{to}@example.org"),
            headers: vec![("Conversation-ID".into(), "c".into())],
            content_type: "text/plain".into(),
            wrapped_type: None,
            imdn: None,
            page_base_bytes: Some(400),
        },
        body: Body::Inline(Bytes::from(format!("message {number}"))),
        received_at: Timestamp(1000 + number),
        expires_at: Timestamp(100_000 + number),
        expiry_source: ExpirySource::Operator,
        priority: 100,
        hand_over_to: None,
    }
}

pub struct Fixture {
    pub store: Box<dyn Store>,
    pub done: Receiver<Completion>,
    pub next: u64,
}

impl Fixture {
    pub fn wait(&mut self, token: u64) -> Outcome {
        let completion = self.done.recv_timeout(Duration::from_secs(60)).expect("a completion");
        assert_eq!(completion.token, token, "completions come in order");
        completion.outcome
    }

    pub fn write(&mut self, changes: Vec<Change>) -> Result<Vec<Applied>, CommitError> {
        self.order(Transaction { changes, settles: false })
    }

    pub fn settle(&mut self, changes: Vec<Change>) -> Result<Vec<Applied>, CommitError> {
        self.order(Transaction { changes, settles: true })
    }

    fn order(&mut self, transaction: Transaction) -> Result<Vec<Applied>, CommitError> {
        self.next += 1;
        let ticket = Ticket { shard: 0, token: self.next };
        self.store.write(ticket, transaction)?;
        match self.wait(self.next) {
            Outcome::Written(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn insert(&mut self, message: NewMessage) -> MessageId {
        match self.write(vec![Change::Insert(Box::new(message))]).unwrap()[..] {
            [Applied::Inserted(id)] => id,
            ref other => panic!("{other:?}"),
        }
    }

    pub fn load(&mut self, to: &str, select: Select, max_messages: u32) -> Window {
        self.load_bytes(to, select, max_messages, 1 << 20)
    }

    pub fn load_bytes(&mut self, to: &str, select: Select, max_messages: u32, max_body_bytes: u64) -> Window {
        self.next += 1;
        let request = LoadRequest { select, max_messages, max_body_bytes };
        self.store.load(Ticket { shard: 0, token: self.next }, user(to), request).unwrap();
        match self.wait(self.next) {
            Outcome::Loaded(window) => *window.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn save(&mut self, name: &str, record: Record) -> Saved {
        self.next += 1;
        self.store.save(Ticket { shard: 0, token: self.next }, user(name), record).unwrap();
        match self.wait(self.next) {
            Outcome::Saved(saved) => saved.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn change_profile(&mut self, name: &str, change: ProfileChange) -> Profile {
        match self.save(name, Record::ProfileChange(change)) {
            Saved::Profile(profile) => profile,
            other => panic!("{other:?}"),
        }
    }

    /// `owner` takes in what waits under `alias`; the configuration says that they are one.
    pub fn adopt(&mut self, owner: &str, alias: &str) -> Adopted {
        let adoption = Adoption { alias: user(alias).address, is_configured: true, wake_at: Timestamp(6_000) };
        self.adopt_if(owner, adoption)
    }

    pub fn adopt_if(&mut self, owner: &str, adoption: Adoption) -> Adopted {
        match self.save(owner, Record::Adoption(adoption)) {
            Saved::Adopted(adopted) => adopted,
            other => panic!("{other:?}"),
        }
    }
}

pub fn aliases(aliases: AliasChange) -> ProfileChange {
    ProfileChange { aliases, ..ProfileChange::default() }
}

pub fn options(directory: &std::path::Path) -> OpenOptions {
    OpenOptions::new(directory, Arc::new(|| Timestamp(5_000)), Arc::new(end_the_process))
}

/// As the server does when the disk cannot be trusted any more.
fn end_the_process(why: &str) {
    eprintln!("{why}");
    std::process::exit(74);
}

pub fn sqlite(directory: &std::path::Path) -> Fixture {
    sqlite_with(options(directory))
}

pub fn sqlite_with(options: OpenOptions) -> Fixture {
    let (sink, done) = sink();
    Fixture { store: Box::new(SqliteStore::open(options, sink).unwrap()), done, next: 0 }
}

pub fn memory() -> Fixture {
    let (sink, done) = sink();
    Fixture { store: Box::new(MemoryStore::new(sink)), done, next: 0 }
}

pub fn ids(window: &Window) -> Vec<MessageId> {
    window.messages.iter().map(|message| message.id).collect()
}

pub fn state(attempts: u16, not_before: Option<Timestamp>) -> Box<MessageState> {
    Box::new(MessageState {
        attempts,
        not_before,
        last_failure: Some(LastResult { at: Timestamp(9), status: Some(480), origin: Origin::Core }),
        page_refused: true,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        push_after_deadline: false,
        expires_at: Timestamp(777),
        hand_over_to: None,
        devices: vec![],
    })
}

/// A store whose thread waits, after its first commit, until told to go on: what is ordered meanwhile is one batch.
pub fn held(options: OpenOptions) -> (SqliteStore, Receiver<Vec<Completion>>, std::sync::mpsc::Sender<()>) {
    let (told, batches) = channel();
    let (go_on, wait) = channel();
    let wait = Mutex::new(wait);
    let sink: Sink = Arc::new(move |_, completions| {
        told.send(completions).unwrap();
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(60));
    });
    (SqliteStore::open(options, sink).unwrap(), batches, go_on)
}

pub fn order(store: &SqliteStore, token: u64, changes: Vec<Change>, settles: bool) {
    store.write(Ticket { shard: 0, token }, Transaction { changes, settles }).unwrap();
}

pub fn insert(message: NewMessage) -> Vec<Change> {
    vec![Change::Insert(Box::new(message))]
}
