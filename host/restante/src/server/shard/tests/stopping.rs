//! A server that stops, while somebody waits for an answer.

use super::{House, PEER, ToShard};

const BOB: &str = "sip:bob@example.org";

impl House {
    /// Takes what came, and is told to stop before anything comes of it.
    fn stop(&mut self) {
        let now = self.now();
        for (shard, outbox) in self.shards.iter_mut().zip(&mut self.outboxes) {
            let mut items = Vec::new();
            outbox.try_pop_batch(&mut items, 256);
            items.into_iter().chain([ToShard::Drain]).for_each(|item| shard.take(now, item));
        }
        self.run();
    }

    fn is_quiet(&self) -> bool {
        let now = self.now();
        self.shards.iter().all(|shard| shard.is_quiet(now))
    }

    /// A MESSAGE of Alice's that is passed on now or not at all.
    fn bring_urgent(&mut self) -> String {
        let fields =
            "From: <sip:alice@example.org>;tag=1\r\nCSeq: 1 MESSAGE\r\nExpires: 0\r\nContent-Type: text/plain\r\n";
        self.bring("MESSAGE", BOB, None, fields, "now")
    }
}

/// Bob has a device, and what waits for him is read once more.
fn with_bob() -> House {
    let mut house = House::new();
    house.register(BOB, &format!("<sip:bob@{PEER}>"));
    house.shards.iter_mut().for_each(|shard| shard.slots.clear());
    house
}

#[test]
fn what_is_passed_on_is_answered_in_its_time_though_nobody_takes_it() {
    let mut house = with_bob();
    let call_id = house.bring_urgent();
    house.run();
    house.stop();
    assert_eq!((house.statuses(&call_id), house.is_quiet()), (vec![], false));
    house.pass(60_000);
    assert_eq!(house.statuses(&call_id), [480]);
}

#[test]
fn what_would_be_passed_on_is_not_any_more() {
    let mut house = with_bob();
    let call_id = house.bring_urgent();
    house.stop();
    assert_eq!((house.statuses(&call_id), house.delivered(200), house.is_quiet()), (vec![480], vec![], true));
}

#[test]
fn who_fetches_is_told_to_come_again() {
    let mut house = House::new();
    house.message(BOB, "waits");
    // What waits is read once more.
    house.shards.iter_mut().for_each(|shard| shard.slots.clear());
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
               a=path:msrp://127.0.0.1:9/bob;tcp\r\na=accept-types:message/cpim\r\na=setup:active\r\na=recvonly\r\n";
    let fields = format!(
        "From: <{BOB}>;tag=1\r\nCSeq: 1 INVITE\r\nContact: <sip:bob@{PEER}>\r\nContent-Type: application/sdp\r\n"
    );
    let call_id = house.bring("INVITE", "sip:deferred@example.org", None, &fields, sdp);
    house.stop();
    assert_eq!((house.statuses(&call_id), house.is_quiet()), (vec![503], true));
    assert!(house.answer(&call_id).header(restante_sip::message::Name::RetryAfter).is_some());
    assert_eq!(house.owners(), [BOB]);
}
