use std::collections::HashMap;
use std::future::{Future, ready};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::resolution::dns::{Answer, Found};

/// A zone in memory, and what it was asked.
#[derive(Default)]
struct Zone {
    pointers: HashMap<&'static str, Vec<Pointer>>,
    services: HashMap<&'static str, Vec<ServiceRecord>>,
    addresses: HashMap<&'static str, Vec<IpAddr>>,
    fails: Vec<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    fn answer<T: Clone + Send + 'static>(
        &self,
        kind: &str,
        name: &str,
        records: &HashMap<&'static str, Vec<T>>,
        seconds: u64,
    ) -> Answer<'static, T> {
        self.asked.lock().unwrap().push(format!("{kind} {name}"));
        let name = name.trim_end_matches('.');
        let failure = || DnsFailure("no answer".to_owned());
        let records = records.get(name).cloned().unwrap_or_default();
        let found = Found { records, valid_for: Duration::from_secs(seconds) };
        Box::pin(ready(if self.fails.contains(&name) { Err(failure()) } else { Ok(found) }))
    }
}

impl Dns for Zone {
    fn pointers<'a>(&'a self, name: &'a str) -> Answer<'a, Pointer> {
        self.answer("NAPTR", name, &self.pointers, 300)
    }

    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, ServiceRecord> {
        self.answer("SRV", name, &self.services, 200)
    }

    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, IpAddr> {
        self.answer("A", name, &self.addresses, 100)
    }
}

fn pointer(order: u16, service: &str, replacement: &str) -> Pointer {
    Pointer { order, preference: 50, flags: "s".into(), service: service.into(), replacement: replacement.into() }
}

fn service(priority: u16, weight: u16, port: u16, target: &str) -> ServiceRecord {
    ServiceRecord { priority, weight, port, target: target.into() }
}

fn address(last: u8) -> Vec<IpAddr> {
    vec![IpAddr::from([192, 0, 2, last])]
}

/// The example of RFC 3263 §4.1, and some more.
fn zone() -> Zone {
    let mut zone = Zone::default();
    let of_example = vec![
        pointer(50, "SIPS+D2T", "_sips._tcp.example.com."),
        pointer(90, "SIP+D2T", "_sip._tcp.example.com."),
        pointer(100, "SIP+D2U", "_sip._udp.example.com."),
    ];
    zone.pointers.insert("example.com", of_example);
    zone.services.insert("_sip._tcp.example.com", vec![service(2, 1, 5061, "two."), service(1, 1, 5060, "one.")]);
    zone.services.insert("_sips._tcp.example.com", vec![service(1, 1, 5071, "three.")]);
    zone.services.insert("_sip._udp.example.com", vec![service(1, 1, 5062, "one.")]);
    zone.services.insert("_sip._udp.plain.example", vec![service(1, 0, 5080, "two.")]);
    zone.services.insert("_sip._tcp.plain.example", vec![service(1, 0, 5081, "two.")]);
    zone.services.insert("_sip._udp.closed.example", vec![service(0, 0, 5060, ".")]);
    for (name, last) in
        [("one", 1), ("two", 2), ("three", 3), ("example.com", 9), ("host.example", 7), ("closed.example", 6)]
    {
        zone.addresses.insert(name, address(last));
    }
    zone
}

/// What nothing waits for is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn places(zone: &Zone, wanted: &Wanted) -> Result<Vec<String>, DnsFailure> {
    let resolved = now(resolve(zone, wanted, &|most| most))?;
    Ok(resolved.places.iter().map(|place| format!("{}:{}", place.protocol, place.socket)).collect())
}

fn is_partial(zone: &Zone, host: &str) -> bool {
    now(resolve(zone, &Wanted::new(host, None, None).unwrap(), &|most| most)).unwrap().is_partial
}

