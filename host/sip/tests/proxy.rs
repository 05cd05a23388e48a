//! The response context (RFC 3261 §16.7 to §16.10) and what a proxy sends on (§16.4, §16.6).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use restante_sip::message::{MessageLimits, Name, SipMessage, validate_request};
use restante_sip::proxy::{
    Action, BranchId, ContextSettings, Forwarding, ResponseContext, Returning, TakeOver, without_own_routes,
};
use restante_sip::uri::Uri;

fn message(text: &str) -> SipMessage {
    SipMessage::from_datagram(Bytes::copy_from_slice(text.as_bytes()), &MessageLimits::default()).unwrap()
}

fn answer(status: u16) -> SipMessage {
    message(&format!(
        "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK0\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\r\n"
    ))
}

const SECOND: Duration = Duration::from_secs(1);

fn settings(is_invite: bool) -> ContextSettings {
    ContextSettings { is_invite, timer_c: 185 * SECOND, take_over: None }
}

fn with_take_over() -> ContextSettings {
    ContextSettings { take_over: Some(TakeOver { after: 15 * SECOND, patience: SECOND }), ..settings(true) }
}

/// Actions in a few words.
fn said(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Begin(BranchId(id)) => format!("begin {id}"),
        Action::Cancel(BranchId(id)) => format!("cancel {id}"),
        Action::Pass(BranchId(id)) => format!("pass {id}"),
        Action::Finish(best) => format!("finish {}", best.status),
        Action::TakeOver => "take over".to_owned(),
        Action::LetGo(BranchId(id)) => format!("let go {id}"),
    };
    actions.iter().map(word).collect()
}

/// What happens: a status on a branch, 0 for a time-out, 1 for one that was not sent; `C` for the caller's CANCEL, `W`
/// for a wake at so many seconds.
enum Step {
    Answer(usize, u16),
    Cancel,
    Wake(u64),
}
use Step::{Answer, Cancel, Wake};

/// Plays a story and compares what was done.
fn tell(name: &str, targets: &[u16], settings: ContextSettings, steps: &[(Step, &[&str])], begun: &[&str]) {
    let targets: Vec<_> = targets.iter().map(|q| (*q, None)).collect();
    tell_of_flows(name, &targets, settings, steps, begun);
}

/// The same where targets follow others.
fn tell_of_flows(
    name: &str,
    targets: &[(u16, Option<BranchId>)],
    settings: ContextSettings,
    steps: &[(Step, &[&str])],
    begun: &[&str],
) {
    let start = Instant::now();
    let mut now = start;
    let (mut context, actions) = ResponseContext::new(now, targets, settings);
    assert_eq!(said(&actions), begun, "{name}");
    for (number, (step, expected)) in steps.iter().enumerate() {
        let actions = match step {
            Answer(branch, 0) => context.timed_out(now, BranchId(*branch)),
            Answer(branch, 1) => context.not_sent(now, BranchId(*branch)),
            Answer(branch, status) => context.answered(now, BranchId(*branch), &answer(*status)),
            Cancel => context.cancelled(now),
            Wake(at) => {
                now = start + *at as u32 * SECOND;
                context.handle_wake(now)
            }
        };
        assert_eq!(said(&actions), *expected, "{name}, step {number}");
    }
}

#[test]
fn branches_ring_together_and_one_answers() {
    tell(
        "one answers",
        &[1000, 1000, 500],
        settings(true),
        &[
            (Answer(0, 100), &[]),
            (Answer(0, 180), &["pass 0"]),
            (Answer(1, 183), &["pass 1"]),
            (Answer(1, 200), &["pass 1", "cancel 0"]),
            (Answer(1, 200), &["pass 1"]),
            (Answer(0, 180), &[]),
            (Answer(0, 487), &[]),
            (Cancel, &[]),
        ],
        &["begin 0", "begin 1"],
    );
    tell(
        "two answer at once",
        &[1000, 1000],
        settings(true),
        &[(Answer(1, 200), &["pass 1", "cancel 0"]), (Answer(0, 200), &["pass 0"])],
        &["begin 0", "begin 1"],
    );
}

