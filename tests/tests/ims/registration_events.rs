//! Registration events: what a core tells those who subscribed.

use std::net::{Ipv4Addr, UdpSocket};

use restante::configuration::RegistrationEvents;
use restante_sip::message::Name;
use restante_sip::registration_events::RegistrationInfo;
use restante_tests::{OUTSIDE, RawSip, Setting, World, guest, in_time, setting, until_equal};

use crate::scscf::{BOB, Body, Scscf, Subscription, routes};

const ACTIVE: &str = "active;expires=3600";

/// The core is at a place that the configuration names, so that it is there before the server.
fn watching() -> (Setting, UdpSocket) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let place = socket.local_addr().expect("a bound socket");
    let events = RegistrationEvents { via: format!("sip:{place}"), identity: None, expires_seconds: 7_200 };
    let setting = setting().administered().tenant(move |tenant| tenant.registration_events = Some(events));
    (setting, socket)
}

fn core_on(world: &World, socket: UdpSocket) -> Scscf {
    Scscf::at(world, RawSip::udp_on(socket, world.sip()))
}

/// Something waits for Bob, and the server subscribed and was told that nobody is there.
async fn waiting(world: &World, core: &mut Scscf) -> Subscription {
    keeps(core, "waits").await;
    let mut subscription = core.subscription().await;
    core.grants(&subscription, 3_600).await;
    let notify = core.notify(&mut subscription, ACTIVE, true, &[]);
    assert_eq!(core.socket.ask(&notify).await.status(), Some(200));
    assert_eq!(contacts(world).await, 0);
    subscription
}

async fn keeps(core: &mut Scscf, text: &str) {
    let served = format!("<{BOB}>;sescase=term;regstate=unreg");
    let request = core.serves("MESSAGE", BOB, &served).text(text);
    assert_eq!(core.socket.ask(&request).await.status(), Some(202));
}

/// How many contacts of Bob's the server knows.
async fn contacts(world: &World) -> usize {
    let answer = world.administration("/users/sip:bob@example.org").await;
    let user: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    user["contacts"].as_array().map_or(0, Vec::len)
}