#[test]
fn what_is_asked_depends_on_what_is_said() {
    let (udp, tcp, tls) = (Some(Protocol::Udp), Some(Protocol::Tcp), Some(Protocol::Tls));
    for (host, port, protocol, expected, asked) in [
        ("192.0.2.3", None, None, vec!["udp:192.0.2.3:5060"], vec![]),
        ("host.example", Some(5070), None, vec!["udp:192.0.2.7:5070"], vec!["A host.example"]),
        ("host.example", Some(5070), tcp, vec!["tcp:192.0.2.7:5070"], vec!["A host.example"]),
        (
            "example.com",
            None,
            None,
            vec!["tls:192.0.2.3:5071", "tcp:192.0.2.1:5060", "tcp:192.0.2.2:5061", "udp:192.0.2.1:5062"],
            vec![
                "NAPTR example.com",
                "SRV _sips._tcp.example.com.",
                "A three",
                "SRV _sip._tcp.example.com.",
                "A one",
                "A two",
                "SRV _sip._udp.example.com.",
                "A one",
            ],
        ),
        ("example.com", None, udp, vec!["udp:192.0.2.1:5062"], vec!["SRV _sip._udp.example.com", "A one"]),
        (
            "plain.example",
            None,
            None,
            vec!["udp:192.0.2.2:5080", "tcp:192.0.2.2:5081"],
            vec!["NAPTR plain.example", "SRV _sip._udp.plain.example", "A two", "SRV _sip._tcp.plain.example", "A two"],
        ),
        (
            "host.example",
            None,
            None,
            vec!["udp:192.0.2.7:5060"],
            vec!["NAPTR host.example", "SRV _sip._udp.host.example", "SRV _sip._tcp.host.example", "A host.example"],
        ),
        ("closed.example", None, udp, vec![], vec!["SRV _sip._udp.closed.example"]),
        ("example.com", None, tls, vec!["tls:192.0.2.3:5071"], vec!["SRV _sips._tcp.example.com", "A three"]),
        ("host.example", None, tls, vec!["tls:192.0.2.7:5061"], vec!["SRV _sips._tcp.host.example", "A host.example"]),
        ("nobody.example", Some(5060), None, vec![], vec!["A nobody.example"]),
    ] {
        let zone = zone();
        let wanted = Wanted::new(host, port, protocol).unwrap();
        assert_eq!(places(&zone, &wanted).unwrap(), expected, "{wanted}");
        assert_eq!(*zone.asked.lock().unwrap(), asked, "{wanted}");
    }
}

#[test]
fn what_must_be_encrypted_is_asked_for_as_that_alone() {
    for (host, expected, asked) in [
        (
            "example.com",
            vec!["tls:192.0.2.3:5071"],
            vec!["NAPTR example.com", "SRV _sips._tcp.example.com.", "A three"],
        ),
        ("plain.example", vec![], vec!["NAPTR plain.example", "SRV _sips._tcp.plain.example", "A plain.example"]),
        (
            "host.example",
            vec!["tls:192.0.2.7:5061"],
            vec!["NAPTR host.example", "SRV _sips._tcp.host.example", "A host.example"],
        ),
    ] {
        let zone = zone();
        let wanted = Wanted::new(host, None, None).unwrap().secure();
        assert_eq!(places(&zone, &wanted).unwrap(), expected, "{host}");
        assert_eq!(*zone.asked.lock().unwrap(), asked, "{host}");
    }
}

