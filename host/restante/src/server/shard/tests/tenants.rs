//! Tenants that come, change and go, and what they may use at a time.

use super::*;
use crate::configuration::TenantLimits;
use restante_deferral::commit::{Change, Transaction};

const BOB: &str = "sip:bob@example.org";
const CAROL: &str = "sip:carol@example.org";
const DORA: &str = "sip:dora@school.example";
const PHONE: &str = "<sip:somebody@127.0.0.1:6000>;expires=6000";

fn school() -> Tenant {
    Tenant { domains: vec!["school.example".to_owned()], ..Tenant::example() }
}

/// With a second tenant, and the first one's limits.
fn house(limits: TenantLimits) -> House {
    House::configured(|it| {
        it.tenants.get_mut("example").unwrap().limits = limits;
        it.tenants.insert("school".to_owned(), school());
    })
}

/// What was sent and not answered.
fn requests(house: &mut House, method: Method) -> Vec<SipMessage> {
    let is_it = |it: &SipMessage| it.is_request() && it.method() == Some(method.clone());
    let (found, rest) = house.sent.drain(..).partition(is_it);
    house.sent = rest;
    found
}

fn answer(house: &mut House, request: &SipMessage, status: u16) {
    let answer = Builder::response(request, status, "Said So", request.header(Name::Via), Some("t")).finish().unwrap();
    receiver::received(&house.shared, message_of(&answer), &flow());
    house.run();
}

fn text_of(message: &SipMessage) -> String {
    std::str::from_utf8(&message.body()).unwrap().lines().last().unwrap_or("").to_owned()
}

fn deliveries(house: &House) -> u64 {
    house.shared.directory.tenant(&TenantName("example".into())).unwrap().usage.deliveries.in_use()
}

#[test]
fn a_delivery_beyond_what_a_tenant_may_have_waits_and_holds_up_no_other_tenant() {
    let mut house = house(TenantLimits { max_deliveries_in_flight: Some(1), ..TenantLimits::default() });
    for user in [BOB, CAROL, DORA] {
        house.message(user, &format!("for {user}"));
        house.register(user, PHONE);
    }
    house.pass(500);
    let sent = requests(&mut house, Method::Message);
    let texts: Vec<String> = sent.iter().map(text_of).collect();
    assert_eq!(sent.len(), 2, "{texts:?}");
    assert!(texts.contains(&format!("for {DORA}")), "{texts:?}");
    assert_eq!(deliveries(&house), 1);
    let first = sent.iter().find(|it| !text_of(it).contains("dora")).unwrap();
    answer(&mut house, first, 200);
    let second = requests(&mut house, Method::Message);
    assert_eq!(second.len(), 1, "it begins as soon as the first is done");
    assert_ne!(text_of(&second[0]), text_of(first));
    answer(&mut house, &second[0], 200);
    assert_eq!(deliveries(&house), 0);
    assert_eq!(house.owners(), [DORA]);
}

#[test]
fn a_delivery_that_fails_lets_the_next_one_begin() {
    let mut house = house(TenantLimits { max_deliveries_in_flight: Some(1), ..TenantLimits::default() });
    for user in [BOB, CAROL] {
        house.message(user, "text");
        house.register(user, PHONE);
    }
    house.pass(500);
    let first = requests(&mut house, Method::Message);
    answer(&mut house, &first[0], 503);
    assert_eq!((requests(&mut house, Method::Message).len(), deliveries(&house)), (1, 1));
}

#[test]
fn a_session_beyond_what_a_tenant_may_have_waits() {
    let limits = TenantLimits { max_sessions: Some(1), ..TenantLimits::default() };
    let mut house = house(limits);
    for user in [BOB, CAROL] {
        // More than few go in a session.
        for number in 0..5 {
            house.message(user, &format!("{number}"));
        }
        house.register(user, PHONE);
    }
    house.pass(500);
    let first = requests(&mut house, Method::Invite);
    assert_eq!((first.len(), deliveries(&house)), (1, 1), "who waits for a session has nothing in flight");
    answer(&mut house, &first[0], 486);
    let second = requests(&mut house, Method::Invite);
    assert_eq!(second.len(), 1);
    assert_ne!(second[0].request_uri(), None);
    assert_ne!(second[0].to().unwrap().uri.to_string(), first[0].to().unwrap().uri.to_string());
    answer(&mut house, &second[0], 486);
    assert_eq!(house.stored().len(), 10, "and nothing was lost");
}

