use std::collections::VecDeque;
use std::future::ready;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::address::Protocol;
use crate::resolution::dns::{Answer, DnsFailure, Found, Pointer, ServiceRecord};

/// Answers as it is told to, each question once; of services, whether that nobody can say or that there are none.
#[derive(Default)]
struct Script(Mutex<VecDeque<Result<Vec<IpAddr>, DnsFailure>>>, AtomicBool);

impl Dns for Script {
    fn pointers<'a>(&'a self, _: &'a str) -> Answer<'a, Pointer> {
        Box::pin(ready(Ok(Found { records: Vec::new(), valid_for: Duration::ZERO })))
    }

    fn services<'a>(&'a self, _: &'a str) -> Answer<'a, ServiceRecord> {
        if self.1.load(Ordering::Relaxed) {
            return Box::pin(ready(Err(DnsFailure("silence".to_owned()))));
        }
        Box::pin(ready(Ok(Found { records: Vec::new(), valid_for: Duration::ZERO })))
    }

    fn addresses<'a>(&'a self, _: &'a str) -> Answer<'a, IpAddr> {
        let next = self.0.lock().unwrap().pop_front().unwrap_or_else(|| Err(DnsFailure("silence".to_owned())));
        Box::pin(ready(next.map(|records| Found { records, valid_for: Duration::from_secs(60) })))
    }
}

struct Setting {
    names: Arc<Names>,
    script: Arc<Script>,
    runtime: tokio::runtime::Runtime,
    began: Instant,
}

impl Setting {
    fn new(limits: NameLimits) -> Setting {
        Setting::reaching(Reach::of([]), limits)
    }

    fn reaching(reach: Reach, limits: NameLimits) -> Setting {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let script = Arc::new(Script::default());
        let names = Names::new((script.clone(), runtime.handle().clone()), limits, reach, |most| most);
        Setting { names, script, runtime, began: Instant::now() }
    }

    fn answers(&self, answer: Result<&[u8], ()>) {
        let addresses = |last: &[u8]| last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect();
        let answer = answer.map(addresses).map_err(|()| DnsFailure("silence".to_owned()));
        self.script.0.lock().unwrap().push_back(answer);
    }

    /// What is said so many seconds after the beginning, and who tells when that changes.
    fn at(&self, seconds: u64) -> (Known, Receiver<()>) {
        self.of("host.example", seconds)
    }

    fn of(&self, host: &str, seconds: u64) -> (Known, Receiver<()>) {
        self.look_up(&wanted(host), seconds)
    }

    fn look_up(&self, wanted: &Wanted, seconds: u64) -> (Known, Receiver<()>) {
        let (told, is_told) = channel();
        let now = self.began + Duration::from_secs(seconds);
        (
            self.names.look_up(wanted, now, move || {
                let _ = told.send(());
            }),
            is_told,
        )
    }

    /// Everything that was asked is answered.
    fn settle(&self) {
        self.runtime.block_on(async {
            while self.names.known().entries.values().any(|entry| entry.is_asked) {
                tokio::task::yield_now().await;
            }
        });
    }
}

fn wanted(host: &str) -> Wanted {
    Wanted::new(host, Some(5060), None).unwrap()
}

fn place(last: u8) -> Place {
    Place { protocol: Protocol::Udp, socket: (IpAddr::from([192, 0, 2, last]), 5060).into() }
}

fn places(last: &[u8]) -> Known {
    Known::Places(last.iter().copied().map(place).collect())
}

#[test]
fn a_name_is_asked_once_and_all_who_wait_are_told() {
    let setting = Setting::new(NameLimits::default());
    setting.answers(Ok(&[1, 2]));
    let waiting = [setting.at(0), setting.at(0)];
    setting.settle();
    for (known, told) in waiting {
        assert_eq!(known, Known::Not);
        told.try_recv().unwrap();
    }
    assert_eq!(setting.at(1).0, places(&[1, 2]));
    assert_eq!(setting.of("192.0.2.9", 0).0, places(&[9]), "an address needs no answer");
}

