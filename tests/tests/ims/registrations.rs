//! What a core tells of registrations.

use restante_sip::message::Name;
use restante_tests::{World, setting, story};

use crate::scscf::{BOB, Body, Scscf, routes, with_associated};

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

const NUMBER: &str = "tel:+15550001";
const NAMES: &str = "<sip:bob@example.org>, <tel:+15550001>";

#[test]
fn names_that_the_core_associates_are_one_user() {
    for is_embedded in [false, true] {
        setting().tenant(|tenant| tenant.numbers.push("+1555".to_owned())).tell(async |world| {
            let mut core = Scscf::new(world).await;
            let register = match is_embedded {
                false => core.third_party(BOB, 600, Body::Register).with("P-Associated-URI", NAMES),
                true => with_associated(core.third_party(BOB, 600, Body::Answer), NAMES),
            };
            assert_eq!(core.socket.ask(&register).await.status(), Some(200));
            let is_bobs = || &*world.recipient(NUMBER).address.0 == BOB;
            restante_tests::until("the number is Bob's", is_bobs).await;
            let request = core.serves("MESSAGE", NUMBER, "<tel:+15550001>;sescase=term;regstate=reg").text("by number");
            assert_eq!(core.socket.ask(&request).await.status(), Some(202));
            let delivery = core.asked("MESSAGE").await;
            assert_eq!(delivery.header(Name::To).map(|to| to.contains("+15550001")), Some(true));
            core.socket.respond(&delivery, 200).await;
            world.until_settled().await;
        });
    }
}

/// What a client writes into its REGISTER reaches us in the core's, and a device's own REGISTER may carry a body, too.
#[test]
fn names_that_a_device_associates_with_itself_are_not_its_own() {
    setting().tenant(|tenant| tenant.numbers.push("+1555".to_owned())).tell(async |world| {
        let mut core = Scscf::new(world).await;
        let told = with_associated(core.third_party(BOB, 600, Body::Register), NAMES);
        assert_eq!(core.socket.ask(&told).await.status(), Some(200));
        let own = with_associated(core.third_party(BOB, 600, Body::Answer), NAMES);
        let own = own.set("From", &format!("<{BOB}>;tag=bob")).set("Contact", &format!("<{}>", core.uri()));
        assert_eq!(core.socket.ask(&own).await.status(), Some(200));
        let request = core.serves("MESSAGE", NUMBER, "<tel:+15550001>;sescase=term;regstate=unreg").text("by number");
        assert_eq!(core.socket.ask(&request).await.status(), Some(202));
        assert_eq!(owner(world), NUMBER);
    });
}

fn owner(world: &World) -> String {
    world.recipient(NUMBER).address.0.to_string()
}
