//! What is kept and cannot be read any more harms nothing else.

mod common;

use common::*;
use restante_deferral::commit::{Change, Select};
use restante_deferral::model::*;
use restante_store::{Filter, Outcome, Record, Store, Ticket};

#[test]
fn a_message_that_cannot_be_read_stops_no_other_and_can_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut it = sqlite(directory.path());
    let stored: Vec<MessageId> = (1..=4).map(|number| it.insert(message(number, "bob"))).collect();
    drop(it);
    let connection = rusqlite::Connection::open(directory.path().join("messages.sqlite")).unwrap();
    connection.execute("UPDATE message SET envelope = x'00' WHERE seq = ?", [stored[0].0 as i64]).unwrap();
    connection.execute("UPDATE message SET deduplication = 'text' WHERE seq = ?", [stored[2].0 as i64]).unwrap();
    drop(connection);
    let readable = [stored[1], stored[3]];
    let mut it = sqlite(directory.path());
    let window = it.load("bob", Select::After(None), 2);
    assert_eq!((ids(&window), window.more), (vec![stored[1]], true), "the rest comes next");
    it.settle(vec![]).unwrap();
    let window = it.load("bob", Select::After(None), 2);
    assert_eq!((ids(&window), window.more), (readable.to_vec(), false));
    it.settle(vec![]).unwrap();
    let window = it.load("bob", Select::After(None), 0);
    assert_eq!(window.earliest_expiry, Some(Timestamp(100_002)), "nothing waits for the others");
    let listed = |it: &Fixture, filter: &Filter, limit| {
        it.store.list(filter, limit).unwrap().iter().map(|(message, _)| message.id).collect::<Vec<_>>()
    };
    let bobs = Filter { recipient: Some(user("bob")), ..Filter::default() };
    for filter in [bobs, Filter::default()] {
        assert_eq!(listed(&it, &filter, 9), readable);
        assert_eq!(listed(&it, &filter, 1), readable[..1]);
    }
    for (id, left) in [(stored[0], 3), (stored[2], 2)] {
        assert!(it.store.show(id).unwrap_err().is_of_one_row());
        assert_eq!(it.store.recipient_of(id).unwrap(), Some(user("bob")));
        it.settle(vec![Change::Remove { recipient: user("bob"), id }]).unwrap();
        assert_eq!(it.store.recipient_of(id).unwrap(), None);
        assert_eq!(it.store.totals(&user("bob")).0.messages, left);
    }
}

#[test]
fn a_damaged_page_fails_those_alone_who_touch_it() {
    use std::os::unix::fs::FileExt as _;
    let directory = tempfile::tempdir().unwrap();
    let mut it = sqlite(directory.path());
    it.change_profile("bob", aliases(AliasChange::Set(vec!["tel:+1".into()])));
    drop(it);
    let path = directory.path().join("messages.sqlite");
    let page: i64 = {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'profile'";
        connection.query_row(root, [], |row| row.get(0)).unwrap()
    };
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xa5; 4096], (page as u64 - 1) * 4096).unwrap();
    let (store, batches, go_on) = held(options(directory.path()));
    order(&store, 1, vec![], false);
    batches.recv().unwrap();
    order(&store, 2, insert(message(1, "bob")), false);
    let change = Record::ProfileChange(aliases(AliasChange::Set(vec!["tel:+2".into()])));
    store.save(Ticket { shard: 0, token: 3 }, user("bob"), change).unwrap();
    order(&store, 4, insert(message(2, "carol")), false);
    go_on.send(()).unwrap();
    let batch = batches.recv().unwrap();
    drop(go_on);
    let failed: Vec<u64> = batch
        .iter()
        .filter(|it| matches!(it.outcome, Outcome::Written(Err(_)) | Outcome::Saved(Err(_))))
        .map(|it| it.token)
        .collect();
    assert_eq!((batch.len(), failed), (3, vec![3]));
}