#[test]
fn what_waits_in_line_may_begin_when_the_tenant_may_have_more() {
    let mut house = house(TenantLimits { max_deliveries_in_flight: Some(1), ..TenantLimits::default() });
    for user in [BOB, CAROL, "sip:erin@example.org"] {
        house.message(user, "text");
        house.register(user, PHONE);
    }
    house.pass(500);
    assert_eq!(requests(&mut house, Method::Message).len(), 1);
    house.change_tenants(&["example"], |tenants| {
        tenants.get_mut("example").unwrap().limits.max_deliveries_in_flight = Some(10);
    });
    assert_eq!(requests(&mut house, Method::Message).len(), 2);
}

#[test]
fn messages_beyond_what_a_tenant_may_store_are_refused_and_may_come_later() {
    let mut house = house(TenantLimits { max_stored_messages: Some(2), ..TenantLimits::default() });
    let [one, two, three] = ["one", "two", "three"].map(|text| house.message(BOB, text));
    assert_eq!([&one, &two, &three].map(|sent| house.statuses(sent)), [[202], [202], [480]]);
    assert_eq!(house.answer(&three).header(Name::RetryAfter), Some("60"));
    let other = house.message(DORA, "of another tenant");
    assert_eq!(house.statuses(&other), [202]);
    // Those that arrive at once are counted together.
    house.change_tenants(&["example"], |tenants| {
        tenants.get_mut("example").unwrap().limits.max_stored_messages = Some(4);
    });
    house.store.hold();
    let sent: Vec<String> = (0..5).map(|number| house.message(CAROL, &format!("at once {number}"))).collect();
    house.store.release();
    house.run();
    let accepted = sent.iter().filter(|call| house.statuses(call) == [202]).count();
    let refused = sent.iter().filter(|call| house.statuses(call) == [480]).count();
    assert_eq!((accepted, refused), (2, 3));
    house.register(BOB, PHONE);
    house.pass(500);
    assert_eq!(house.delivered(200), ["one"]);
    house.run();
    let later = house.message(CAROL, "there is room again");
    assert_eq!(house.statuses(&later), [202]);
}

/// What a sender asks of whoever keeps its message.
const ASKS_ALL: &str = "imdn.Disposition-Notification: processing, negative-delivery\r\n";
const ASKS_OF_FAILURE: &str = "imdn.Disposition-Notification: negative-delivery\r\n";

fn limited(max_stored_messages: u64) -> House {
    house(TenantLimits { max_stored_messages: Some(max_stored_messages), ..TenantLimits::default() })
}

/// An operator drops what waits for somebody, and has the senders told.
fn discard(house: &mut House, recipient: &str, messages: Option<Vec<MessageId>>) {
    let (done, _) = tokio::sync::oneshot::channel();
    let discard = ToShard::Discard { recipient: user(recipient), messages, report: true, done };
    house.shared.to_recipient(&user(recipient), discard);
    house.run();
    house.pass(100);
}