#[test]
fn the_next_q_has_its_turn_when_nobody_of_the_one_before_took_it() {
    tell(
        "the order",
        &[200, 1000, 1000],
        settings(true),
        &[
            (Answer(1, 486), &[]),
            (Answer(2, 0), &["begin 0"]),
            (Answer(1, 180), &[]),
            (Answer(0, 480), &["finish 486"]),
            (Answer(0, 480), &[]),
        ],
        &["begin 1", "begin 2"],
    );
    tell("not sent", &[1000], settings(true), &[(Answer(0, 1), &["finish 500"])], &["begin 0"]);
    tell("nobody to ask", &[], settings(true), &[], &["finish 408"]);
}

#[test]
fn a_6xx_ends_the_others_first() {
    tell(
        "6xx",
        &[1000, 1000, 1],
        settings(true),
        &[(Answer(0, 603), &["cancel 1"]), (Answer(1, 487), &["finish 603"])],
        &["begin 0", "begin 1"],
    );
    tell(
        "6xx, and yet a 2xx",
        &[1000, 1000],
        settings(true),
        &[(Answer(0, 603), &["cancel 1"]), (Answer(1, 200), &["pass 1"])],
        &["begin 0", "begin 1"],
    );
    tell(
        "6xx to a MESSAGE: nothing can be cancelled",
        &[1000, 1000, 1],
        settings(false),
        &[(Answer(0, 603), &[]), (Answer(1, 0), &["finish 603"])],
        &["begin 0", "begin 1"],
    );
}

#[test]
fn the_first_2xx_to_a_message_is_the_only_one() {
    tell(
        "MESSAGE",
        &[1000, 1000],
        settings(false),
        &[(Answer(1, 100), &[]), (Answer(1, 202), &["pass 1"]), (Answer(0, 200), &[]), (Answer(0, 404), &[])],
        &["begin 0", "begin 1"],
    );
}

#[test]
fn the_callers_cancel_goes_to_every_branch_and_487_comes_back() {
    tell(
        "CANCEL",
        &[1000, 1000, 1],
        settings(true),
        &[
            (Answer(0, 180), &["pass 0"]),
            (Cancel, &["cancel 0", "cancel 1"]),
            (Cancel, &[]),
            (Answer(1, 180), &[]),
            (Answer(0, 487), &[]),
            (Answer(1, 0), &["finish 487"]),
        ],
        &["begin 0", "begin 1"],
    );
    tell(
        "CANCEL and 2xx cross",
        &[1000],
        settings(true),
        &[(Cancel, &["cancel 0"]), (Answer(0, 200), &["pass 0"])],
        &["begin 0"],
    );
    tell("of a MESSAGE", &[1000], settings(false), &[(Cancel, &[])], &["begin 0"]);
}

#[test]
fn timer_c_ends_what_rings_too_long() {
    tell(
        "Timer C",
        &[1000, 1000],
        settings(true),
        &[
            (Wake(100), &[]),
            (Answer(0, 100), &[]),
            (Answer(1, 180), &["pass 1"]),
            // 100 does not start it anew, 180 does.
            (Wake(185), &["cancel 0"]),
            (Wake(285), &["cancel 1"]),
            (Answer(0, 0), &[]),
            (Answer(1, 487), &["finish 487"]),
        ],
        &["begin 0", "begin 1"],
    );
    tell("without a word", &[1000], settings(true), &[(Wake(185), &["cancel 0", "finish 408"])], &["begin 0"]);
}

