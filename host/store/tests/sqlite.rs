//! What only a store on a disk can show: what outlives it, who may open it, what its limits lead to.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use restante_deferral::commit::{Applied, Change, CommitError, LoadRequest, Select, Transaction};
use restante_deferral::model::*;
use restante_store::spool::Spool;
use restante_store::sqlite::SqliteStore;
use restante_store::{Outcome, Record, SavedRegistration, Store, StoreError, Ticket};

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
fn a_store_that_rested_for_longer_than_keys_are_kept_goes_on() {
    const HOUR: u64 = 3_600_000;
    let directory = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(100 * HOUR));
    let open = || {
        let now = now.clone();
        let mut options = options(directory.path());
        options.clock = Arc::new(move || Timestamp(now.load(Ordering::Relaxed)));
        sqlite_with(options)
    };
    let mut it = open();
    it.insert(message(1, "bob"));
    // After a minute the keys so far become a run; what comes then does not before the end.
    now.fetch_add(61_000, Ordering::Relaxed);
    it.insert(message(2, "bob"));
    it.insert(message(3, "bob"));
    drop(it);
    now.fetch_add(30 * HOUR, Ordering::Relaxed);
    let mut it = open();
    for number in 10..15 {
        it.insert(message(number, "bob"));
        now.fetch_add(61_000, Ordering::Relaxed);
    }
    it.insert(message(1, "bob"));
}

#[test]
fn a_directory_has_one_owner_and_no_newer_schema() {
    let directory = tempfile::tempdir().unwrap();
    let it = sqlite(directory.path());
    let second = SqliteStore::open(options(directory.path()), sink().0);
    assert!(matches!(second, Err(StoreError::InUse(_))));
    drop(it);
    let connection = rusqlite::Connection::open(directory.path().join("messages.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = SqliteStore::open(options(directory.path()), sink().0).err().unwrap().to_string();
    assert!(error.contains("newer version") && error.contains("99") && error.contains("messages.sqlite"), "{error}");
}

#[test]
fn a_store_of_several_partitions_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(sqlite(directory.path()));
    let connection = rusqlite::Connection::open(directory.path().join("messages.sqlite")).unwrap();
    connection.execute("UPDATE setting SET value = 4 WHERE name = 'partitions'", []).unwrap();
    drop(connection);
    let error = SqliteStore::open(options(directory.path()), sink().0).err().unwrap();
    assert!(matches!(error, StoreError::Partitions { found: 4, .. }), "{error}");
}

#[test]
fn what_is_no_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("messages.sqlite"), "something else entirely, and long enough".repeat(99))
        .unwrap();
    let error = SqliteStore::open(options(directory.path()), sink().0).err().unwrap().to_string();
    assert!(error.contains("messages.sqlite"), "{error}");
}

fn body(spool: &Spool, text: &[u8]) -> Body {
    let mut writer = spool.create().unwrap();
    writer.append(text).unwrap();
    let (id, size_bytes) = writer.finish().unwrap();
    Body::Spooled { id, size_bytes }
}

fn is_there(spool: &Spool, body: &Body) -> bool {
    matches!(body, Body::Spooled { id, .. } if spool.exists(*id))
}

fn with_spool(directory: &Path) -> (Fixture, Spool) {
    let (sink, done) = sink();
    let store = SqliteStore::open(options(directory), sink).unwrap();
    let spool = store.spool().clone();
    (Fixture { store: Box::new(store), done, next: 0 }, spool)
}

#[test]
fn a_body_file_lives_as_long_as_its_row() {
    let directory = tempfile::tempdir().unwrap();
    let (mut it, spool) = with_spool(directory.path());
    let kept = body(&spool, b"kept");
    let insert = |body: &Body| Change::Insert(Box::new(NewMessage { body: body.clone(), ..message(1, "bob") }));
    let Ok(applied) = it.write(vec![insert(&kept)]) else { panic!("not stored") };
    let [Applied::Inserted(id)] = applied[..] else { panic!("{applied:?}") };
    // A repetition's own file goes; the stored one's stays, also when it is named again.
    let repeated = body(&spool, b"again");
    for body in [&repeated, &kept] {
        assert_eq!(it.write(vec![insert(body)]), Ok(vec![Applied::Duplicate(Some(id))]));
    }
    let orphan = body(&spool, b"orphan");
    drop(it);
    assert_eq!([&kept, &repeated, &orphan].map(|body| is_there(&spool, body)), [true, false, true]);
    let (mut it, spool) = with_spool(directory.path());
    assert_eq!([&kept, &orphan].map(|body| is_there(&spool, body)), [true, false], "orphans are swept at start");
    assert_eq!(it.load("bob", Select::After(None), 9).messages[0].message.body, kept);
    it.write(vec![Change::Remove { recipient: user("bob"), id }]).unwrap();
    drop(it);
    assert!(!is_there(&spool, &kept));
}

