use std::collections::VecDeque;
use std::future::ready;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::address::Protocol;
use crate::resolution::dns::{Answer, DnsFailure, Found, Pointer, ServiceRecord};

/// Answers as it is told to, each question once.
#[derive(Default)]
struct Script(Mutex<VecDeque<Result<Vec<IpAddr>, DnsFailure>>>);

impl Dns for Script {
    fn pointers<'a>(&'a self, _: &'a str) -> Answer<'a, Pointer> {
        Box::pin(ready(Ok(Found { records: Vec::new(), valid_for: Duration::ZERO })))
    }

    fn services<'a>(&'a self, _: &'a str) -> Answer<'a, ServiceRecord> {
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let script = Arc::new(Script::default());
        let names = Names::new(script.clone(), runtime.handle().clone(), limits, |most| most);
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
fn a_place_that_failed_comes_last_for_a_while() {
    let setting = Setting::new(NameLimits::default());
    setting.answers(Ok(&[1, 2, 3]));
    let _ = setting.at(0);
    setting.settle();
    let now = setting.began + Duration::from_secs(1);
    setting.names.note_failure(place(1).socket, now);
    setting.names.note_failure(place(9).socket, now);
    assert_eq!(setting.at(2).0, places(&[2, 3, 1]));
    setting.names.note_failure(place(2).socket, now);
    assert_eq!(setting.at(3).0, places(&[3, 1, 2]));
    assert_eq!(setting.at(40).0, places(&[1, 2, 3]));
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