#[test]
fn what_nobody_took_is_taken_over_and_never_after_a_2xx_or_the_callers_cancel() {
    let all = &["begin 0", "begin 1"][..];
    tell(
        "all refuse",
        &[1000, 1000],
        with_take_over(),
        &[(Answer(0, 486), &[]), (Answer(1, 603), &["take over"]), (Wake(20), &[]), (Cancel, &[])],
        all,
    );
    tell(
        "one is silent",
        &[1000, 1000],
        with_take_over(),
        &[
            (Answer(0, 180), &["pass 0"]),
            (Wake(14), &[]),
            (Wake(15), &["cancel 0", "cancel 1"]),
            (Answer(0, 487), &[]),
            (Wake(16), &["take over"]),
            (Answer(1, 180), &[]),
            (Answer(1, 200), &["let go 1"]),
        ],
        all,
    );
    tell(
        "all say that they are cancelled",
        &[1000],
        with_take_over(),
        &[(Wake(15), &["cancel 0"]), (Answer(0, 487), &["take over"])],
        &["begin 0"],
    );
    tell(
        "a 2xx at the last moment",
        &[1000],
        with_take_over(),
        &[(Wake(15), &["cancel 0"]), (Answer(0, 200), &["pass 0"]), (Wake(16), &[])],
        &["begin 0"],
    );
    tell(
        "the caller gives up at the last moment",
        &[1000],
        with_take_over(),
        &[(Wake(15), &["cancel 0"]), (Cancel, &[]), (Wake(16), &[]), (Answer(0, 487), &["finish 487"])],
        &["begin 0"],
    );
}

#[test]
fn a_further_flow_takes_the_place_of_one_that_failed_whoever_else_rings() {
    let flows = [(1000, None), (1000, Some(BranchId(0))), (1000, None), (200, None)];
    tell_of_flows(
        "beside another device",
        &flows,
        settings(true),
        &[
            (Answer(2, 180), &["pass 2"]),
            (Answer(0, 430), &["begin 1"]),
            (Answer(2, 486), &[]),
            (Answer(1, 480), &["begin 3"]),
            (Answer(3, 408), &["finish 486"]),
        ],
        &["begin 0", "begin 2"],
    );
    tell_of_flows(
        "one after the other, whatever their q",
        &[(500, None), (1000, Some(BranchId(0))), (100, Some(BranchId(1))), (400, None)],
        settings(true),
        &[(Answer(0, 0), &["begin 1"]), (Answer(1, 1), &["begin 2"]), (Answer(2, 503), &["begin 3"])],
        &["begin 0"],
    );
    for (name, step, expected) in [
        ("after a refusal for everybody", Answer(0, 603), &["cancel 2"][..]),
        ("after the caller's CANCEL", Cancel, &["cancel 0", "cancel 2"]),
        ("after an answer", Answer(2, 200), &["pass 2", "cancel 0"]),
    ] {
        let steps: [(Step, &[&str]); 2] = [(step, expected), (Answer(0, 487), &[])];
        tell_of_flows(name, &flows, settings(true), &steps, &["begin 0", "begin 2"]);
    }
}

/// What may happen to a branch, in any order.
fn happening() -> impl Strategy<Value = (usize, u16)> {
    let statuses = prop_oneof![
        Just(0),
        Just(1),
        prop::sample::select(vec![
            100u16, 180, 183, 200, 202, 302, 401, 404, 407, 408, 480, 486, 487, 500, 503, 600, 603
        ])
    ];
    // Branches 5 and 6 are the caller's CANCEL and the passing of time.
    (0..7usize, statuses)
}

