//! SUBSCRIBE to message-summary.

use restante_sip::message::Method;
use restante_tests::{RawSip, Request, in_time, setting, story, until};
use tokio::net::{TcpListener, TcpStream};

const ALICE: &str = "sip:alice@example.org";

fn subscribe(socket: &RawSip, expires: u32) -> Request {
    socket
        .request("SUBSCRIBE", ALICE)
        .with("Contact", &format!("<sip:alice@{}>", socket.local()))
        .with("Event", "message-summary")
        .with("Expires", &expires.to_string())
}

#[test]
fn a_subscription_has_its_state_told_lives_and_ends() {
    story(async |world| {
        let mut alice = world.udp().await;
        let subscription = subscribe(&alice, 300);
        let answer = alice.ask(&subscription).await;
        assert_eq!((answer.status(), answer.header_by_text("Expires")), (Some(200), Some("300")));
        let told = alice.expect("NOTIFY", |it| it.method() == Some(Method::Notify)).await;
        alice.respond(&told, 200).await;
        assert!(told.header_by_text("Subscription-State").is_some_and(|it| it.starts_with("active")));
        assert_eq!(told.header_by_text("Event"), Some("message-summary"));
        assert!(String::from_utf8_lossy(&told.body()).starts_with("Messages-Waiting: no"), "{:?}", told.body());
        let to = answer.header_by_text("To").expect("a To").to_owned();
        let over = subscription.clone().new_transaction().set("To", &to).set("CSeq", "2 SUBSCRIBE").set("Expires", "0");
        assert_eq!(alice.ask(&over).await.status(), Some(200));
        let last = alice.expect("the last NOTIFY", |it| it.method() == Some(Method::Notify)).await;
        alice.respond(&last, 200).await;
        assert!(last.header_by_text("Subscription-State").is_some_and(|it| it.starts_with("terminated")));
        let after = over.new_transaction().set("CSeq", "3 SUBSCRIBE").set("Expires", "300");
        assert_eq!(alice.ask(&after).await.status(), Some(481), "it is over");
    });
}

#[test]
fn the_first_state_says_what_waits() {
    story(async |world| {
        let (mut alice, mut bob) = (world.udp().await, world.udp().await);
        for number in 1..=2 {
            let message = bob.request("MESSAGE", ALICE).set("From", "<sip:bob@example.org>;tag=b");
            assert_eq!(bob.ask(&message.text(&format!("text {number}"))).await.status(), Some(202));
        }
        assert_eq!(alice.ask(&subscribe(&alice, 300)).await.status(), Some(200));
        let told = alice.expect("NOTIFY", |it| it.method() == Some(Method::Notify)).await;
        alice.respond(&told, 200).await;
        let body = told.body();
        let lines: Vec<&str> = std::str::from_utf8(&body).expect("text").lines().collect();
        assert_eq!(lines[0], "Messages-Waiting: yes");
        assert!(lines.contains(&"Text-Message: 2/0 (0/0)"), "{lines:?}");
    });
}

#[test]
fn who_subscribed_through_a_proxy_is_told_when_the_proxys_connection_is_gone() {
    story(async |world| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a socket");
        let place = listener.local_addr().expect("a bound socket");
        let stream = TcpStream::connect(world.sip()).await.expect("a connection");
        stream.set_zero_linger().expect("a socket option");
        let here = stream.local_addr().expect("a connected socket");
        let mut proxy = RawSip::over(Box::new(stream), "TCP", here, world.sip());
        let subscription = subscribe(&proxy, 300).with("Record-Route", &format!("<sip:{place};transport=tcp;lr>"));
        assert_eq!(proxy.ask(&subscription).await.status(), Some(200));
        let first = proxy.expect("NOTIFY", |it| it.method() == Some(Method::Notify)).await;
        proxy.respond(&first, 200).await;
        drop(proxy);
        until("the connection is over", || world.server().open_connections() == 0).await;
        // What waited for Alice does so no more.
        let mut bob = world.udp().await;
        for number in 1.. {
            let message = bob.request("MESSAGE", ALICE).set("From", "<sip:bob@example.org>;tag=b").with("Expires", "1");
            let status = bob.ask(&message.text("hello")).await.status();
            if status == Some(202) {
                break;
            }
            // Its time was over before it was decided on: a machine stood still.
            assert!(status == Some(480) && number < 5, "{status:?}");
        }
        let (stream, _) = in_time("a connection of the server's", listener.accept()).await.expect("a connection");
        let mut again = RawSip::over(Box::new(stream), "TCP", place, world.sip());
        let told = again.expect("NOTIFY", |it| it.method() == Some(Method::Notify)).await;
        assert!(String::from_utf8_lossy(&told.body()).starts_with("Messages-Waiting: no"), "{:?}", told.body());
        again.respond(&told, 200).await;
    });
}

#[test]
fn other_events_and_the_summaries_of_others_are_refused() {
    story(async |world| {
        let mut alice = world.udp().await;
        let other = subscribe(&alice, 300).set("Event", "presence");
        let answer = alice.ask(&other).await;
        assert_eq!((answer.status(), answer.header_by_text("Allow-Events")), (Some(489), Some("message-summary")));
        let none = subscribe(&alice, 300).without("Event");
        assert_eq!(alice.ask(&none).await.status(), Some(489));
        let of_bob = subscribe(&alice, 300).set("From", "<sip:bob@example.org>;tag=1");
        assert_eq!(alice.ask(&of_bob).await.status(), Some(403));
        let brief = subscribe(&alice, 300).with("Accept", "text/html");
        assert_eq!(alice.ask(&brief).await.status(), Some(406));
    });
}

#[test]
fn a_subscription_is_cut_to_what_the_operator_allows_and_ends_by_itself() {
    setting().configure(|it| it.limits.max_subscription_seconds = 1).tell(async |world| {
        let mut alice = world.udp().await;
        let subscription = subscribe(&alice, 300);
        let answer = alice.ask(&subscription).await;
        assert_eq!((answer.status(), answer.header_by_text("Expires")), (Some(200), Some("1")));
        let mut states = Vec::new();
        while states.len() < 2 {
            let told = alice.expect("NOTIFY", |it| it.method() == Some(Method::Notify)).await;
            alice.respond(&told, 200).await;
            let state = told.header_by_text("Subscription-State").unwrap_or("").to_owned();
            states.push(state.split(';').next().unwrap_or("").to_owned());
        }
        assert_eq!(states, ["active", "terminated"]);
    });
}