#[test]
fn old_places_are_used_while_and_when_nobody_answers() {
    let setting = Setting::new(NameLimits::default());
    setting.answers(Ok(&[1]));
    let _ = setting.at(0);
    setting.settle();
    setting.answers(Err(()));
    assert_eq!(setting.at(100).0, places(&[1]), "its 60 seconds are over, it is asked again");
    setting.settle();
    assert_eq!(setting.at(200).0, places(&[1]), "nobody answered");
    setting.settle();
    setting.answers(Ok(&[]));
    assert_eq!(setting.at(300).0, places(&[1]));
    setting.settle();
    assert_eq!(setting.at(10).0, Known::Nowhere, "its zone says that there is nothing");
    setting.answers(Ok(&[2]));
    assert_eq!(setting.at(400).0, Known::Not);
    setting.settle();
    assert_eq!(setting.at(10).0, places(&[2]));
    assert_eq!(setting.at(2 * 24 * 3_600).0, Known::Not, "too old to be believed");
}

#[test]
fn what_is_found_while_a_question_fails_is_asked_again_soon_and_replaces_nothing_better() {
    let wanted = Wanted::new("host.example", None, Some(Protocol::Udp)).unwrap();
    let setting = Setting::new(NameLimits { min_validity: Duration::from_secs(60), ..NameLimits::default() });
    let at = |seconds| setting.look_up(&wanted, seconds).0;
    let fails = |fails| setting.script.1.store(fails, Ordering::Relaxed);
    fails(true);
    // Answers come at the time of day, which a busy machine may let go on for some seconds.
    for (seconds, last) in [(0, 1), (45, 2)] {
        setting.answers(Ok(&[last]));
        at(seconds);
        setting.settle();
        assert_eq!(at(seconds), places(&[last]), "better than none, for half a minute");
    }
    fails(false);
    setting.answers(Ok(&[3]));
    at(100);
    setting.settle();
    fails(true);
    setting.answers(Ok(&[4]));
    assert_eq!(at(200), places(&[3]));
    setting.settle();
    assert_eq!(at(201), places(&[3]), "that was the answer to all questions");
}

#[test]
fn a_place_that_failed_comes_last_until_it_answers_or_for_longer_each_time() {
    let setting = Setting::new(NameLimits::default());
    setting.answers(Ok(&[1, 2, 3]));
    let _ = setting.at(0);
    setting.settle();
    let fails = |last: u8, seconds: u64| {
        setting.names.note_failure(place(last).socket, setting.began + Duration::from_secs(seconds));
    };
    fails(1, 1);
    assert_eq!(setting.at(31).0, places(&[2, 3, 1]), "the next attempt comes after half a minute");
    fails(2, 32);
    assert_eq!(setting.at(33).0, places(&[3, 1, 2]));
    fails(1, 40);
    fails(3, 41);
    assert_eq!(setting.at(42).0, places(&[2, 1, 3]), "what failed longest ago is tried first");
    assert_eq!(setting.at(170).0, places(&[1, 2, 3]), "one of each place, whatever failed while it lasted");
    fails(1, 200);
    assert_eq!(setting.at(430).0, places(&[2, 3, 1]), "it failed again");
    assert_eq!(setting.at(450).0, places(&[1, 2, 3]));
    for seconds in [450, 2_000, 5_000, 10_000, 20_000, 30_000] {
        fails(1, seconds);
    }
    assert_eq!(setting.at(37_100).0, places(&[2, 3, 1]), "two hours");
    assert_eq!(setting.at(37_300).0, places(&[1, 2, 3]), "and no longer");
    fails(1, 37_300);
    setting.names.note_answer(place(1).socket);
    assert_eq!(setting.at(37_301).0, places(&[1, 2, 3]), "it is back");
    fails(1, 37_302);
    assert_eq!(setting.at(37_400).0, places(&[2, 3, 1]));
    assert_eq!(setting.at(37_430).0, places(&[1, 2, 3]), "that was the first since then");
}

