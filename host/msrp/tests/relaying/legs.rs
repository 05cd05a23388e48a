//! How many connections a client has, and which of them make room for others.

use super::*;

fn peer(number: usize) -> String {
    PEER.replace("/peer", &format!("/peer{number}"))
}

fn half() -> usize {
    RelayLimits::default().max_legs / 2
}

impl Story {
    /// A peer connects, and begins a request that it does not go on with.
    fn stays_silent(&mut self, number: usize) -> Option<LegId> {
        let leg = self.relay.accept_leg(self.now)?;
        let whole = send("s1", &format!("{SESSION} {CLIENT}"), &peer(number), "", "the beginning", '$');
        self.says(leg, whole.split_once("ginning").unwrap().0);
        Some(leg)
    }

    /// A peer connects and sends a whole request, which goes on.
    fn speaks(&mut self, number: usize) -> Option<LegId> {
        let leg = self.relay.accept_leg(self.now)?;
        let earlier = self.closed();
        self.says(leg, &send("p1", &format!("{SESSION} {CLIENT}"), &peer(number), "", "hi", '$'));
        let written = self.written();
        let [Written::Request(LegId::CLIENT, ..), Written::Response(to, said)] = &written[..] else {
            panic!("{written:?}, after {earlier:?}")
        };
        assert_eq!((*to, said.status), (leg, Status::OK));
        Some(leg)
    }

    /// The client sends to another host. Whether that is connected to, if not it is refused; and what is closed for it.
    fn reaches(&mut self, host: usize) -> (bool, Vec<LegId>) {
        let to = format!("{SESSION} msrp://host{host}.example.net:2855/x;tcp");
        self.says(LegId::CLIENT, &send("a1", &to, CLIENT, "", "x", '$'));
        let written = self.written();
        let refused = |it: &Written| matches!(it, Written::Response(_, said) if said.status == Status::FORBIDDEN);
        let is_refused = written.iter().any(refused);
        assert_eq!(written.iter().any(|it| matches!(it, Written::Connect(..))), !is_refused);
        (!is_refused, closed(&written))
    }

    fn closed(&mut self) -> Vec<LegId> {
        let written = self.written();
        assert_eq!(closed(&written).len(), written.len(), "{written:?}");
        closed(&written)
    }
}

fn closed(written: &[Written]) -> Vec<LegId> {
    let is_it = |it: &Written| if let Written::Close(leg) = it { Some(*leg) } else { None };
    written.iter().filter_map(is_it).collect()
}

#[test]
fn a_client_has_a_bounded_number_of_peers() {
    let mut story = granted();
    let most = RelayLimits::default().max_legs;
    for host in 0..=most {
        assert_eq!(story.reaches(host), (host < most, Vec::new()), "{host}");
    }
    assert_eq!(story.speaks(0), None, "the client has as many as there may be");
}

#[test]
fn strangers_who_stay_silent_leave_room_for_each_other_and_for_what_the_client_sends() {
    let mut story = granted();
    let silent: Vec<LegId> = (0..half()).map(|number| story.stays_silent(number).unwrap()).collect();
    assert!(story.written().is_empty());
    let last = story.stays_silent(half()).unwrap();
    assert_eq!(story.closed(), [silent[0]], "the oldest");
    let speaks = story.speaks(half() + 1).unwrap();
    for host in 0..half() {
        assert_eq!(story.reaches(host), (true, Vec::new()), "{host}");
    }
    // All are taken now: what the client sends comes before whoever says nothing.
    for (host, oldest) in silent.iter().skip(2).chain([&last]).enumerate() {
        assert_eq!(story.reaches(half() + host), (true, vec![*oldest]), "{host}");
    }
    assert_eq!(story.reaches(1_000), (false, Vec::new()));
    story.says(speaks, &send("p2", &format!("{SESSION} {CLIENT}"), PEER, "", "still here", '$'));
    assert!(matches!(&story.written()[..], [Written::Request(LegId::CLIENT, ..), Written::Response(..)]));
}

#[test]
fn peers_that_are_idle_give_their_places_to_others_and_the_busy_ones_stay() {
    let mut story = granted();
    let legs: Vec<LegId> = (0..half()).map(|number| story.speaks(number).unwrap()).collect();
    // What the client did not answer is reported; then nothing more is under way.
    story.pass(500);
    story.written();
    story.pass(20);
    // These say something, or are about to.
    story.says(legs[0], &send("p2", &format!("{SESSION} {CLIENT}"), &peer(0), "Failure-Report: no\r\n", "x", '$'));
    let whole = send("p3", &format!("{SESSION} {CLIENT}"), &peer(1), "", "the beginning", '$');
    story.says(legs[1], whole.split_once("ginning").unwrap().0);
    story.written();
    story.pass(9);
    assert_eq!((story.speaks(half()), story.closed()), (None, Vec::new()), "nobody is idle for long");
    story.pass(1);
    let newcomer = story.relay.accept_leg(story.now).unwrap();
    assert_eq!(story.closed(), [legs[2]], "the first that was idle for longest");
    story.relay.leg_lost(newcomer, Status::TIMED_OUT);
    story.pass(31);
    let others = (0..half()).filter(|number| story.speaks(100 + number).is_some()).count();
    assert_eq!(others, half() - 1, "all but the one where something is under way");
    story.says(legs[1], whole.split_once("the be").unwrap().1);
    assert!(matches!(&story.written()[..], [Written::Request(LegId::CLIENT, ..), Written::Response(..)]));
}

#[test]
fn peers_of_whom_something_came_stay_and_have_half_of_the_room() {
    let mut story = granted();
    let legs: Vec<LegId> = (0..half()).map(|number| story.speaks(number).unwrap()).collect();
    story.pass(29);
    story.written();
    assert_eq!((story.speaks(half()), story.closed()), (None, Vec::new()));
    for host in 0..half() {
        assert_eq!(story.reaches(host), (true, Vec::new()), "{host}");
    }
    story.relay.leg_lost(legs[3], Status::TIMED_OUT);
    story.written();
    assert!(story.speaks(half()).is_some(), "somebody left");
}

#[test]
fn a_peer_of_whom_nothing_came_in_time_is_closed_and_a_slow_one_is_not() {
    let mut story = granted();
    story.is_stuck = true;
    let silent = story.stays_silent(0).unwrap();
    // Whoever sends to it meanwhile learns that it is gone.
    story.says(LegId::CLIENT, &send("a1", &format!("{SESSION} {}", peer(0)), CLIENT, "", "hello", '$'));
    let slow = story.relay.accept_leg(story.now).unwrap();
    let range = "Byte-Range: 1-30000/30000\r\n";
    let text = send("p1", &format!("{SESSION} {CLIENT}"), &peer(1), range, &"x".repeat(30_000), '$');
    let (begun, rest) = text.split_at(15_000);
    story.says(slow, begun);
    story.written();
    assert_eq!(story.relay.next_wake(), Some(story.now + RelayLimits::default().first_request_within));
    story.pass(29);
    assert!(story.written().is_empty());
    story.pass(1);
    let written = story.written();
    let reported = |it: &Written| match it {
        Written::Request(LegId::CLIENT, head, ..) => head.status.as_ref().map(|it| it.status),
        _ => None,
    };
    assert_eq!(written.iter().filter_map(reported).collect::<Vec<_>>(), [Status::TIMED_OUT], "{written:?}");
    assert_eq!(closed(&written), [silent]);
    story.says(slow, rest);
    let written = story.written();
    let Some(Written::Response(to, said)) = written.last() else { panic!("{written:?}") };
    assert_eq!((*to, said.status), (slow, Status::OK));
}