fn counted(house: &House, series: &str) -> u64 {
    let text = house.shared.metrics.encode(None);
    let of_series = text.lines().filter(|line| line.starts_with(series));
    of_series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Whatever was stored went somewhere, or waits.
fn nothing_is_lost(house: &House) {
    let came = counted(house, "restante_messages_stored_total") + counted(house, "restante_reports_total");
    let went = ["delivered", "expired", "given_up", "discarded", "handed_over"]
        .map(|how| counted(house, &format!("restante_messages_{how}_total")));
    assert_eq!(came, went.iter().sum::<u64>() + house.stored().len() as u64);
}

#[test]
fn reports_count_as_stored_and_leave_half_for_messages() {
    let mut house = limited(4);
    let sent = ["one", "two", "three"].map(|text| house.message_from("sip:alice@example.org", BOB, text, ASKS_ALL));
    assert_eq!(sent.each_ref().map(|call| house.statuses(call)), [[202], [202], [480]]);
    assert_eq!(house.stored().len(), 4, "two messages, and that they are stored");
    let fields = "From: <sip:alice@example.org>;tag=1\r\nCSeq: 1 MESSAGE\r\nContent-Type: message/imdn+xml\r\n";
    let disposition = house.send("MESSAGE", BOB, None, fields, "<imdn/>");
    assert_eq!(house.statuses(&disposition), [480], "a device's disposition has no more room than a message");
    house.register(BOB, PHONE);
    let mut delivered = Vec::new();
    for _ in 0..4 {
        house.pass(500);
        delivered.extend(house.delivered(200));
    }
    assert_eq!(delivered, ["one", "two"]);
    // There is room for messages again, and for no further report.
    for (number, text) in ["four", "five"].into_iter().enumerate() {
        let call = house.message_from("sip:alice@example.org", CAROL, text, ASKS_ALL);
        assert_eq!((house.statuses(&call), house.stored().len()), (vec![202], 3 + number));
    }
    let left_out = "restante_tenant_limits_total{tenant=\"example\",limit=\"reports\"}";
    assert_eq!(counted(&house, left_out), 2);
    // What cannot be reported is settled all the same.
    discard(&mut house, CAROL, None);
    assert_eq!((house.owners(), counted(&house, left_out)), (vec!["sip:alice@example.org".to_owned()], 4));
    nothing_is_lost(&house);
    // When its sender comes for them there is room for others.
    house.register("sip:alice@example.org", PHONE);
    for _ in 0..4 {
        house.pass(500);
        house.delivered(200);
    }
    assert!(house.stored().is_empty());
    let again = house.message_from("sip:alice@example.org", CAROL, "six", ASKS_ALL);
    assert_eq!((house.statuses(&again), counted(&house, "restante_reports_total")), (vec![202], 3));
    nothing_is_lost(&house);
}

#[test]
fn a_report_of_a_failure_takes_the_place_of_its_message() {
    let mut house = limited(2);
    for text in ["one", "two"] {
        house.message_from("sip:alice@example.org", BOB, text, ASKS_OF_FAILURE);
    }
    let first = house.stored()[0].1;
    discard(&mut house, BOB, Some(vec![first]));
    assert_eq!(house.owners(), [BOB, "sip:alice@example.org"]);
    let refused = house.message(BOB, "three");
    assert_eq!((house.statuses(&refused), counted(&house, "restante_reports_total")), (vec![480], 1));
    discard(&mut house, BOB, None);
    assert_eq!((house.stored().len(), counted(&house, "restante_reports_total")), (1, 1), "half is for messages");
    let taken = house.message(BOB, "three");
    assert_eq!(house.statuses(&taken), [202]);
    nothing_is_lost(&house);
}

#[test]
fn a_tenant_that_was_removed_is_unknown_and_comes_back_with_all_it_had() {
    let mut house = house(TenantLimits::default());
    house.register(DORA, PHONE);
    house.message(BOB, "of another tenant");
    let kept = house.message(DORA, "one");
    assert_eq!(house.statuses(&kept), [202]);
    house.pass(200);
    // In flight when the tenant goes; one more waits behind it.
    let in_flight = requests(&mut house, Method::Message);
    assert_eq!(in_flight.len(), 1);
    house.message(DORA, "two");
    house.change_tenants(&["school"], |tenants| drop(tenants.remove("school")));
    for (method, status) in [("MESSAGE", 404), ("REGISTER", 404), ("SUBSCRIBE", 404)] {
        let fields = format!("From: <sip:alice@example.org>;tag=1\r\nCSeq: 9 {method}\r\n");
        let call = house.send(method, DORA, None, &fields, "");
        assert_eq!(house.statuses(&call), [status], "{method}");
    }
    answer(&mut house, &in_flight[0], 200);
    house.pass(60_000);
    assert!(requests(&mut house, Method::Message).is_empty(), "nothing begins");
    assert_eq!(house.owners(), [BOB, DORA], "what was in flight is done, and the rest stays");
    let is_of_example = |shard: &Shard| shard.slots.keys().all(|key| &*key.tenant.0 == "example");
    assert!(house.shards.iter().all(is_of_example), "put away");

    house.change_tenants(&["school"], |tenants| _ = tenants.insert("school".to_owned(), school()));
    let dora = RecipientKey { tenant: TenantName("school".into()), address: CanonicalAddress(DORA.into()) };
    house.shared.to_recipient(&dora.clone(), ToShard::ServedAgain(vec![dora]));
    house.run();
    house.pass(1_000);
    assert_eq!(house.delivered(200), ["two"], "she is still registered");
}

#[test]
fn who_is_not_registered_is_looked_at_when_a_tenant_comes_back() {
    let mut house = house(TenantLimits::default());
    let call = house.message_from("sip:alice@school.example", DORA, "one", "");
    assert_eq!(house.statuses(&call), [202]);
    house.change_tenants(&["school"], |tenants| drop(tenants.remove("school")));
    // What the scheduler does with her alarm, which rings meanwhile.
    let dora = RecipientKey { tenant: TenantName("school".into()), address: CanonicalAddress(DORA.into()) };
    let expires_at = house.store.messages()[0].message.expires_at;
    house.clock.store(expires_at.0, Ordering::Relaxed);
    let later = Change::WakeAt { recipient: dora.clone(), at: Some(Timestamp(expires_at.0 + 6 * 3_600_000)) };
    let ticket = restante_store::Ticket { shard: 0, token: 0 };
    house.store.write(ticket, Transaction { changes: vec![later], settles: true }).unwrap();
    house.change_tenants(&["school"], |tenants| _ = tenants.insert("school".to_owned(), school()));
    house.shared.to_recipient(&dora.clone(), ToShard::ServedAgain(vec![dora]));
    house.run();
    house.pass(2_000);
    assert!(house.stored().is_empty(), "its time was up");
}

#[test]
fn what_is_settled_on_a_full_disk_is_settled_without_reports() {
    let mut house = house(TenantLimits::default());
    for text in ["one", "two"] {
        house.message_from("sip:alice@example.org", BOB, text, ASKS_OF_FAILURE);
    }
    let first = house.stored()[0].1;
    house.store.fill(true);
    discard(&mut house, BOB, Some(vec![first]));
    house.pass(3_000);
    let left_out = "restante_tenant_limits_total{tenant=\"example\",limit=\"reports\"}";
    assert_eq!((house.stored().len(), house.owners(), counted(&house, left_out)), (1, vec![BOB.to_owned()], 1));
    house.store.fill(false);
    discard(&mut house, BOB, None);
    assert_eq!(house.owners(), ["sip:alice@example.org"], "there is room for a report again");
    nothing_is_lost(&house);
}

#[test]
fn what_waits_in_line_stays_stored_when_its_tenant_is_removed() {
    let mut house = house(TenantLimits { max_deliveries_in_flight: Some(1), ..TenantLimits::default() });
    for user in [BOB, CAROL] {
        house.message(user, "text");
        house.register(user, PHONE);
    }
    house.pass(500);
    let first = requests(&mut house, Method::Message);
    house.change_tenants(&["example"], |tenants| drop(tenants.remove("example")));
    answer(&mut house, &first[0], 200);
    house.pass(1_000);
    assert!(requests(&mut house, Method::Message).is_empty());
    assert_eq!(house.stored().len(), 1);
    assert!(house.shards.iter().all(|shard| shard.slots.is_empty() && shard.attempts_in_line.is_empty()));
}

#[test]
fn a_change_of_one_tenant_reaches_its_machines_and_no_others() {
    let mut house = house(TenantLimits::default());
    house.message(BOB, "one");
    house.message(DORA, "two");
    let version = house.shared.directory.version();
    house.change_tenants(&["school"], |tenants| {
        tenants.get_mut("school").unwrap().domains.insert(0, "new.school.example".to_owned());
    });
    assert!(house.shared.directory.version() > version, "requests under way look again");
    let new = house.message("sip:dora@new.school.example", "three");
    assert_eq!(house.statuses(&new), [202]);
    assert_eq!(house.stored().len(), 3);
    let school = house.shared.directory.tenant(&TenantName("school".into())).unwrap();
    assert_eq!(school.deferral.reporter, "sip:new.school.example");
    assert_eq!(&*house.shared.domain_of(&TenantName("example".into())), "example.org");
}

#[test]
fn a_report_to_a_user_of_another_tenant_goes_through_the_outbound_proxy() {
    for outbound in [true, false] {
        let mut house = House::configured(|it| {
            it.tenants.insert("school".to_owned(), school());
            it.sip.outbound = outbound.then(|| format!("udp:{PEER}").parse().unwrap());
        });
        house.message_from(DORA, BOB, "one", "imdn.Disposition-Notification: processing\r\n");
        house.pass(500);
        let reports = requests(&mut house, Method::Message);
        assert_eq!(reports.len(), usize::from(outbound));
        let owners: Vec<String> =
            house.store.messages().iter().map(|it| it.message.recipient.tenant.to_string()).collect();
        assert_eq!(owners, ["example", "example"], "it is kept for who made it");
        for report in reports {
            assert_eq!(report.request_uri(), Some(DORA));
            answer(&mut house, &report, 200);
            assert_eq!(house.owners(), [BOB]);
        }
    }
}
