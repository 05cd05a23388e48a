//! What AUTH is asked and answered with, whatever a tenant demands of SIP (RFC 4976 §9.1).

use std::net::SocketAddr;

use restante::configuration::ListenAddress;
use restante_msrp::framing::Response;
use restante_sip::authentication::{
    AuthenticationInfo, Challenge, Credentials, HashOfA1, Protection, QualityOfProtection, Subject, response,
};
use restante_tests::{WebMsrp, free_tcp_port_on, in_time, setting};
use restante_transport::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn fields<'a>(said: &'a Response, name: &'a str) -> impl Iterator<Item = &'a str> {
    said.other_headers.iter().filter(move |it| it.name == name).map(|it| it.value.as_str())
}

/// The head of what is answered to a page that opens a WebSocket.
async fn opened(place: SocketAddr, fields: &str) -> String {
    let mut stream = TcpStream::connect(place).await.expect("a connection");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {place}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: msrp\r\n{fields}\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("a write");
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        said.push(in_time("an answer", stream.read_u8()).await.expect("an answer"));
    }
    String::from_utf8(said).expect("text").to_ascii_lowercase()
}

#[test]
fn a_page_that_opens_a_web_socket_for_msrp_is_named_in_the_answer() {
    setting().demands_passwords().tell(async |world| {
        let socket = free_tcp_port_on(world.sip().ip());
        let listen = ListenAddress { protocol: Protocol::Ws, socket };
        world.restart_with(|it| it.msrp.web_socket_listen = vec![listen]).await;
        let said = opened(socket, "Origin: https://phone.example.org\r\n").await;
        assert!(said.starts_with("http/1.1 101 "), "{said}");
        assert!(said.contains("\r\naccess-control-allow-origin: https://phone.example.org\r\n"), "{said}");
        let said = opened(socket, "").await;
        assert!(said.starts_with("http/1.1 101 ") && !said.contains("access-control"), "{said}");
    });
}

#[test]
fn auth_has_the_digest_of_msrp_and_is_answered_with_what_shows_the_password() {
    let place = setting().demands_passwords().tenant(|tenant| {
        let text = "algorithms = [\"SHA-256-sess\", \"SHA-256\", \"MD5-sess\"]\nqop = [\"auth-int\"]";
        tenant.digest = toml::from_str(text).expect("a table");
    });
    place.tell(async |world| {
        let socket = free_tcp_port_on(world.sip().ip());
        let listen = ListenAddress { protocol: Protocol::Ws, socket };
        world.restart_with(|it| it.msrp.web_socket_listen = vec![listen]).await;
        world.give_password("bob").await;
        let mut web = WebMsrp::open(socket, Some("msrp"), "bob").await.expect("a WebSocket for MSRP");
        let asked = web.ask("").await;
        let read = |value| Challenge::parse_list(value).expect("a challenge").remove(0);
        let challenges: Vec<Challenge> = fields(&asked, "WWW-Authenticate").map(read).collect();
        let algorithms: Vec<String> = challenges.iter().map(|it| it.algorithm.to_string()).collect();
        assert_eq!(algorithms, ["SHA-256", "MD5"]);
        assert!(challenges.iter().all(|it| it.quality_of_protection == ["auth"]), "{challenges:?}");

        let Challenge { realm, nonce, algorithm, .. } = &challenges[0];
        let used = |quality| Protection { quality, cnonce: "story".to_owned(), nonce_count: "00000001".to_owned() };
        let hash = HashOfA1::new(algorithm.algorithm, "bob", realm, "bob".chars().rev().collect::<String>().as_str());
        let relay = web.relay.clone();
        let subject = Subject { method: "AUTH", uri: &relay, nonce, is_session: false, body: &[] };
        let said = |quality| {
            let used = used(quality);
            let credentials = Credentials {
                username: "bob".to_owned(),
                is_user_hash: false,
                response: response(&hash, &subject, Some(&used)),
                realm: realm.clone(),
                nonce: nonce.clone(),
                uri: relay.clone(),
                algorithm: Some(algorithm.to_string()),
                opaque: None,
                protection: Some(used),
            };
            // As in the example of §5.1, which names no URI.
            format!("Authorization: {}\r\n", credentials.to_string().replace("uri=", "unknown="))
        };
        let refused = web.ask(&said(QualityOfProtection::AuthInt)).await;
        assert_eq!(refused.status.code(), 401, "what SIP may have AUTH has not");
        let taken = web.ask(&said(QualityOfProtection::Auth)).await;
        assert_eq!(taken.status.code(), 200, "{taken:?}");
        let info = fields(&taken, "Authentication-Info").next().expect("Authentication-Info");
        let info = AuthenticationInfo::parse(info).expect("Authentication-Info");
        assert_eq!(info.is_right(&hash, &subject, &used(QualityOfProtection::Auth)), Some(true), "{info:?}");
    });
}