proptest! {
    #[test]
    fn whatever_the_order(
        targets in prop::collection::vec((prop::sample::select(vec![0u16, 500, 1000]), any::<bool>()), 0..5),
        is_invite: bool,
        takes_over: bool,
        happenings in prop::collection::vec(happening(), 0..40),
    ) {
        let mut now = Instant::now();
        let follows = |(index, (q, follows)): (usize, &(u16, bool))| {
            (*q, index.checked_sub(1).filter(|_| *follows).map(BranchId))
        };
        let targets: Vec<_> = targets.iter().enumerate().map(follows).collect();
        let mut settings = settings(is_invite);
        if takes_over && is_invite {
            settings = with_take_over();
        }
        let (mut context, actions) = ResponseContext::new(now, &targets, settings);
        let mut log = Log { is_invite, ..Log::default() };
        log.note(&actions, &targets)?;
        for (branch, status) in happenings {
            let actions = match (branch, status) {
                (5, _) => { log.caller_cancelled |= is_invite && log.ended == 0; context.cancelled(now) }
                (6, _) => {
                    now += 8 * SECOND;
                    context.handle_wake(now)
                }
                (branch, _) if branch >= targets.len() || !log.begun.contains_key(&branch) => continue,
                // A transaction ends once.
                (branch, status) if log.begun[&branch] && !(is_invite && (200..300).contains(&status)) => {
                    let _ = status;
                    continue;
                }
                (branch, 0) => { log.begun.insert(branch, true); context.timed_out(now, BranchId(branch)) }
                (branch, 1) => { log.begun.insert(branch, true); context.not_sent(now, BranchId(branch)) }
                (branch, status) => {
                    if status >= 200 { log.begun.insert(branch, true); }
                    log.came = status;
                    context.answered(now, BranchId(branch), &answer(status))
                }
            };
            log.note(&actions, &targets)?;
        }
        // Every branch ends some time: then the request has its end, and only one.
        for _ in 0..=targets.len() {
            for branch in 0..targets.len() {
                if log.begun.get(&branch) == Some(&false) {
                    log.begun.insert(branch, true);
                    let actions = context.timed_out(now, BranchId(branch));
                    log.note(&actions, &targets)?;
                }
            }
        }
        prop_assert!(context.is_over());
        prop_assert!(log.ended == 1 || log.passed_2xx > 0);
    }
}

/// What was done so far.
#[derive(Default)]
struct Log {
    is_invite: bool,
    /// Branches, and whether their transaction is over.
    begun: BTreeMap<usize, bool>,
    cancelled: Vec<usize>,
    passed_2xx: usize,
    /// Final answers other than 2xx, and take-overs.
    ended: usize,
    caller_cancelled: bool,
    came: u16,
}

impl Log {
    fn note(&mut self, actions: &[Action], targets: &[(u16, Option<BranchId>)]) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::Begin(BranchId(id)) => {
                    prop_assert!(self.begun.insert(*id, false).is_none(), "begun twice");
                    prop_assert!(self.ended == 0 && self.passed_2xx == 0 && !self.caller_cancelled);
                    let is_over = |other| self.begun.get(&other) == Some(&true) || self.cancelled.contains(&other);
                    let (q, follows) = targets[*id];
                    if let Some(BranchId(first)) = follows {
                        prop_assert!(is_over(first), "it takes the place of {}", first);
                        continue;
                    }
                    // Nobody of a higher q is left out, or is still being asked.
                    for (other, (of, follows)) in targets.iter().enumerate() {
                        prop_assert!(*of <= q || follows.is_some() || is_over(other), "q {}", of);
                    }
                }
                Action::Cancel(BranchId(id)) => {
                    prop_assert!(self.is_invite && self.begun.contains_key(id) && !self.cancelled.contains(id));
                    self.cancelled.push(*id);
                }
                Action::Pass(_) if self.came < 200 => {
                    prop_assert!(self.is_invite && self.came > 100 && self.ended == 0 && self.passed_2xx == 0);
                }
                Action::Pass(BranchId(id)) => {
                    prop_assert!(self.ended == 0 && (self.is_invite || self.passed_2xx == 0));
                    self.passed_2xx += 1;
                    prop_assert!(self.begun.contains_key(id));
                }
                Action::Finish(best) => {
                    prop_assert!(self.ended == 0 && self.passed_2xx == 0 && best.status >= 300 && best.status != 503);
                    prop_assert!(!self.caller_cancelled || best.status == 487);
                    self.ended += 1;
                }
                Action::TakeOver => {
                    prop_assert!(self.ended == 0 && self.passed_2xx == 0 && !self.caller_cancelled);
                    for (id, is_over) in &self.begun {
                        prop_assert!(*is_over || self.cancelled.contains(id));
                    }
                    self.ended += 1;
                }
                Action::LetGo(_) => prop_assert!(self.is_invite && self.ended == 1),
            }
        }
        // After the first 2xx, and after the end, nobody goes on ringing.
        if self.is_invite && (self.passed_2xx > 0 || self.ended > 0) {
            for (id, is_over) in &self.begun {
                prop_assert!(*is_over || self.cancelled.contains(id), "branch {} rings on", id);
            }
        }
        Ok(())
    }
}