#[test]
fn a_place_that_answers_503_comes_last_for_a_while_and_never_for_longer() {
    let setting = Setting::new(NameLimits::default());
    setting.answers(Ok(&[1, 2]));
    let _ = setting.at(0);
    setting.settle();
    for seconds in [1, 200, 400, 600] {
        setting.names.note_busy(place(1).socket, setting.began + Duration::from_secs(seconds));
        assert_eq!(setting.at(seconds + 119).0, places(&[2, 1]));
        assert_eq!(setting.at(seconds + 121).0, places(&[1, 2]));
    }
}

#[test]
fn places_that_no_name_leads_to_take_no_marks_from_others() {
    let marks = MarkLimits { max_marks: 1, ..MarkLimits::default() };
    let setting = Setting::new(NameLimits { marks, ..NameLimits::default() });
    setting.answers(Ok(&[1, 2]));
    let _ = setting.at(0);
    setting.settle();
    for last in 3..200 {
        setting.names.note_failure(place(last).socket, setting.began);
    }
    setting.names.note_failure(place(1).socket, setting.began);
    assert_eq!(setting.at(1).0, places(&[2, 1]));
}

#[test]
fn whoever_names_hosts_that_nobody_answers_for_leaves_questions_for_others() {
    let setting = Setting::new(NameLimits { max_questions: 16, ..NameLimits::default() });
    let [one, other] = ["one", "other"].map(|who| setting.names.asker(who));
    let asks = |asker, host: &str| setting.names.look_up_for(&wanted(host), setting.began, Some(asker), || ());
    assert_eq!([asks(one, "a.example"), asks(one, "b.example")], [Known::Not, Known::Not]);
    assert_eq!(asks(one, "c.example"), Known::Nowhere, "an eighth of the questions is its own");
    assert_eq!([asks(other, "c.example"), asks(other, "d.example")], [Known::Not, Known::Not]);
    assert_eq!(asks(one, "d.example"), Known::Not, "it may wait for what others ask");
    setting.settle();
    assert_eq!(setting.of("e.example", 0).0, Known::Not);
    setting.settle();
    assert_eq!(setting.names.asking.lock().unwrap().len(), 0, "nothing is remembered of who asks nothing");
    assert_eq!(asks(one, "f.example"), Known::Not);
}

#[test]
fn a_place_that_no_listener_reaches_comes_last() {
    let (of_v4, of_v6) = (SocketAddr::from(([192, 0, 2, 99], 5060)), "[2001:db8::1]:5060".parse().unwrap());
    for (listeners, protocol, expected) in [
        (vec![(Protocol::Udp, of_v4)], Protocol::Udp, [2, 1]),
        (vec![(Protocol::Udp, of_v4)], Protocol::Tcp, [2, 1]),
        (vec![(Protocol::Udp, of_v4), (Protocol::Tcp, of_v6)], Protocol::Udp, [2, 1]),
        (vec![(Protocol::Udp, of_v4), (Protocol::Udp, of_v6)], Protocol::Udp, [1, 2]),
        (vec![(Protocol::Udp, of_v4), (Protocol::Tls, of_v6)], Protocol::Tcp, [1, 2]),
    ] {
        let setting = Setting::reaching(Reach::of(listeners.clone()), NameLimits::default());
        let addresses = [IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), IpAddr::from([192, 0, 2, 2])];
        setting.script.0.lock().unwrap().push_back(Ok(addresses.to_vec()));
        let wanted = Wanted::new("host.example", Some(5060), Some(protocol)).unwrap();
        let _ = setting.look_up(&wanted, 0);
        setting.settle();
        let expected = expected.map(|number: usize| Place { protocol, socket: (addresses[number - 1], 5060).into() });
        let marked = expected[0].socket;
        setting.names.note_failure(marked, setting.began);
        let unreachable = !Reach::of(listeners.clone()).has(&expected[1]);
        let after = if unreachable { expected } else { [expected[1], expected[0]] };
        assert_eq!(setting.look_up(&wanted, 1).0, Known::Places(after.to_vec()), "{listeners:?} {protocol}, it failed");
        setting.names.note_answer(marked);
        assert_eq!(setting.look_up(&wanted, 1).0, Known::Places(expected.to_vec()), "{listeners:?} {protocol}");
    }
}