#[test]
fn without_its_database_no_body_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let (mut it, spool) = with_spool(directory.path());
    let kept = body(&spool, b"kept");
    it.insert(NewMessage { body: kept.clone(), ..message(1, "bob") });
    drop(it);
    let (database, aside) = (directory.path().join("messages.sqlite"), directory.path().join("aside"));
    std::fs::rename(&database, &aside).unwrap();
    for round in 0..2 {
        let error = SqliteStore::open(options(directory.path()), sink().0).err().unwrap();
        assert!(matches!(error, StoreError::NoDatabase { .. }), "{round}: {error}");
        let text = error.to_string();
        assert!(["messages.sqlite", "spool", "put", "move"].iter().all(|word| text.contains(word)), "{text}");
        assert!(is_there(&spool, &kept), "{round}");
    }
    std::fs::rename(&aside, &database).unwrap();
    let (mut it, spool) = with_spool(directory.path());
    assert_eq!(it.load("bob", Select::After(None), 9).messages[0].message.body, kept);
    assert!(is_there(&spool, &kept));
}

#[test]
fn an_order_that_cannot_be_carried_out_fails_alone_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (store, batches, go_on) = held(options(directory.path()));
    order(&store, 1, insert(message(1, "bob")), false);
    batches.recv().unwrap();
    let no_body = NewMessage { body: Body::Spooled { id: BodyId(7), size_bytes: 9 }, ..message(3, "erin") };
    let mut poisoned = insert(message(2, "dave"));
    poisoned.extend(insert(no_body));
    order(&store, 2, insert(message(10, "bob")), false);
    order(&store, 3, poisoned, false);
    order(&store, 4, insert(message(11, "erin")), false);
    order(&store, 5, insert(message(2, "dave")), false);
    go_on.send(()).unwrap();
    let batch = batches.recv().unwrap();
    drop(go_on);
    let outcomes: Vec<_> = batch.iter().map(|it| (it.token, matches!(it.outcome, Outcome::Written(Ok(_))))).collect();
    assert_eq!(outcomes, [(2, true), (3, false), (4, true), (5, true)], "one batch, one failure");
    assert!(
        matches!(&batch[3].outcome, Outcome::Written(Ok(applied)) if matches!(applied[..], [Applied::Inserted(_)]))
    );
    assert_eq!(["bob", "dave", "erin"].map(|name| store.totals(&user(name)).0.messages), [2, 1, 1]);
    drop(store);
    let it = sqlite(directory.path());
    assert_eq!(["bob", "dave", "erin"].map(|name| it.store.totals(&user(name)).0.messages), [2, 1, 1]);
}

#[test]
fn a_full_store_refuses_arrivals_settles_deliveries_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.limits.max_database_bytes = 600_000;
    let (store, batches, go_on) = held(options);
    drop(go_on);
    let large = |number| NewMessage { body: Body::Inline(Bytes::from(vec![b'x'; 20_000])), ..message(number, "bob") };
    let mut stored = Vec::new();
    let refused = loop {
        let number = stored.len() as u64 + 1;
        order(&store, number, insert(large(number)), false);
        match &batches.recv().unwrap()[0].outcome {
            Outcome::Written(Ok(applied)) => match applied[..] {
                [Applied::Inserted(id)] => stored.push(id),
                ref other => panic!("{other:?}"),
            },
            Outcome::Written(Err(error)) => break *error,
            other => panic!("{other:?}"),
        }
        assert!(number < 100, "600 kB never full");
    };
    assert_eq!(refused, CommitError::Full);
    assert_eq!(store.totals(&user("bob")).0.messages as usize, stored.len());
    drop(store);

    // In one batch: what does not fit fails, what makes room does not.
    let mut options = self::options(directory.path());
    options.limits.max_database_bytes = 600_000;
    let (store, batches, go_on) = held(options);
    order(&store, 1, vec![], true);
    batches.recv().unwrap();
    order(&store, 2, (100..140).flat_map(|number| insert(large(number))).collect(), false);
    order(&store, 3, vec![Change::Remove { recipient: user("bob"), id: stored[0] }], true);
    go_on.send(()).unwrap();
    let batch = batches.recv().unwrap();
    drop(go_on);
    assert_eq!(batch[0].outcome, Outcome::Written(Err(CommitError::Full)));
    assert_eq!(batch[1].outcome, Outcome::Written(Ok(vec![Applied::Done])));
    order(&store, 4, insert(large(100)), false);
    let last = batches.recv().unwrap();
    assert!(matches!(&last[0].outcome, Outcome::Written(Ok(applied)) if matches!(applied[..], [Applied::Inserted(_)])));
    assert_eq!(store.totals(&user("bob")).0.messages as usize, stored.len());
}