const INVITE: &str = "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1;rport, SIP/2.0/UDP b;branch=z9hG4bK0\r\nX-Odd :  kept \r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";

fn ours(uri: &Uri) -> bool {
    uri.as_sip().is_some_and(|uri| uri.host == "us.example")
}

fn marked(uri: &Uri) -> bool {
    uri.as_sip().is_some_and(|uri| uri.host == "us.example" && uri.user.as_deref() == Some("token"))
}

#[test]
fn routes_of_ours_go_and_those_of_others_stay() {
    for (line, routes, uri, left, own) in [
        ("sip:bob@x", "", "sip:bob@x", vec![], None),
        ("sip:bob@x", "Route: <sip:us.example;lr>\r\n", "sip:bob@x", vec![], Some("sip:us.example;lr")),
        (
            "sip:bob@x",
            "Route: <sip:us.example;lr>, <sip:mark@scscf;lr;s=1>\r\n",
            "sip:bob@x",
            vec!["<sip:mark@scscf;lr;s=1>"],
            Some("sip:us.example;lr"),
        ),
        (
            "sip:bob@x",
            "Route: <sip:token@us.example;lr>\r\nRoute: <sip:us.example;transport=tcp;lr>\r\nRoute: <sip:p;lr>\r\n",
            "sip:bob@x",
            vec!["<sip:p;lr>"],
            Some("sip:token@us.example;lr"),
        ),
        ("sip:bob@x", "Route: <sip:p;lr>\r\n", "sip:bob@x", vec!["<sip:p;lr>"], None),
        // A strict router put our Record-Route into the Request-URI (RFC 3261 §16.4).
        (
            "sip:token@us.example",
            "Route: <sip:p;lr>, <sip:bob@10.0.0.2>\r\n",
            "sip:bob@10.0.0.2",
            vec!["<sip:p;lr>"],
            Some("sip:token@us.example"),
        ),
        // Somebody is called by our own address: that is no Record-Route.
        ("sip:us.example", "Route: <sip:p;lr>\r\n", "sip:us.example", vec!["<sip:p;lr>"], None),
    ] {
        let request = message(&format!("{}{routes}\r\n", INVITE.replacen("sip:bob@example.org", line, 1)));
        let found = without_own_routes(&request, ours, marked);
        assert_eq!((found.request_uri.as_str(), &found.routes), (uri, &left.iter().map(|it| it.to_string()).collect()));
        assert_eq!(found.own.map(|uri| uri.to_string()).as_deref(), own, "{line} {routes}");
    }
}

#[test]
fn what_goes_on_is_what_came_with_what_a_proxy_changes() {
    let request =
        message(&format!("{INVITE}Route: <sip:us.example;lr>\r\nP-Asserted-Identity: <sip:a@b>\r\n\r\nbody\0é"));
    let routes = ["<sip:p;lr>".to_owned()];
    let record_routes = ["sip:token@us.example;lr".to_owned(), "sip:token@us.example;transport=tcp;lr".to_owned()];
    let forwarding = Forwarding {
        via: "SIP/2.0/UDP us;branch=z9hG4bK2",
        stamped: Some("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1;rport=4000;received=192.0.2.7"),
        request_uri: "sip:bob@10.0.0.2;ob",
        routes: &routes,
        record_routes: &record_routes,
        hidden: &[Name::PAssertedIdentity],
        max_breadth: Some(30),
    };
    let bytes = forwarding.write(&request).unwrap();
    let expected = INVITE
        .replacen("sip:bob@example.org", "sip:bob@10.0.0.2;ob", 1)
        .replace("Via: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1;rport,", "Via: SIP/2.0/UDP us;branch=z9hG4bK2\r\nRecord-Route: <sip:token@us.example;transport=tcp;lr>\r\nRecord-Route: <sip:token@us.example;lr>\r\nVia: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1;rport=4000;received=192.0.2.7,");
    let expected = format!(
        "{expected}Route: <sip:p;lr>\r\nMax-Forwards: 70\r\nContent-Length: 7\r\nMax-Breadth: 30\r\n\r\nbody\0é"
    );
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    validate_request(&message(&expected)).unwrap();
    let none = message(&format!("{INVITE}Max-Forwards: 0\r\n\r\n"));
    assert!(forwarding.write(&none).is_err());
}

