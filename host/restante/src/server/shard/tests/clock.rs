//! A wall clock that is set while the server runs.

use super::*;

const BOB: &str = "sip:bob@example.org";
const PHONE: &str = "<sip:bob@127.0.0.1:6000>;expires=6000";

#[test]
fn a_retry_comes_at_its_time_though_the_clock_was_set_back() {
    let mut house = House::new();
    house.register(BOB, PHONE);
    house.pass(500);
    house.message(BOB, "text");
    house.pass(500);
    assert_eq!(house.delivered(503), ["text"]);
    house.clock.fetch_sub(6 * 3_600_000, Ordering::Relaxed);
    house.run();
    house.pass(60_000);
    assert_eq!(house.delivered(200), ["text"]);
    assert!(house.stored().is_empty());
}