#[test]
fn a_store_at_its_bound_leaves_the_disk_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.limits.max_database_bytes = 600_000;
    let (sink, done) = sink();
    let store = SqliteStore::open(options, sink).unwrap();
    let spool = store.spool().clone();
    let mut it = Fixture { store: Box::new(store), done, next: 0 };
    let large = |number| NewMessage { body: Body::Inline(Bytes::from(vec![b'x'; 20_000])), ..message(number, "bob") };
    let reserve = || std::fs::metadata(directory.path().join("reserve")).unwrap().ino();
    let before = reserve();
    let mut stored = Vec::new();
    while let Ok(applied) = it.write(insert(large(stored.len() as u64 + 1))) {
        let [Applied::Inserted(id)] = applied[..] else { panic!("{applied:?}") };
        stored.push(id);
    }
    for number in 100..120 {
        assert_eq!(it.write(insert(large(number))), Err(CommitError::Full));
        assert!(it.store.is_full(), "and stays so");
        assert!(spool.create().is_err(), "a body would be for nothing");
        // Users are kept reachable although that takes room.
        let registration = SavedRegistration { bytes: vec![b'x'; 5_000], expires_at: Timestamp(9_000) };
        it.save(&format!("user{number}"), Record::Registration(Some(registration)));
        assert_eq!(reserve(), before, "{number}");
    }
    for number in 100..120 {
        it.save(&format!("user{number}"), Record::Registration(None));
    }
    for id in stored.drain(..4) {
        it.settle(vec![Change::Remove { recipient: user("bob"), id }]).unwrap();
    }
    it.insert(large(200));
    assert_eq!((it.store.is_full(), reserve()), (false, before));
    spool.create().unwrap();
}

#[test]
fn a_full_queue_refuses_arrivals_and_takes_what_settles() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.limits.max_waiting = 3;
    let (store, batches, go_on) = held(options);
    order(&store, 0, insert(message(1, "bob")), false);
    batches.recv().unwrap();
    let arrival = |token| {
        let transaction = Transaction { changes: insert(message(token, "bob")), settles: false };
        store.write(Ticket { shard: 0, token }, transaction)
    };
    assert_eq!(
        (2..7).map(arrival).collect::<Vec<_>>(),
        [Ok(()), Ok(()), Ok(()), Err(CommitError::Overloaded), Err(CommitError::Overloaded)]
    );
    order(&store, 9, vec![], true);
    assert!(store.oldest_write_age() > Duration::ZERO);
    go_on.send(()).unwrap();
    drop(go_on);
    assert_eq!(batches.recv().unwrap().iter().map(|it| it.token).collect::<Vec<_>>(), [2, 3, 4, 9]);
}

/// Orders many inserts and waits for them.
fn insert_many(it: &mut Fixture, numbers: std::ops::Range<u64>) -> Vec<(RecipientKey, MessageId)> {
    let mut stored = Vec::new();
    let (mut given, mut waiting) = (numbers.clone(), HashMap::new());
    while stored.len() < numbers.clone().count() {
        while waiting.len() < 512
            && let Some(number) = given.next()
        {
            let message = message(number, &format!("user{}", number % 50));
            waiting.insert(number, message.recipient.clone());
            let transaction = Transaction { changes: insert(message), settles: false };
            it.store.write(Ticket { shard: 0, token: number }, transaction).unwrap();
        }
        let completion = it.done.recv_timeout(Duration::from_secs(60)).unwrap();
        let Outcome::Written(Ok(applied)) = completion.outcome else { panic!("{completion:?}") };
        let [Applied::Inserted(id)] = applied[..] else { panic!("{applied:?}") };
        stored.push((waiting.remove(&completion.token).unwrap(), id));
    }
    stored
}

fn remove_many(it: &mut Fixture, stored: &[(RecipientKey, MessageId)]) {
    for chunk in stored.chunks(500) {
        let removal =
            |(recipient, id): &(RecipientKey, MessageId)| Change::Remove { recipient: recipient.clone(), id: *id };
        it.write(chunk.iter().map(removal).collect()).unwrap();
    }
}