#[test]
fn a_strict_router_finds_itself_in_the_request_uri() {
    let request = message(&format!("{INVITE}\r\n"));
    let routes = ["<sip:strict.example;x=1>".to_owned(), "<sip:p;lr>".to_owned()];
    let forwarding =
        Forwarding { via: "SIP/2.0/UDP us", request_uri: "sip:bob@10.0.0.2", routes: &routes, ..Forwarding::default() };
    let sent = message(std::str::from_utf8(&forwarding.write(&request).unwrap()).unwrap());
    assert_eq!(sent.request_uri(), Some("sip:strict.example;x=1"));
    assert_eq!(sent.list(Name::Route).collect::<Vec<_>>(), ["<sip:p;lr>", "<sip:bob@10.0.0.2>"]);
}

#[test]
fn what_goes_back_is_what_came_without_our_via() {
    let response = answer(180);
    let back = Returning::default().write(&response).unwrap();
    let expected = String::from_utf8_lossy(response.bytes())
        .replace("Via: SIP/2.0/UDP us;branch=z9hG4bK1\r\n", "")
        .replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(String::from_utf8_lossy(&back), expected);
}

#[test]
fn what_a_response_lost_on_its_way_is_given_back_to_it() {
    let vias =
        ["SIP/2.0/UDP p;branch=z9hG4bK9;received=192.0.2.1".to_owned(), "SIP/2.0/UDP a;branch=z9hG4bK0".to_owned()];
    let record_routes = ["<sip:us;lr>".to_owned(), "<sip:p;lr>".to_owned()];
    let hidden = [Name::PAssertedIdentity];
    let returning = Returning { vias: &vias, record_routes: &record_routes, hidden: &hidden, best: None };
    let written = |status: u16, more: &str| {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nP-Asserted-Identity: <sip:x@x>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n{more}\r\n"
        );
        message(std::str::from_utf8(&returning.write(&message(&text)).unwrap()).unwrap())
    };
    for (status, more, expected) in [
        (180, "", &["<sip:us;lr>", "<sip:p;lr>"][..]),
        (200, "", &["<sip:us;lr>", "<sip:p;lr>"]),
        (200, "Record-Route: <sip:us;lr>\r\n", &["<sip:us;lr>"]),
        (486, "", &[]),
    ] {
        let back = written(status, more);
        assert_eq!(back.list(Name::Via).collect::<Vec<_>>(), vias, "{status}");
        assert_eq!(back.list(Name::RecordRoute).collect::<Vec<_>>(), expected, "{status} {more}");
        assert_eq!(back.count(Name::PAssertedIdentity), 0);
    }
    // One that kept the others keeps them as they are.
    let back = returning.write(&answer(180)).unwrap();
    let back = message(std::str::from_utf8(&back).unwrap());
    assert_eq!(back.list(Name::Via).collect::<Vec<_>>(), ["SIP/2.0/UDP a;branch=z9hG4bK0"]);
}

#[test]
fn what_all_refused_is_settled_and_what_may_still_be_taken_is_not() {
    let start = Instant::now();
    let begin = || ResponseContext::new(start, &[(1000, None), (1000, None)], settings(true)).0;
    let mut refused = begin();
    refused.answered(start, BranchId(0), &answer(486));
    assert!(!refused.is_settled(), "one rings");
    refused.answered(start, BranchId(1), &answer(603));
    assert!(refused.is_over() && refused.is_settled());
    let mut taken = begin();
    taken.answered(start, BranchId(0), &answer(486));
    taken.answered(start, BranchId(1), &answer(200));
    assert!(taken.is_over() && !taken.is_settled(), "it is repeated until the ACK");
    // Timer C: its transaction goes on.
    let mut silent = begin();
    silent.answered(start, BranchId(0), &answer(486));
    silent.handle_wake(start + 200 * SECOND);
    assert!(silent.is_over() && !silent.is_settled());
}
