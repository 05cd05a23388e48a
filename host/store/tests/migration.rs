//! A store that an earlier version of the program made (its files are in `data/`) is taken over whole.

mod common;

use std::io::Read;

use common::*;
use restante_deferral::commit::{Applied, Change, Select};
use restante_deferral::model::*;
use restante_store::sqlite::SqliteStore;
use restante_store::{Record, Saved, SavedRegistration, UserCredentials};

const BODY: BodyId = BodyId(0xc6fc_1912_b539_bf00_2857_b2d5_0871_33a5);

#[test]
fn version_2_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-2");
    let name = format!("{:032x}", BODY.0);
    std::fs::create_dir_all(directory.path().join("spool/c6")).unwrap();
    std::fs::copy(data.join("messages.sqlite"), directory.path().join("messages.sqlite")).unwrap();
    std::fs::copy(data.join("c6").join(&name), directory.path().join("spool/c6").join(&name)).unwrap();

    let (sink, done) = sink();
    let store = SqliteStore::open(options(directory.path()), sink).unwrap();
    let mut text = String::new();
    store.spool().read(BODY).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "a large body");
    let mut it = Fixture { store: Box::new(store), done, next: 0 };

    let numbers = |window: &_| ids(window).iter().map(|id| id.0).collect::<Vec<_>>();
    let window = it.load("bob", Select::After(None), 9);
    assert_eq!(numbers(&window), [3, 2, 4, 6], "delivery order; 1 was removed");
    assert_eq!((window.totals.messages, window.totals.size_bytes), (3, 9 + 9 + 12));
    assert_eq!(window.totals.oldest_received_at, Some(Timestamp(1_002)));
    assert_eq!((window.earliest_expiry, window.earliest_due), (Some(Timestamp(777)), Some(Timestamp(50))));
    assert_eq!(
        (window.profile.delivery, &window.profile.aliases[..]),
        (Some(Delivery::Pull), &["tel:+1".to_owned()][..])
    );
    let second = &window.messages[1];
    assert_eq!((second.attempts, second.page_refused, second.message.expires_at), (3, true, Timestamp(777)));
    assert_eq!(second.last_failure.unwrap().status, Some(480));
    assert_eq!(window.messages[2].message.body, Body::Spooled { id: BODY, size_bytes: 12 });
    assert_eq!(window.messages[0].message, NewMessage { priority: 200, ..message(3, "bob") }, "as it was");
    assert_eq!(numbers(&it.load("bob", Select::DueAt(Timestamp(50)), 9)), [2]);
    assert_eq!(numbers(&it.load("bob", Select::ExpiredAt(Timestamp(777)), 9)), [2]);
    let handed = it.load("carol", Select::After(None), 9);
    assert_eq!(handed.messages[0].message.hand_over_to.as_deref(), Some("gateway"));

    assert_eq!(it.store.totals(&user("alice")).1.messages, 4);
    assert_eq!(it.store.tenant_totals(&TenantName("t".into())).messages, 4);
    assert_eq!(it.store.tenant_dispositions(&TenantName("t".into())).messages, 1);
    let registration = SavedRegistration { bytes: vec![1, 2], expires_at: Timestamp(9_000) };
    assert_eq!(it.store.registration(&user("bob")).unwrap(), Some(registration));
    assert_eq!(it.store.due(Timestamp(5_000), 9).unwrap().len(), 2);

    let again = |number| vec![Change::Insert(Box::new(message(number, "bob")))];
    assert_eq!(it.write(again(1)), Ok(vec![Applied::Duplicate(None)]), "its key was kept");
    assert_eq!(it.write(again(2)), Ok(vec![Applied::Duplicate(Some(MessageId(2)))]));
    assert!(it.insert(message(7, "bob")) > MessageId(6));
    for id in [2, 3] {
        it.write(vec![Change::Remove { recipient: user("bob"), id: MessageId(id) }]).unwrap();
    }
    assert_eq!(it.store.totals(&user("bob")).0.messages, 2);
    drop(it);
    assert_eq!(sqlite(directory.path()).store.totals(&user("bob")).0.messages, 2);
}

/// The file is what a server left that kept a message and a preference for Bob.
#[test]
fn version_5_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-5/messages.sqlite");
    std::fs::copy(data, directory.path().join("messages.sqlite")).unwrap();
    let mut it = sqlite(directory.path());
    assert_eq!(it.store.credentials().unwrap(), []);
    assert_eq!(it.load("bob", Select::After(None), 9).messages.len(), 1);
    let given = UserCredentials {
        username: "bob".to_owned(),
        realm: "example.org".to_owned(),
        hashes: vec![("SHA-256".to_owned(), vec![7; 32])],
    };
    assert_eq!(it.save("bob", Record::Credentials(Some(given.clone()))), Saved::Kept);
    drop(it);
    let mut it = sqlite(directory.path());
    assert_eq!(it.store.credentials().unwrap(), [(user("bob"), given)]);
    let profile = it.store.profile(&user("bob")).unwrap();
    assert_eq!((profile.delivery, profile.aliases), (Some(Delivery::Hold), vec!["tel:+15550100".to_owned()]));
    assert_eq!(it.save("bob", Record::Credentials(None)), Saved::Kept);
    assert_eq!(it.store.credentials().unwrap(), []);
}