#[test]
fn a_relay_of_msrp_is_found_by_its_service_else_by_its_addresses() {
    let mut zone = zone();
    zone.services.insert("_msrps._tcp.example.com", vec![service(2, 0, 2857, "three"), service(1, 0, 2856, "one")]);
    zone.services.insert("_msrps._tcp.none.example", vec![service(0, 0, 0, ".")]);
    for (host, port, is_encrypted, expected, asked) in [
        (
            "example.com",
            None,
            true,
            vec!["tls:192.0.2.1:2856", "tls:192.0.2.3:2857"],
            vec!["SRV _msrps._tcp.example.com", "A one", "A three"],
        ),
        ("example.com", Some(2860), true, vec!["tls:192.0.2.9:2860"], vec!["A example.com"]),
        (
            "host.example",
            None,
            true,
            vec!["tls:192.0.2.7:2855"],
            vec!["SRV _msrps._tcp.host.example", "A host.example"],
        ),
        ("host.example", None, false, vec!["tcp:192.0.2.7:2855"], vec!["A host.example"]),
        ("host.example", Some(2860), true, vec!["tls:192.0.2.7:2860"], vec!["A host.example"]),
        ("none.example", None, true, vec![], vec!["SRV _msrps._tcp.none.example"]),
        ("192.0.2.9", None, true, vec!["tls:192.0.2.9:2855"], vec![]),
    ] {
        zone.asked.lock().unwrap().clear();
        let wanted = Wanted::msrp_relay(host, port, is_encrypted).unwrap();
        assert_eq!(places(&zone, &wanted).unwrap(), expected, "{host} {port:?}");
        assert_eq!(*zone.asked.lock().unwrap(), asked, "{host} {port:?}");
    }
}

#[test]
fn what_was_found_holds_as_long_as_its_shortest_record() {
    let zone = zone();
    for (host, seconds) in [("example.com", 100), ("host.example", 100)] {
        let wanted = Wanted::new(host, None, None).unwrap();
        let resolved = now(resolve(&zone, &wanted, &|most| most)).unwrap();
        assert_eq!(resolved.valid_for, Duration::from_secs(seconds), "{host}");
    }
}

#[test]
fn a_failure_is_no_answer_unless_something_is_found_without_it() {
    let mut zone = zone();
    assert!(!is_partial(&zone, "example.com"));
    zone.fails = vec!["example.com", "_sip._tcp.example.com", "_sips._tcp.example.com"];
    // Its NAPTR and its TCP service are not answered; its UDP service is.
    assert_eq!(places(&zone, &Wanted::new("example.com", None, None).unwrap()).unwrap(), ["udp:192.0.2.1:5062"]);
    assert!(is_partial(&zone, "example.com"), "there may be better ones");
    zone.fails = vec!["host.example"];
    let failure = places(&zone, &Wanted::new("host.example", Some(5060), None).unwrap()).unwrap_err();
    assert_eq!(failure.to_string(), "no answer");
}

#[test]
fn weights_are_shares_and_priorities_come_first() {
    let records =
        || vec![service(2, 100, 1, "c"), service(1, 60, 1, "a"), service(1, 0, 1, "none"), service(1, 40, 1, "b")];
    let order = |random: &dyn Fn(u64) -> u64| -> Vec<String> {
        by_priority_and_weight(records(), random).into_iter().map(|record| record.target).collect()
    };
    assert_eq!(order(&|_| 0), ["none", "a", "b", "c"]);
    assert_eq!(order(&|most| most), ["b", "a", "none", "c"]);
    assert_eq!(order(&|_| 60)[0], "a");
    assert_eq!(order(&|_| 61)[0], "b");
    assert_eq!(order(&|_| u64::MAX)[3], "c");
    let first = (0..=100u64).filter(|drawn| order(&|most| (*drawn).min(most))[0] == "a").count();
    assert_eq!(first, 60);
}

#[test]
fn the_number_of_places_is_bounded() {
    let mut zone = Zone::default();
    zone.addresses.insert("many.example", (1..=200).flat_map(address).collect());
    zone.addresses.insert("odd.example", vec!["0.0.0.0".parse().unwrap(), "224.0.0.1".parse().unwrap()]);
    assert_eq!(places(&zone, &Wanted::new("many.example", Some(5060), None).unwrap()).unwrap().len(), MAX_PLACES);
    assert!(places(&zone, &Wanted::new("odd.example", Some(5060), None).unwrap()).unwrap().is_empty());
}
