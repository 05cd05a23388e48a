//! Messages for each of a recipient's devices.

use restante_sip::message::{Method, SipMessage};
use restante_tests::{RawSip, World, setting, until, until_equal};

const BOB: &str = "sip:bob@example.org";

fn is_message(it: &SipMessage) -> bool {
    it.is_request() && it.method() == Some(Method::Message)
}

/// Registers one of Bob's devices with this Contact.
async fn register(socket: &mut RawSip, contact: &str, device: &str) {
    register_for(socket, contact, device, "600").await;
}

async fn register_for(socket: &mut RawSip, contact: &str, device: &str, seconds: &str) {
    let contact = format!("<{contact}>;+sip.instance=\"<urn:uuid:{device}>\"");
    let register = socket.request("REGISTER", "sip:example.org");
    let register = register.set("From", &format!("<{BOB}>;tag=device")).set("To", &format!("<{BOB}>"));
    let register = register.set("Contact", &contact).set("Expires", seconds);
    assert_eq!(socket.ask(&register).await.status(), Some(200));
}

/// The text of the next message, which is taken.
async fn taken(socket: &mut RawSip) -> String {
    let message = socket.expect("a MESSAGE", is_message).await;
    socket.respond(&message, 200).await;
    String::from_utf8_lossy(&message.body()).into_owned()
}

#[test]
fn a_device_that_is_away_gets_its_copies_when_it_is_back_after_a_restart_and_the_other_one_no_second() {
    const PHONE: &str = "00000000-0000-4000-8000-000000000001";
    const TABLET: &str = "00000000-0000-4000-8000-000000000002";
    setting().settings("devices = \"each\"").tell(async |world| {
        let (mut alice, mut phone, mut tablet) = (world.udp().await, world.udp().await, world.udp().await);
        let at_phone = format!("sip:bob@{}", phone.local());
        register(&mut phone, &at_phone, PHONE).await;
        // The tablet is registered, and has no room.
        let mut full = world.udp().await;
        register(&mut tablet, &format!("sip:bob@{}", full.local()), TABLET).await;
        for text in ["one", "two"] {
            let message = alice.request("MESSAGE", BOB).text(text);
            assert_eq!(alice.ask(&message).await.status(), Some(202));
            assert_eq!(taken(&mut phone).await, text);
            // It says so of the first; the second one would meet the same.
            let message = full.expect("a MESSAGE", is_message).await;
            assert_eq!(message.body(), "one");
            full.respond(&message, 480).await;
        }
        let had = |world: &World| {
            let states = world.queue().into_iter().flat_map(|it| it.devices);
            let (had, wanted): (Vec<_>, Vec<_>) = states.partition(|it| it.delivered_at.is_some());
            (had.len(), wanted.len())
        };
        until_equal("copies that are had, and wanted", (2, 2), || had(world)).await;
        // It goes for good, and stays known.
        register_for(&mut tablet, &format!("sip:bob@{}", full.local()), TABLET, "0").await;
        world.restart().await;
        assert_eq!(had(world), (2, 2), "which device has what is durable");
        let at_tablet = format!("sip:bob@{}", tablet.local());
        register(&mut tablet, &at_tablet, TABLET).await;
        register(&mut phone, &at_phone, PHONE).await;
        assert_eq!([taken(&mut tablet).await, taken(&mut tablet).await], ["one", "two"]);
        world.until_settled().await;
        // What comes next is all that the phone gets.
        let message = alice.request("MESSAGE", BOB).text("three");
        assert_eq!(alice.ask(&message).await.status(), Some(202));
        assert_eq!(taken(&mut phone).await, "three");
        assert_eq!(taken(&mut tablet).await, "three");
        world.until_settled().await;
        until("every copy is counted", || world.metric("restante_messages_delivered_total", &[]) >= 4).await;
        let unread = phone.unread_by_now().await;
        assert!(!unread.iter().any(|line| line.starts_with("MESSAGE")), "{unread:?}");
    });
}

/// Bob's devices, registered over TCP.
async fn devices<const COUNT: usize>(world: &World) -> [RawSip; COUNT] {
    let mut devices = Vec::new();
    for number in 1..=COUNT {
        let mut socket = world.tcp().await;
        let contact = format!("sip:bob@{};transport=tcp", socket.local());
        register(&mut socket, &contact, &format!("00000000-0000-4000-8000-00000000000{number}")).await;
        devices.push(socket);
    }
    devices.try_into().unwrap_or_else(|_| panic!("so many devices"))
}

#[test]
fn a_device_that_says_nothing_holds_up_none_of_the_others() {
    setting().settings("devices = \"each\"").tell(async |world| {
        let mut alice = world.udp().await;
        let [mut phone, mut silent, mut laptop] = devices(world).await;
        for text in ["one", "two", "three"] {
            let message = alice.request("MESSAGE", BOB).text(text);
            assert_eq!(alice.ask(&message).await.status(), Some(202));
            // Each answers before the next thing is sent, and the silent one only now and then.
            assert_eq!([taken(&mut phone).await, taken(&mut laptop).await], [text, text]);
        }
        let first = silent.expect("a MESSAGE", is_message).await;
        assert_eq!(first.body(), "one");
        assert_eq!(world.queue().len(), 3, "the silent one has none of them");
        let unread = silent.unread_by_now().await;
        assert!(!unread.iter().any(|line| line.starts_with("MESSAGE")), "one in flight for each: {unread:?}");
        silent.respond(&first, 200).await;
        assert_eq!([taken(&mut silent).await, taken(&mut silent).await], ["two", "three"]);
        world.until_settled().await;
    });
}

#[test]
fn a_moment_in_which_too_much_is_in_flight_here_is_no_absence_of_a_device() {
    setting()
        .settings("devices = \"each\"\nretry_seconds = [3600]")
        .configure(|it| it.limits.max_client_transactions = 1)
        .tell(async |world| {
            let mut alice = world.udp().await;
            let [mut phone, mut tablet] = devices(world).await;
            let message = alice.request("MESSAGE", BOB).text("one");
            assert_eq!(alice.ask(&message).await.status(), Some(202));
            // Of the two only one can be asked at a time.
            let first = phone.expect("a MESSAGE", is_message).await;
            until("the other one has to wait", || world.metric("restante_attempts_failed_total", &[]) > 0).await;
            phone.respond(&first, 200).await;
            assert_eq!(taken(&mut tablet).await, "one", "nobody registered, and nothing arrived");
            world.until_settled().await;
        });
}
