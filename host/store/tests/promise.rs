//! The promise of `Store`, kept by every implementation.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use restante_deferral::commit::{Applied, Change, CommitError, LoadRequest, MessageState, Select, Transaction, Window};
use restante_deferral::model::*;
use restante_store::memory::MemoryStore;
use restante_store::sqlite::{OpenOptions, SqliteStore};
use restante_store::{Completion, Filter, Outcome, Record, SavedRegistration, Sink, Store, StoreError, Ticket};

fn sink() -> (Sink, Receiver<Completion>) {
    let (sender, receiver) = channel();
    let sink: Sink = Arc::new(move |_, completions| completions.into_iter().for_each(|it| _ = sender.send(it)));
    (sink, receiver)
}

fn user(name: &str) -> RecipientKey {
    RecipientKey { tenant: TenantName("t".into()), address: CanonicalAddress(format!("sip:{name}@example.org").into()) }
}

fn message(number: u64, to: &str) -> NewMessage {
    NewMessage {
        recipient: user(to),
        deduplication: DeduplicationKey(
            u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834).to_be_bytes(),
        ),
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

struct Fixture {
    store: Box<dyn Store>,
    done: Receiver<Completion>,
    next: u64,
}

impl Fixture {
    fn wait(&mut self, token: u64) -> Outcome {
        let completion = self.done.recv_timeout(Duration::from_secs(10)).expect("a completion");
        assert_eq!(completion.token, token, "completions come in order");
        completion.outcome
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<Vec<Applied>, CommitError> {
        self.next += 1;
        let ticket = Ticket { shard: 0, token: self.next };
        self.store.write(ticket, Transaction { changes, settles: false })?;
        match self.wait(self.next) {
            Outcome::Written(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn insert(&mut self, message: NewMessage) -> MessageId {
        match self.write(vec![Change::Insert(Box::new(message))]).unwrap()[..] {
            [Applied::Inserted(id)] => id,
            ref other => panic!("{other:?}"),
        }
    }

    fn load(&mut self, to: &str, select: Select, max_messages: u32) -> Window {
        self.next += 1;
        let request = LoadRequest { select, max_messages, max_body_bytes: 1 << 20 };
        self.store.load(Ticket { shard: 0, token: self.next }, user(to), request).unwrap();
        match self.wait(self.next) {
            Outcome::Loaded(window) => *window.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn save(&mut self, name: &str, record: Record) {
        self.next += 1;
        self.store.save(Ticket { shard: 0, token: self.next }, user(name), record).unwrap();
        assert_eq!(self.wait(self.next), Outcome::Saved(Ok(())));
    }
}

fn sqlite(directory: &std::path::Path) -> Fixture {
    let (sink, done) = sink();
    let mut options = OpenOptions::new(directory);
    options.clock = Arc::new(|| Timestamp(5_000));
    Fixture { store: Box::new(SqliteStore::open(options, sink).unwrap()), done, next: 0 }
}

fn memory() -> Fixture {
    let (sink, done) = sink();
    Fixture { store: Box::new(MemoryStore::new(sink)), done, next: 0 }
}

fn on_both(story: impl Fn(&mut Fixture)) {
    story(&mut memory());
    let directory = tempfile::tempdir().unwrap();
    story(&mut sqlite(directory.path()));
}

fn ids(window: &Window) -> Vec<MessageId> {
    window.messages.iter().map(|message| message.id).collect()
}

fn state(attempts: u16, not_before: Option<Timestamp>) -> Box<MessageState> {
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

#[test]
fn a_message_is_stored_once_also_after_it_was_removed() {
    on_both(|it| {
        let id = it.insert(message(1, "bob"));
        let again = vec![Change::Insert(Box::new(message(1, "bob")))];
        assert_eq!(it.write(again.clone()), Ok(vec![Applied::Duplicate(Some(id))]));
        assert_eq!(it.write(vec![Change::Remove { recipient: user("bob"), id }]), Ok(vec![Applied::Done]));
        assert_eq!(it.write(again), Ok(vec![Applied::Duplicate(None)]));
        assert!(it.load("bob", Select::After(None), 10).messages.is_empty());
        assert_eq!(it.write(vec![Change::Remove { recipient: user("bob"), id }]), Ok(vec![Applied::Done]));
    });
}

#[test]
fn a_queue_is_read_in_delivery_order_and_in_windows() {
    on_both(|it| {
        let mut urgent = message(3, "bob");
        urgent.priority = 200;
        let (one, two) = (it.insert(message(1, "bob")), it.insert(message(2, "bob")));
        let three = it.insert(urgent);
        it.insert(message(4, "carol"));
        let window = it.load("bob", Select::After(None), 2);
        assert_eq!((ids(&window), window.more), (vec![three, one], true));
        let window = it.load("bob", Select::After(Some((100, one))), 2);
        assert_eq!((ids(&window), window.more), (vec![two], false));
        assert_eq!(ids(&it.load("bob", Select::Listed(vec![two, three, MessageId(999)]), 9)), [three, two]);
        assert_eq!(ids(&it.load("bob", Select::ExpiredAt(Timestamp(100_001)), 9)), [one]);
        let window = it.load("bob", Select::After(None), 9);
        assert_eq!((window.totals.messages, window.totals.size_bytes), (3, 27));
        assert_eq!(window.totals.oldest_received_at, Some(Timestamp(1001)));
        assert_eq!(window.earliest_expiry, Some(Timestamp(100_001)));
        assert_eq!(window.messages[1].message, message(1, "bob"), "everything comes back as it was");
    });
}

#[test]
fn what_became_of_a_message_is_kept() {
    on_both(|it| {
        let id = it.insert(message(1, "bob"));
        let update = Change::Update { recipient: user("bob"), id, state: state(3, Some(Timestamp(50))) };
        it.write(vec![update, Change::WakeAt { recipient: user("bob"), at: Some(Timestamp(50)) }]).unwrap();
        let window = it.load("bob", Select::DueAt(Timestamp(50)), 9);
        let found = &window.messages[0];
        assert_eq!((found.attempts, found.page_refused, found.message.expires_at), (3, true, Timestamp(777)));
        assert_eq!((window.wake_at, window.earliest_due), (Some(Timestamp(50)), Some(Timestamp(50))));
        assert!(it.load("bob", Select::DueAt(Timestamp(49)), 9).messages.is_empty());
        assert_eq!(it.store.due(Timestamp(49), 9).unwrap(), []);
        assert_eq!(it.store.due(Timestamp(50), 9).unwrap(), [user("bob")]);
        it.write(vec![Change::WakeAt { recipient: user("bob"), at: None }]).unwrap();
        assert_eq!(it.store.due(Timestamp::NEVER, 9).unwrap(), []);
    });
}

#[test]
fn sums_count_messages_of_recipient_sender_and_tenant_but_no_dispositions() {
    on_both(|it| {
        let id = it.insert(message(1, "bob"));
        it.insert(message(2, "carol"));
        let mut disposition = message(3, "bob");
        disposition.envelope.kind = MessageKind::Disposition;
        it.insert(disposition);
        let sums = |it: &Fixture, name: &str| {
            let (received, sent) = it.store.totals(&user(name));
            (received.messages, received.size_bytes, sent.messages)
        };
        assert_eq!((sums(it, "bob"), sums(it, "alice")), ((1, 9, 0), (0, 0, 2)));
        assert_eq!(it.store.tenant_totals(&TenantName("t".into())).messages, 2);
        it.write(vec![Change::Remove { recipient: user("bob"), id }]).unwrap();
        assert_eq!((sums(it, "bob"), sums(it, "alice")), ((0, 0, 0), (0, 0, 1)));
    });
}

#[test]
fn users_are_kept() {
    on_both(|it| {
        let profile = Profile { delivery: Some(Delivery::Pull), aliases: vec!["tel:+1".into()], ..Profile::default() };
        it.save("bob", Record::Profile(profile.clone()));
        let registration = SavedRegistration { bytes: vec![1, 2], expires_at: Timestamp(9_000) };
        it.save("bob", Record::Registration(Some(registration.clone())));
        assert_eq!(it.store.profile(&user("bob")).unwrap(), profile);
        assert_eq!(it.store.profiles().unwrap(), [(user("bob"), profile.clone())]);
        assert_eq!(it.load("bob", Select::After(None), 1).profile, profile);
        let found = it.store.registrations(Timestamp(8_999), None, 9).unwrap();
        assert_eq!(found.iter().map(|it| (&it.1, &it.2)).collect::<Vec<_>>(), [(&user("bob"), &registration)]);
        assert!(it.store.registrations(Timestamp(8_999), Some(found[0].0), 9).unwrap().is_empty());
        assert!(it.store.registrations(Timestamp(9_000), None, 9).unwrap().is_empty());
        it.save("bob", Record::Registration(None));
        assert!(it.store.registrations(Timestamp(0), None, 9).unwrap().is_empty());
    });
}

#[test]
fn operators_see_messages_without_their_bodies() {
    on_both(|it| {
        let (one, two) = (it.insert(message(1, "bob")), it.insert(message(2, "carol")));
        let all = it.store.list(&Filter::default(), 9).unwrap();
        assert_eq!(all.iter().map(|(message, size)| (message.id, *size)).collect::<Vec<_>>(), [(one, 9), (two, 9)]);
        assert!(matches!(&all[0].0.message.body, Body::Inline(bytes) if bytes.is_empty()));
        let carols = Filter { recipient: Some(user("carol")), ..Filter::default() };
        assert_eq!(it.store.list(&carols, 9).unwrap()[0].0.id, two);
        assert_eq!(it.store.show(two).unwrap().unwrap().0.message.recipient, user("carol"));
        assert!(it.store.show(MessageId(999)).unwrap().is_none());
        assert!(it.store.show(MessageId(0)).unwrap().is_none());
    });
}

#[test]
fn what_was_acknowledged_is_there_after_reopening_and_numbers_are_never_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut it = sqlite(directory.path());
    let (one, two) = (it.insert(message(1, "bob")), it.insert(message(2, "bob")));
    it.write(vec![Change::Remove { recipient: user("bob"), id: two }]).unwrap();
    drop(it);
    let mut it = sqlite(directory.path());
    assert_eq!(ids(&it.load("bob", Select::After(None), 9)), [one]);
    assert_eq!(it.store.totals(&user("bob")).0.messages, 1);
    assert!(it.insert(message(3, "bob")) > two);
    assert_eq!(it.write(vec![Change::Insert(Box::new(message(2, "bob")))]), Ok(vec![Applied::Duplicate(None)]));
    assert_eq!(it.store.due(Timestamp(5_000), 9).unwrap(), [user("bob")], "looked at after a restart");
}

#[test]
fn a_directory_has_one_owner_and_no_newer_schema() {
    let directory = tempfile::tempdir().unwrap();
    let it = sqlite(directory.path());
    let second = SqliteStore::open(OpenOptions::new(directory.path()), sink().0);
    assert!(matches!(second, Err(StoreError::InUse(_))));
    drop(it);
    let connection = rusqlite::Connection::open(directory.path().join("messages.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = SqliteStore::open(OpenOptions::new(directory.path()), sink().0).err().unwrap().to_string();
    assert!(error.contains("newer version") && error.contains("99") && error.contains("messages.sqlite"), "{error}");
}

#[test]
fn a_body_file_lives_as_long_as_its_row() {
    let directory = tempfile::tempdir().unwrap();
    let (sink, done) = sink();
    let store = SqliteStore::open(OpenOptions::new(directory.path()), sink.clone()).unwrap();
    let spool = store.spool().clone();
    let mut it = Fixture { store: Box::new(store), done, next: 0 };
    let body = |text: &[u8]| {
        let mut writer = spool.create().unwrap();
        writer.write_at(0, text).unwrap();
        writer.finish().unwrap()
    };
    let (kept, size_bytes) = body(b"kept");
    let mut large = message(1, "bob");
    large.body = Body::Spooled { id: kept, size_bytes };
    let id = it.insert(large.clone());
    // A repetition's own file goes; the stored one's stays.
    let (repeated, size_bytes) = body(b"again");
    large.body = Body::Spooled { id: repeated, size_bytes };
    it.write(vec![Change::Insert(Box::new(large))]).unwrap();
    assert!(spool.read(kept).is_ok() && spool.read(repeated).is_err());
    let (orphan, _) = body(b"orphan");
    drop(it);
    let (sink, done) = self::sink();
    let mut it = Fixture {
        store: Box::new(SqliteStore::open(OpenOptions::new(directory.path()), sink).unwrap()),
        done,
        next: 0,
    };
    assert!(spool.read(kept).is_ok() && spool.read(orphan).is_err(), "orphans are swept at start");
    it.write(vec![Change::Remove { recipient: user("bob"), id }]).unwrap();
    assert!(spool.read(kept).is_err());
}