async fn until_contacts(world: &World, count: usize) {
    let looking = async {
        while contacts(world).await != count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    in_time(&format!("{count} contacts"), looking).await;
}

#[test]
fn who_is_told_to_be_back_gets_what_waited_through_the_core() {
    let (place, core) = watching();
    place.tell(async |world| {
        let mut core = core_on(world, core);
        let mut subscription = waiting(world, &mut core).await;
        let subscribe = &subscription.subscribe;
        assert_eq!(subscribe.request_uri(), Some(BOB));
        for (name, value) in [("Event", "reg"), ("Accept", "application/reginfo+xml"), ("Expires", "7200")] {
            assert_eq!(subscribe.header_by_text(name), Some(value));
        }
        assert_eq!(subscribe.header(Name::PAssertedIdentity), Some("<sip:example.org>"));
        let notify = core.notify(&mut subscription, ACTIVE, false, &[("phone", true)]);
        assert_eq!(core.socket.ask(&notify).await.status(), Some(200));
        let delivery = core.asked("MESSAGE").await;
        assert_eq!((delivery.request_uri(), routes(&delivery)), (Some(BOB), vec![format!("<{};lr>", core.uri())]));
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn a_document_that_names_nobody_proves_the_user_gone_and_a_departure_alone_does_not() {
    let (place, core) = watching();
    place.tell(async |world| {
        let mut core = core_on(world, core);
        assert_eq!(core.registers(BOB, 600, Body::Register).await.status(), Some(200));
        let mut subscription = core.subscription().await;
        core.grants(&subscription, 3_600).await;
        let notify = core.notify(&mut subscription, ACTIVE, true, &[("phone", true), ("tablet", true)]);
        core.socket.ask(&notify).await;
        assert_eq!(core.registers(BOB, 0, Body::None).await.status(), Some(200));
        assert_eq!(contacts(world).await, 1, "the route through the core stays");
        let notify = core.notify(&mut subscription, ACTIVE, false, &[("phone", false)]);
        core.socket.ask(&notify).await;
        assert_eq!(contacts(world).await, 1, "the tablet is there");
        let of_nobody = RegistrationInfo { version: 9, is_full: true, registrations: Vec::new() };
        let notify = core.notify_without(&mut subscription, ACTIVE).body("application/reginfo+xml", of_nobody.to_xml());
        assert_eq!(core.socket.ask(&notify).await.status(), Some(200));
        assert_eq!(contacts(world).await, 1, "what is not said proves nothing");
        let notify = core.notify(&mut subscription, ACTIVE, true, &[("phone", false), ("tablet", false)]);
        core.socket.ask(&notify).await;
        until_contacts(world, 0).await;
        keeps(&mut core, "for later").await;
        assert!(!core.socket.unread_by_now().await.iter().any(|line| line.starts_with("MESSAGE")));
        assert_eq!(core.registers(BOB, 600, Body::Register).await.status(), Some(200));
        let delivery = core.asked("MESSAGE").await;
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn a_document_that_was_missed_is_asked_for_in_the_dialog() {
    let (place, core) = watching();
    place.tell(async |world| {
        let mut core = core_on(world, core);
        let mut subscription = waiting(world, &mut core).await;
        subscription.loses_one();
        let notify = core.notify(&mut subscription, ACTIVE, false, &[("tablet", true)]);
        assert_eq!(core.socket.ask(&notify).await.status(), Some(200));
        let again = core.asked("SUBSCRIBE").await;
        assert_eq!(again.to().unwrap().tag(), Some("story"), "in its dialog");
        assert_eq!(again.call_id(), subscription.subscribe.call_id());
        assert_eq!(contacts(world).await, 0, "what is not whole is not believed");
        subscription.subscribe = again;
        core.grants(&subscription, 3_600).await;
        let notify = core.notify(&mut subscription, ACTIVE, true, &[("phone", true), ("tablet", true)]);
        core.socket.ask(&notify).await;
        let delivery = core.asked("MESSAGE").await;
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn a_subscription_is_refreshed_before_its_end_and_begun_anew_when_the_core_ends_it() {
    let (place, core) = watching();
    place.tell(async |world| {
        let mut core = core_on(world, core);
        keeps(&mut core, "waits").await;
        let mut subscription = core.subscription().await;
        // Before the answer, as happens. Half of its time is left for the refresh: more than a machine stands still.
        let notify = core.notify(&mut subscription, "active;expires=12", true, &[]);
        assert_eq!(core.socket.ask(&notify).await.status(), Some(200));
        core.grants(&subscription, 12).await;
        let refresh = core.subscription().await;
        assert_eq!(refresh.subscribe.to().unwrap().tag(), Some("story"));
        core.grants(&refresh, 3_600).await;
        let notify = core.notify_without(&mut subscription, "terminated;reason=deactivated");
        assert_eq!(core.socket.ask(&notify).await.status(), Some(200));
        let mut anew = core.subscription().await;
        assert_eq!(anew.subscribe.to().unwrap().tag(), None, "another dialog");
        assert_ne!(anew.subscribe.call_id(), subscription.subscribe.call_id(), "with another name");
        let late = core.notify(&mut subscription, ACTIVE, true, &[("phone", true)]);
        assert_eq!(core.socket.ask(&late).await.status(), Some(481), "of the dialog before");
        core.grants(&anew, 3_600).await;
        let notify = core.notify(&mut anew, ACTIVE, true, &[("phone", true)]);
        core.socket.ask(&notify).await;
        let delivery = core.asked("MESSAGE").await;
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn a_longer_time_is_asked_for_where_the_core_wants_one_and_a_refusal_is_no_end() {
    let (place, core) = watching();
    place.tell(async |world| {
        let mut core = core_on(world, core);
        keeps(&mut core, "waits").await;
        let first = core.asked("SUBSCRIBE").await;
        core.socket.respond_with(&first, 423, &[("Min-Expires", "9000")]).await;
        let second = core.asked("SUBSCRIBE").await;
        assert_eq!(second.header(Name::Expires), Some("9000"));
        core.socket.respond_with(&second, 480, &[("Retry-After", "1")]).await;
        let mut third = core.subscription().await;
        core.grants(&third, 9_000).await;
        let notify = core.notify(&mut third, ACTIVE, true, &[("phone", true)]);
        core.socket.ask(&notify).await;
        let delivery = core.asked("MESSAGE").await;
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn what_nobody_subscribed_to_and_what_others_forge_is_refused() {
    let (place, core) = watching();
    place.demands_passwords().tell(async |world| {
        let mut core = core_on(world, core);
        let mut subscription = waiting(world, &mut core).await;
        let good = core.notify(&mut subscription, ACTIVE, false, &[("phone", true)]);
        let unmatched = good.clone().new_transaction().set("Call-ID", "another");
        assert_eq!(core.socket.ask(&unmatched).await.status(), Some(481));
        let tag = good.field("To").replace(";tag=r0", ";tag=r0f");
        let other_tag = good.clone().new_transaction().set("To", &tag);
        assert_eq!(core.socket.ask(&other_tag).await.status(), Some(481));
        let mut eve = RawSip::udp(OUTSIDE, world.sip()).await;
        let via = format!("SIP/2.0/UDP {};branch=z9hG4bKeve;rport", eve.local());
        let forged = good.clone().set("Via", &via);
        assert_eq!(eve.ask(&forged).await.status(), Some(403), "though it knows the tags");
        let other_event = good.clone().new_transaction().set("Event", "presence");
        assert_eq!(core.socket.ask(&other_event).await.status(), Some(489));
        assert_eq!(contacts(world).await, 0);
        assert_eq!(core.socket.ask(&good).await.status(), Some(200));
        until_contacts(world, 1).await;
    });
}

#[test]
fn a_server_that_starts_again_subscribes_again() {
    let (place, core) = watching();
    place.tell(async |world| {
        let mut core = core_on(world, core);
        let first = waiting(world, &mut core).await;
        world.restart().await;
        let mut again = core.subscription().await;
        assert_ne!(again.subscribe.call_id(), first.subscribe.call_id());
        core.grants(&again, 3_600).await;
        let notify = core.notify(&mut again, ACTIVE, true, &[("phone", true)]);
        core.socket.ask(&notify).await;
        let delivery = core.asked("MESSAGE").await;
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn nobody_is_watched_without_a_reason_or_beyond_the_bound() {
    let (place, core) = watching();
    place.configure(|it| it.limits.max_registration_subscriptions = 1).tell(async |world| {
        let mut core = core_on(world, core);
        for number in 0..8 {
            let uri = format!("sip:user{number}@example.org");
            let request = core.invokes("MESSAGE", &uri).text("x");
            assert_eq!(core.socket.ask(&request).await.status(), Some(202));
        }
        core.asked("SUBSCRIBE").await;
        let dropped = || world.metric("restante_dropped_total", &["too-many-registration-subscriptions"]);
        until_equal("most are not watched", true, || dropped() >= 4).await;
    });
}

#[test]
fn a_policy_is_told_that_it_was_reported() {
    let (place, core) = watching();
    place.tenant(|tenant| tenant.policy = guest("scripted")).settings("available = \"page-if:reported\"").tell(
        async |world| {
            let mut core = core_on(world, core);
            let mut subscription = waiting(world, &mut core).await;
            let notify = core.notify(&mut subscription, ACTIVE, false, &[("phone", true)]);
            core.socket.ask(&notify).await;
            let delivery = core.asked("MESSAGE").await;
            core.socket.respond(&delivery, 200).await;
            world.until_settled().await;
        },
    );
}

#[test]
fn a_tenant_that_names_whom_to_ask_while_the_server_runs_has_those_asked_about_for_whom_something_waits() {
    setting().administered().tell(async |world| {
        let mut core = Scscf::new(world).await;
        let toml = |events: &str| format!("domains = [\"school.example\"]\ntrust = [\"127.0.0.0/8\"]\n{events}");
        let put = async |toml: String| {
            world.administer("PUT", "/tenants/school", Some(("application/toml", &toml))).await.status
        };
        assert_eq!(put(toml("")).await, 201);
        let dora = "sip:dora@school.example";
        let message = core.invokes("MESSAGE", dora).text("waits");
        assert_eq!(core.socket.ask(&message).await.status(), Some(202));
        let events = format!("[registration_events]\nvia = \"{}\"\n", core.uri());
        assert_eq!(put(toml(&events)).await, 200);
        assert_eq!(core.asked("SUBSCRIBE").await.request_uri(), Some(dora));
    });
}
