//! The promise of `Store`, kept by every implementation.

mod common;

use common::*;
use restante_deferral::commit::{Applied, Change, CommitError, Select, Transaction};
use restante_deferral::model::*;
use restante_store::memory::MemoryStore;
use restante_store::{Adopted, Adoption, Filter, Outcome, Record, Saved, SavedRegistration, Store, Takeover, Ticket};

fn on_both(story: impl Fn(&mut Fixture)) {
    story(&mut memory());
    let directory = tempfile::tempdir().unwrap();
    story(&mut sqlite(directory.path()));
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
fn a_name_that_becomes_anothers_is_lost_by_who_had_it() {
    on_both(|it| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        it.change_profile("bob", aliases(AliasChange::Register(names(&["tel:+1", "tel:+2"]))));
        let change = aliases(AliasChange::Register(names(&["tel:+2", "tel:+3"])));
        let from = vec![(user("bob"), String::from("tel:+2"))];
        let saved = it.save("carol", Record::Takeover(Takeover { change, from }));
        assert!(matches!(saved, Saved::Profile(profile) if profile.aliases == ["tel:+2", "tel:+3"]));
        let of = |it: &Fixture, name| it.store.profile(&user(name)).unwrap();
        assert_eq!((of(it, "bob").aliases, of(it, "bob").registered), (names(&["tel:+1"]), names(&["tel:+1"])));
        assert_eq!(of(it, "carol").aliases, ["tel:+2", "tel:+3"]);
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
fn a_window_ends_with_its_bytes_but_has_at_least_one_message() {
    on_both(|it| {
        (1..=3).for_each(|number| _ = it.insert(message(number, "bob")));
        for (max_body_bytes, count) in [(0, 1), (17, 1), (18, 2), (26, 2), (27, 3)] {
            let window = it.load_bytes("bob", Select::After(None), 9, max_body_bytes);
            assert_eq!((window.messages.len(), window.more), (count, count < 3), "{max_body_bytes}");
        }
        let window = it.load("bob", Select::After(None), 0);
        assert_eq!((window.messages.len(), window.more, window.totals.messages), (0, true, 3));
    });
}

#[test]
fn the_first_to_expire_come_first_and_in_delivery_order() {
    on_both(|it| {
        let expiring = |number, expires_at, priority| NewMessage {
            expires_at: Timestamp(expires_at),
            priority,
            ..message(number, "bob")
        };
        let late = it.insert(expiring(1, 30, 200));
        let first = it.insert(expiring(2, 10, 1));
        let second = it.insert(expiring(3, 20, 100));
        let window = it.load("bob", Select::ExpiredAt(Timestamp(30)), 2);
        assert_eq!((ids(&window), window.more), (vec![second, first], true));
        assert_eq!(ids(&it.load("bob", Select::ExpiredAt(Timestamp(30)), 3)), [late, second, first]);
        assert_eq!(ids(&it.load("bob", Select::ExpiredAt(Timestamp(9)), 3)), []);
        // An update moves it.
        it.write(vec![Change::Update { recipient: user("bob"), id: first, state: state(1, None) }]).unwrap();
        assert_eq!(it.load("bob", Select::After(None), 0).earliest_expiry, Some(Timestamp(20)));
    });
}

#[test]
fn dispositions_wait_like_messages_and_count_for_nothing() {
    on_both(|it| {
        let mut disposition = message(1, "bob");
        disposition.envelope.kind = MessageKind::Disposition;
        it.insert(disposition);
        let window = it.load("bob", Select::After(None), 9);
        assert_eq!((window.messages.len(), window.totals), (1, QueueTotals::default()));
        it.insert(message(2, "bob"));
        let totals = it.load("bob", Select::After(None), 9).totals;
        assert_eq!((totals.messages, totals.oldest_received_at), (1, Some(Timestamp(1_002))));
    });
}

#[test]
fn a_message_is_touched_in_its_own_queue_only() {
    on_both(|it| {
        let id = it.insert(message(1, "bob"));
        it.insert(message(2, "carol"));
        let recipient = user("carol");
        it.write(vec![
            Change::Update { recipient: recipient.clone(), id, state: state(9, None) },
            Change::Remove { recipient, id },
        ])
        .unwrap();
        assert_eq!(it.load("bob", Select::Listed(vec![id]), 9).messages[0].attempts, 0);
        assert!(it.load("carol", Select::Listed(vec![id]), 9).messages.is_empty());
    });
}

#[test]
fn alarms_that_are_left_to_ring_hide_no_others() {
    on_both(|it| {
        for number in 0..5 {
            let recipient = user(&format!("user{number}"));
            it.write(vec![Change::WakeAt { recipient, at: Some(Timestamp(10 + number)) }]).unwrap();
        }
        let mut rounds: Vec<Vec<RecipientKey>> = (0..3).map(|_| it.store.due(Timestamp(50), 2).unwrap()).collect();
        assert_eq!(rounds.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(rounds.concat(), (0..5).map(|number| user(&format!("user{number}"))).collect::<Vec<_>>());
        rounds.clear();
        assert_eq!(
            it.store.due(Timestamp(50), 2).unwrap(),
            [user("user0"), user("user1")],
            "and then from the beginning"
        );
    });
}

#[test]
fn a_registration_that_ended_can_still_be_asked_for() {
    on_both(|it| {
        assert_eq!(it.store.registration(&user("bob")).unwrap(), None);
        let ended = SavedRegistration { bytes: vec![7], expires_at: Timestamp(0) };
        it.save("bob", Record::Registration(Some(ended.clone())));
        assert!(it.store.registrations(Timestamp(0), None, 9).unwrap().is_empty());
        assert_eq!(it.store.registration(&user("bob")).unwrap(), Some(ended));
    });
}

#[test]
fn operators_page_through_a_queue_and_a_tenant() {
    on_both(|it| {
        let stored: Vec<MessageId> =
            (1..=6).map(|number| it.insert(message(number, if number % 2 == 0 { "bob" } else { "carol" }))).collect();
        let page = |it: &Fixture, filter: &Filter| {
            it.store.list(filter, 2).unwrap().iter().map(|(message, _)| message.id).collect::<Vec<_>>()
        };
        let bobs = Filter { recipient: Some(user("bob")), ..Filter::default() };
        assert_eq!(page(it, &bobs), [stored[1], stored[3]]);
        assert_eq!(page(it, &Filter { after: Some(stored[3]), ..bobs.clone() }), [stored[5]]);
        let tenant = |name: &str| Filter { tenant: Some(TenantName(name.into())), ..Filter::default() };
        assert_eq!(page(it, &Filter { after: Some(stored[1]), ..tenant("t") }), [stored[2], stored[3]]);
        assert!(page(it, &tenant("other")).is_empty());
        assert!(page(it, &Filter { tenant: tenant("other").tenant, ..bobs }).is_empty());
    });
}

#[test]
fn a_repetition_is_known_by_either_of_its_keys() {
    on_both(|it| {
        let key = |number| message(number, "bob").deduplication;
        let with =
            |number, written| NewMessage { deduplication_as_written: Some(key(written)), ..message(number, "bob") };
        let id = it.insert(with(1, 2));
        for again in [message(1, "bob"), message(2, "bob"), with(3, 1), with(3, 2), with(2, 3)] {
            assert_eq!(it.write(vec![Change::Insert(Box::new(again))]), Ok(vec![Applied::Duplicate(Some(id))]));
        }
        assert!(it.insert(message(3, "bob")) > id, "what was refused has stored no key");
    });
}

#[test]
fn profiles_are_changed_where_a_change_says_so() {
    on_both(|it| {
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        it.change_profile("bob", ProfileChange { delivery: Some(Some(Delivery::Hold)), ..ProfileChange::default() });
        let profile = it.change_profile("bob", aliases(AliasChange::Register(named(&["tel:+1"]))));
        assert_eq!((profile.delivery, &profile.aliases[..]), (Some(Delivery::Hold), &named(&["tel:+1"])[..]));
        assert_eq!(profile.registered, ["tel:+1"]);
        assert_eq!(it.store.profile(&user("bob")).unwrap(), profile);
        let profile = it.change_profile("bob", aliases(AliasChange::Set(Vec::new())));
        assert_eq!(profile, Profile { delivery: Some(Delivery::Hold), ..Profile::default() });
    });
}

#[test]
fn a_queue_takes_in_what_waits_under_another_name() {
    on_both(|it| {
        let urgent = NewMessage { priority: 200, ..message(4, "robert") };
        let mut disposition = message(5, "robert");
        disposition.envelope.kind = MessageKind::Disposition;
        let one = it.insert(message(1, "robert"));
        let two = it.insert(message(2, "bob"));
        let three = it.insert(message(3, "robert"));
        let (four, five) = (it.insert(urgent), it.insert(disposition));
        it.write(vec![
            Change::Update { recipient: user("robert"), id: three, state: state(3, Some(Timestamp(50))) },
            Change::WakeAt { recipient: user("robert"), at: Some(Timestamp(50)) },
            Change::WakeAt { recipient: user("bob"), at: Some(Timestamp(9_000)) },
        ])
        .unwrap();
        let sent = it.store.totals(&user("alice")).1;
        let adopted = it.adopt("bob", "robert");
        assert_eq!(adopted, Adopted { messages: 4, more: false, changes_profile: false });
        let window = it.load("bob", Select::After(None), 9);
        assert_eq!(ids(&window), [four, one, two, three, five], "in the order in which they came");
        assert!(window.messages.iter().all(|message| message.message.recipient == user("bob")));
        assert_eq!((window.totals.messages, window.totals.oldest_received_at), (4, Some(Timestamp(1_001))));
        assert_eq!((window.earliest_expiry, window.earliest_due), (Some(Timestamp(777)), Some(Timestamp(50))));
        assert_eq!(window.wake_at, Some(Timestamp(6_000)), "looked at");
        assert_eq!(ids(&it.load("bob", Select::DueAt(Timestamp(50)), 9)), [three]);
        assert_eq!(it.load("bob", Select::Listed(vec![three]), 9).messages[0].attempts, 3, "with what became of it");
        let empty = it.load("robert", Select::After(None), 9);
        assert_eq!((empty.messages.len(), empty.totals, empty.wake_at), (0, QueueTotals::default(), None));
        assert_eq!((it.store.totals(&user("bob")).0.messages, it.store.totals(&user("robert")).0.messages), (4, 0));
        assert_eq!((it.store.totals(&user("alice")).1, it.store.tenant_totals(&user("bob").tenant)), (sent, sent));
        let gone = |name: &str, id| Change::Remove { recipient: user(name), id };
        it.write(vec![gone("robert", one), gone("bob", three)]).unwrap();
        assert_eq!(ids(&it.load("bob", Select::After(None), 9)), [four, one, two, five], "it is nobody else's now");
        assert_eq!(it.write(vec![Change::Insert(Box::new(message(3, "robert")))]), Ok(vec![Applied::Duplicate(None)]));
        assert_eq!(it.adopt("bob", "robert").messages, 0);
    });
}

#[test]
fn only_a_name_that_is_the_users_is_taken_in() {
    on_both(|it| {
        it.insert(message(1, "robert"));
        let adoption = Adoption { alias: user("robert").address, is_configured: false, wake_at: Timestamp(0) };
        assert_eq!(it.adopt_if("bob", adoption.clone()).messages, 0, "nothing says so");
        let robert = user("robert").address.to_string();
        it.change_profile("bob", aliases(AliasChange::Set(vec![robert.clone()])));
        it.change_profile("bob", aliases(AliasChange::Remove(vec![robert.clone()])));
        assert_eq!(it.adopt_if("bob", adoption.clone()).messages, 0, "not any more");
        it.change_profile("bob", aliases(AliasChange::Register(vec![robert])));
        assert_eq!(it.adopt_if("bob", adoption).messages, 1);
        assert_eq!(it.adopt("nobody", "unknown").messages, 0);
        assert_eq!(it.adopt("bob", "bob").messages, 0);
        assert_eq!(it.load("bob", Select::After(None), 9).messages.len(), 1);
    });
}

#[test]
fn a_long_queue_is_taken_in_part_by_part_in_delivery_order() {
    on_both(|it| {
        let count = Adoption::MAX_MESSAGES + 2;
        let insert = |number| Change::Insert(Box::new(message(number as u64, "robert")));
        let Ok(applied) = it.write((0..count).map(insert).collect()) else { panic!("not stored") };
        let Some(Applied::Inserted(last)) = applied.last().copied() else { panic!("not stored") };
        it.write(vec![Change::WakeAt { recipient: user("robert"), at: Some(Timestamp(70)) }]).unwrap();
        it.change_profile("robert", ProfileChange { delivery: Some(Some(Delivery::Hold)), ..ProfileChange::default() });
        let first = it.adopt("bob", "robert");
        assert_eq!(first, Adopted { messages: Adoption::MAX_MESSAGES, more: true, changes_profile: false });
        let left = it.load("robert", Select::After(None), 9);
        assert_eq!((left.messages.len(), left.wake_at), (2, Some(Timestamp(70))), "still looked at");
        assert_eq!(left.messages.last().map(|message| message.id), Some(last));
        let second = it.adopt("bob", "robert");
        assert_eq!(second, Adopted { messages: 2, more: false, changes_profile: true });
        let profile = Profile { delivery: Some(Delivery::Hold), ..Profile::default() };
        assert_eq!(it.store.profile(&user("bob")).unwrap(), profile);
        assert_eq!(it.store.profiles().unwrap().len(), 1, "the name has none of its own any more");
        assert_eq!(it.store.totals(&user("bob")).0.messages as usize, count);
    });
}

#[test]
fn all_who_have_something_are_found_page_by_page() {
    on_both(|it| {
        for (number, name) in ["bob", "carol", "bob", "dave", "erin"].iter().enumerate() {
            it.insert(message(number as u64, name));
        }
        it.change_profile("frank", aliases(AliasChange::Set(vec!["tel:+1".into()])));
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = it.store.recipients(after, 3).unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            assert!(page.len() <= 3);
            found.extend(page.into_iter().map(|(_, key)| key));
        }
        found.sort();
        assert_eq!(found, ["bob", "carol", "dave", "erin"].map(user));
    });
}

#[test]
fn the_fake_holds_commits_back_refuses_and_loses_them() {
    let (sink, done) = sink();
    let store = MemoryStore::new(sink);
    let insert = |number| {
        let changes = vec![Change::Insert(Box::new(message(number, "bob")))];
        store.write(Ticket { shard: 0, token: number }, Transaction { changes, settles: false }).unwrap();
    };
    store.hold();
    insert(1);
    assert!(done.try_recv().is_err() && store.messages().is_empty(), "held back");
    store.release();
    assert_eq!((done.try_recv().unwrap().token, store.messages().len()), (1, 1));
    store.refuse(Some(CommitError::Full));
    insert(2);
    assert_eq!(done.try_recv().unwrap().outcome, Outcome::Written(Err(CommitError::Full)));
    store.refuse(None);
    store.hold();
    insert(3);
    assert_eq!(store.due(Timestamp(5), 9).unwrap(), []);
    store.crash(Timestamp(5));
    assert!(done.try_recv().is_err() && store.messages().len() == 1, "lost, and nobody was told");
    assert_eq!(store.due(Timestamp(5), 9).unwrap(), [user("bob")]);
}
