//! What a proxy sends on, and back.

use restante_sip::message::{Name, validate_request};
use restante_sip::proxy::{Forwarding, Returning, without_own_routes};
use restante_sip::uri::Uri;

use crate::{answer, message};

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