/// Long enough for several folds of the sums and, with the keys, for a run.
#[test]
fn sums_and_keys_are_right_after_many_messages_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut it = sqlite(directory.path());
    let stored = insert_many(&mut it, 0..140_000);
    // Some before the last fold, some after it.
    remove_many(&mut it, &stored[..9_000]);
    remove_many(&mut it, &stored[135_000..]);
    let left: u32 = 140_000 - 9_000 - 5_000;
    let sums = |it: &Fixture| {
        let received: u32 = (0..50).map(|number| it.store.totals(&user(&format!("user{number}"))).0.messages).sum();
        (received, it.store.totals(&user("alice")).1.messages, it.store.tenant_totals(&TenantName("t".into())).messages)
    };
    assert_eq!(sums(&it), (left, left, left));
    let again = |number: u64| insert(message(number, &format!("user{}", number % 50)));
    for number in [9_000, 70_000, 131_071] {
        let applied = it.write(again(number)).unwrap();
        assert!(matches!(applied[..], [Applied::Duplicate(Some(_))]), "{number} {applied:?}");
    }
    for round in 0..2 {
        drop(it);
        it = sqlite(directory.path());
        assert_eq!(sums(&it), (left, left, left), "{round}");
    }
    for number in [0, 8_999, 9_000, 70_000, 131_071, 131_072, 139_999] {
        let applied = it.write(again(number)).unwrap();
        let gone = !(9_000..135_000).contains(&number);
        assert!(matches!(applied[..], [Applied::Duplicate(id)] if id.is_none() == gone), "{number} {applied:?}");
    }
}

/// What is moved lies on both sides of a fold, and some of it goes before the next one.
#[test]
fn sums_follow_what_moves_across_folds_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut it = sqlite(directory.path());
    let stored = insert_many(&mut it, 0..17_000);
    let counts = |it: &Fixture| ["user0", "user1", "user2"].map(|name| it.store.totals(&user(name)).0.messages);
    assert_eq!(counts(&it), [340; 3]);
    let bytes =
        |it: &Fixture| ["user0", "user1"].map(|name| it.store.totals(&user(name)).0.size_bytes).iter().sum::<u64>();
    let before = bytes(&it);
    assert_eq!(it.adopt("user0", "user1").messages, 340);
    assert_eq!((counts(&it), bytes(&it)), ([680, 0, 340], before));
    let of_user_1: Vec<MessageId> = (0..stored.len()).filter(|at| at % 50 == 1).map(|at| stored[at].1).collect();
    // One from before the fold, one from after it; under the old name nothing goes.
    for id in [of_user_1[0], of_user_1[339]] {
        for name in ["user1", "user0"] {
            it.write(vec![Change::Remove { recipient: user(name), id }]).unwrap();
        }
    }
    for round in 0..3 {
        assert_eq!(counts(&it), [678, 0, 340], "{round}");
        drop(it);
        it = sqlite(directory.path());
    }
    // Back again, and on through the next fold.
    assert_eq!(it.adopt("user1", "user0").messages, 678);
    insert_many(&mut it, 20_000..37_000);
    assert_eq!(counts(&it), [340, 1018, 680]);
    assert_eq!(it.store.tenant_totals(&user("bob").tenant).messages, 33_998);
    drop(it);
    assert_eq!(counts(&sqlite(directory.path())), [340, 1018, 680]);
}

#[test]
fn the_wal_stays_small_while_others_read() {
    // The bound, what a batch adds, and the room until a restart that readers held up is tried again.
    let expected = 300..4_000;
    // A reader that stands still for seconds on a busy machine holds it up for longer: hardly each time.
    let is_small = (0..3).any(|_| {
        let largest = largest_wal_pages();
        eprintln!("{largest} pages");
        expected.contains(&largest)
    });
    assert!(is_small, "not within {expected:?} pages");
}

/// Writes while others read, and sees how large the journal becomes.
fn largest_wal_pages() -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.limits.checkpoint_pages = 300;
    options.limits.max_wal_pages = 1_000;
    options.limits.max_batch = 64;
    let (sink, done) = sink();
    let store = Arc::new(SqliteStore::open(options, sink).unwrap());
    let wal = directory.path().join("messages.sqlite-wal");
    let (mut given, mut largest) = (0u64, 0);
    for finished in 0..20_000u64 {
        while given < finished + 256 {
            given += 1;
            let ticket = Ticket { shard: 0, token: given };
            let recipient = format!("user{}", given % 50);
            if given.is_multiple_of(8) {
                let request = LoadRequest { select: Select::After(None), max_messages: 20, max_body_bytes: 1 << 20 };
                store.load(ticket, user(&recipient), request).unwrap();
            } else {
                store
                    .write(ticket, Transaction { changes: insert(message(given, &recipient)), settles: false })
                    .unwrap();
            }
        }
        done.recv_timeout(Duration::from_secs(60)).unwrap();
        if finished.is_multiple_of(100) {
            largest = largest.max(std::fs::metadata(&wal).unwrap().len() / 4096);
        }
    }
    largest
}