#[test]
fn names_questions_and_those_who_wait_are_bounded() {
    let limits = NameLimits { max_names: 2, max_questions: 1, max_waiting: 1, ..NameLimits::default() };
    let setting = Setting::new(limits);
    setting.answers(Ok(&[1]));
    assert_eq!(setting.of("a.example", 0).0, Known::Not);
    assert_eq!(setting.of("a.example", 0).0, Known::Nowhere, "one waits already");
    assert_eq!(setting.of("b.example", 0).0, Known::Nowhere, "one is being asked about already");
    setting.settle();
    assert_eq!(setting.of("a.example", 1).0, places(&[1]));
    setting.answers(Ok(&[2]));
    assert_eq!(setting.of("b.example", 1).0, Known::Not);
    setting.settle();
    assert_eq!(setting.of("a.example", 2).0, places(&[1]));
    setting.answers(Ok(&[3]));
    assert_eq!(setting.of("c.example", 3).0, Known::Not, "two are known, and one of them makes room");
    assert_eq!(setting.of("b.example", 3).0, Known::Nowhere, "it went, and has to wait for its turn");
    setting.settle();
    assert_eq!(setting.of("a.example", 4).0, places(&[1]), "b.example was used longer ago");
    assert_eq!(setting.of("c.example", 4).0, places(&[3]));
}

#[test]
fn what_peers_name_pushes_out_what_was_used_longest_ago_and_nothing_of_the_operators() {
    let limits = NameLimits { max_names: 3, ..NameLimits::default() };
    let setting = Setting::new(limits);
    let outbound = wanted("host.example").of_operator();
    setting.answers(Ok(&[1]));
    let _ = setting.look_up(&outbound, 0);
    setting.answers(Ok(&[2]));
    let _ = setting.of("used.example", 0);
    setting.settle();
    for second in 1..20 {
        setting.answers(Ok(&[9]));
        assert_eq!(setting.of(&format!("n{second}.example"), 2 * second).0, Known::Not, "there is room");
        setting.settle();
        assert_eq!(setting.of("used.example", 2 * second + 1).0, places(&[2]), "{second}");
    }
    assert_eq!(setting.names.known().entries.len(), 3);
    // The operator's is not valid any more, nobody says anything, and others are named without end.
    for second in 100..120 {
        let _ = setting.of(&format!("n{second}.example"), second);
        setting.settle();
    }
    assert_eq!(setting.look_up(&outbound, 120).0, places(&[1]));
    setting.settle();
    for host in ["second.example", "third.example", "fourth.example"] {
        assert_eq!(setting.look_up(&wanted(host).of_operator(), 121).0, Known::Not, "{host} makes room among them");
        setting.settle();
    }
    assert_eq!(setting.of("host.example", 122).0, Known::Nowhere, "a peer's has none there");
}

#[test]
fn a_name_that_somebody_waits_for_is_not_forgotten() {
    let setting = Setting::new(NameLimits { max_names: 1, ..NameLimits::default() });
    setting.answers(Ok(&[1]));
    let (_, told) = setting.at(0);
    assert_eq!(setting.look_up(&wanted("b.example").of_operator(), 0).0, Known::Nowhere);
    setting.settle();
    told.try_recv().unwrap();
    assert_eq!(setting.at(1).0, places(&[1]));
}

#[test]
fn a_question_of_the_operators_waits_for_no_others() {
    let limits = NameLimits { max_questions: 1, ..NameLimits::default() };
    let setting = Setting::new(limits);
    let outbound = wanted("host.example").of_operator();
    setting.answers(Err(()));
    setting.answers(Ok(&[1]));
    let _ = setting.of("silent.example", 0);
    assert_eq!(setting.of("host.example", 0).0, Known::Nowhere, "it waits for its turn");
    assert!(!setting.names.known().entries.contains_key(&wanted("host.example")), "nor is it remembered");
    let (known, told) = setting.look_up(&outbound, 0);
    assert_eq!(known, Known::Not);
    setting.settle();
    told.try_recv().unwrap();
    assert_eq!(setting.look_up(&outbound, 1).0, places(&[1]));
}
