//! What a core tells of registrations.

use restante_sip::message::Name;
use restante_tests::{setting, story};

use crate::scscf::{BOB, Body, Scscf, routes};

#[test]
fn a_third_party_registration_with_any_body_makes_its_user_available() {
    for body in [Body::None, Body::Register, Body::Answer, Body::ServiceInfo, Body::Both] {
        story(async |world| {
            let mut core = Scscf::new(world).await;
            let served = format!("<{BOB}>;sescase=term;regstate=unreg");
            let request = core.serves("MESSAGE", BOB, &served).text("kept");
            assert_eq!(core.socket.ask(&request).await.status(), Some(202));
            assert_eq!(core.registers(BOB, 600, body).await.status(), Some(200), "{body:?}");
            let delivery = core.asked("MESSAGE").await;
            assert_eq!(routes(&delivery), [format!("<{};lr>", core.uri())], "{body:?}");
            core.socket.respond(&delivery, 200).await;
            world.until_settled().await;
        });
    }
}

#[test]
fn a_departure_alone_never_proves_that_nobody_is_there() {
    story(async |world| {
        let mut core = Scscf::new(world).await;
        core.registers(BOB, 600, Body::Register).await;
        assert_eq!(core.registers(BOB, 0, Body::None).await.status(), Some(200));
        let request = core.serves("MESSAGE", BOB, &format!("<{BOB}>;sescase=term;regstate=reg")).text("still there");
        assert_eq!(core.socket.ask(&request).await.status(), Some(202));
        let delivery = core.asked("MESSAGE").await;
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn names_that_the_core_associates_are_one_user() {
    setting().tenant(|tenant| tenant.numbers.push("+1555".to_owned())).tell(async |world| {
        let mut core = Scscf::new(world).await;
        let register = core
            .third_party(BOB, 600, Body::Register)
            .with("P-Associated-URI", "<sip:bob@example.org>, <tel:+15550001>");
        assert_eq!(core.socket.ask(&register).await.status(), Some(200));
        restante_tests::until("the number is Bob's", || &*world.recipient("tel:+15550001").address.0 == BOB).await;
        let request =
            core.serves("MESSAGE", "tel:+15550001", "<tel:+15550001>;sescase=term;regstate=reg").text("by number");
        assert_eq!(core.socket.ask(&request).await.status(), Some(202));
        let delivery = core.asked("MESSAGE").await;
        assert_eq!(delivery.header(Name::To).map(|to| to.contains("+15550001")), Some(true));
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
    });
}
