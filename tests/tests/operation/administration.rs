//! The administration interface and the commands that ask it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use restante_client::{Behaviour, PageMessage, Scripted};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use restante_tests::{Program, http, http_that_stays, run, run_in, setting};
use serde_json::Value;

#[test]
fn what_waits_is_listed_shown_and_discarded() {
    setting().administered().tell(async |world| {
        let mut alice = world.person("alice").await;
        alice.register().await;
        let notifications = DispositionNotification { negative_delivery: true, ..Default::default() };
        let mut sent = Vec::new();
        for to in ["bob", "bob", "carol"] {
            let message = PageMessage::text(&format!("sip:{to}@example.org"), "text");
            sent.push(alice.send_message(PageMessage { notifications, ..message }).await.message_id);
        }
        let all = world.json(&["queue", "list"]).await;
        let messages = all["messages"].as_array().expect("messages");
        assert_eq!(messages.len(), 3);
        assert_eq!(
            (&messages[0]["to"], &messages[0]["from"]),
            (&"sip:bob@example.org".into(), &alice.address().into())
        );
        let of_carol = world.json(&["queue", "list", "--to", "sip:carol@example.org"]).await;
        assert_eq!(of_carol["messages"].as_array().map(Vec::len), Some(1));
        let page = world.json(&["queue", "list", "--limit", "2"]).await;
        let after = page["next_after"].as_u64().expect("there is more").to_string();
        let rest = world.json(&["queue", "list", "--after", &after]).await;
        assert_eq!((rest["messages"].as_array().map(Vec::len), rest["next_after"].as_u64()), (Some(1), None));

        let id = messages[0]["id"].to_string();
        let shown = world.json(&["queue", "show", &id]).await;
        assert_eq!((&shown["imdn_message_id"], &shown["state"]), (&sent[0].as_str().into(), &"waiting".into()));
        assert_eq!((&shown["retry_at"], &shown["announced_until"]), (&Value::Null, &Value::Null));
        let table = world.command(&["queue", "list"]).await.stdout;
        assert!(
            table.lines().next().is_some_and(|head| head.starts_with("id ")) && table.lines().count() == 4,
            "{table}"
        );

        let discarded = world.command(&["queue", "discard", &id, "--report"]).await;
        assert_eq!((discarded.status.success(), discarded.stdout.as_str()), (true, "1 message discarded\n"));
        assert_eq!(alice.disposition().await, (sent[0].clone(), Disposition::DeliveryFailed));
        let gone = world.command(&["queue", "show", &id]).await;
        assert_eq!(gone.status.code(), Some(1));
        assert_eq!(gone.stderr, format!("restante: no waiting message {id}\n"));
        let discarded = world.command(&["queue", "discard", "--to", "sip:bob@example.org"]).await;
        assert_eq!(discarded.stdout, "1 message discarded\n");
        world.until_waiting(1).await;
        assert_eq!(alice.unread().len(), 0, "nobody asked for a report of that");
    });
}

#[test]
fn a_users_preferences_and_names_are_shown_and_set_and_count_at_once() {
    setting().settings("few = 0").administered().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let user = world.json(&["user", "show", "sip:bob@example.org"]).await;
        assert_eq!((&user["delivery"], user["contacts"].as_array().map(Vec::len)), (&Value::Null, Some(1)));
        let set = ["user", "set", "sip:bob@example.org", "--delivery", "hold", "--alias", "sip:robert@example.org"];
        let user = world.json(&set).await;
        assert_eq!(user["delivery"], "hold");
        alice.send("sip:robert@example.org", "by another name").await;
        let user = world.json(&["user", "show", "sip:robert@example.org"]).await;
        assert_eq!((&user["address"], &user["waiting_messages"]), (&"sip:bob@example.org".into(), &1.into()));
        world.restart().await;
        let user =
            world.json(&["user", "set", "sip:bob@example.org", "--delivery", "push", "--utc-offset", "-60"]).await;
        assert_eq!(
            (&user["aliases"][0], &user["utc_offset_minutes"]),
            (&"sip:robert@example.org".into(), &(-60).into())
        );
        assert_eq!(bob.texts(1).await, ["by another name"], "the change reopens the queue");
        world.until_settled().await;

        let stranger = world.command(&["user", "show", "sip:bob@elsewhere.net"]).await;
        assert_eq!(stranger.status.code(), Some(1));
        assert!(stranger.stderr.contains("is not a user of any tenant"), "{stranger:?}");
        let wrong = world.command(&["user", "set", "sip:bob@example.org", "--alias", "nonsense"]).await;
        assert!(wrong.stderr.contains("expected sip:USER@DOMAIN or tel:+NUMBER"), "{wrong:?}");
        let long = world.command(&["user", "set", "sip:bob@example.org", "--class", &"x".repeat(101)]).await;
        assert!(long.stderr.contains("class has 101 bytes: expected at most 100"), "{long:?}");
        let taken = world.command(&["user", "set", "sip:carol@example.org", "--alias", "sip:robert@example.org"]).await;
        let why = "alias sip:robert@example.org is an alias of sip:bob@example.org: take it from there first";
        assert!(!taken.status.success() && taken.stderr.contains(why), "{taken:?}");
        let user = world.json(&["user", "set", "sip:bob@example.org", "--no-alias"]).await;
        assert_eq!(user["aliases"].as_array().map(Vec::len), Some(0));
        let robert = world.json(&["user", "show", "sip:robert@example.org"]).await;
        assert_eq!(robert["address"], "sip:robert@example.org", "forgotten at once");
    });
}

#[test]
fn a_message_that_is_tried_again_later_says_when() {
    setting().settings("retry_seconds = [3600]").administered().tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let busy = Behaviour { message_answers: [Scripted::Status(486)].into(), ..Behaviour::default() };
        bob.client.set_behaviour(busy).await.expect("a client");
        bob.register().await;
        alice.send(bob.address(), "later").await;
        let queue = loop {
            let queue = world.json(&["queue", "list"]).await;
            if queue["messages"][0]["state"] != "waiting" {
                break queue;
            }
        };
        let message = &queue["messages"][0];
        let at = message["retry_at"].as_str().unwrap_or_default();
        assert_eq!((&message["state"], &message["announced_until"]), (&"retry".into(), &Value::Null), "{queue}");
        let table = world.command(&["queue", "list"]).await.stdout;
        assert!(!at.is_empty() && table.contains(&format!("retry at {at}")), "{queue} {table}");
        let shown = world.command(&["queue", "show", &message["id"].to_string()]).await.stdout;
        let line = |label: &str| shown.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
        assert_eq!(line("state:"), Some(format!("retry at {at}").as_str()), "{shown}");
        assert!(line("last failure:").is_some_and(|it| it.starts_with("486 from device at ")), "{shown}");
        let begins =
            |line: &str| line.find(": ").map(|at| at + line[at + 1..].len() - line[at + 1..].trim_start().len());
        assert!(shown.lines().all(|line| begins(line) == Some(16)), "what is said begins in one column: {shown}");
    });
}

#[test]
fn no_server_is_said_so() {
    let alone = run(&["queue", "list", "--socket", "/nowhere/admin.sock"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(alone.stderr.starts_with("restante: no server answers at /nowhere/admin.sock"), "{alone:?}");
}

#[test]
fn the_socket_is_the_arguments_else_the_environments_else_that_beside() {
    let beside = "restante-data/admin.sock";
    for (variable, arguments, expected) in [
        (Some("/here/admin.sock"), &[][..], "/here/admin.sock"),
        (Some("/here/admin.sock"), &["--socket", "/nowhere/admin.sock"], "/nowhere/admin.sock"),
        (Some("/here/admin.sock"), &["--url", "http://127.0.0.1:1", "--token-file", "/dev/null"], "http://127.0.0.1:1"),
        (Some(""), &[], beside),
        (None, &[], beside),
    ] {
        let environment: Vec<_> = variable.map(|socket| ("RESTANTE_SOCKET", socket)).into_iter().collect();
        let said = run_in(&environment, &[&["queue", "list"], arguments].concat());
        assert!(said.stderr.starts_with(&format!("restante: no server answers at {expected}")), "{said:?}");
    }
}

#[tokio::test]
async fn over_tcp_a_token_is_needed_and_the_host_must_be_this_one() {
    for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        is_asked_for_a_token(restante_tests::free_tcp_port_on(host)).await;
    }
}

async fn is_asked_for_a_token(place: SocketAddr) {
    let program = Program::new(&format!("[admin]\nlisten = \"{place}\""));
    let served = program.serve().await;
    let token_file = program.data().join("admin.token");
    let token = std::fs::read_to_string(&token_file).unwrap().trim().to_owned();
    let host = format!("Host: {place}\r\n");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for (headers, expected) in [
        (format!("{host}{bearer}"), 200),
        (format!("Host: localhost:{}\r\n{bearer}", place.port()), 200),
        (host.clone(), 401),
        (format!("{host}Authorization: Bearer {}\r\n", token.replace(|_| true, "0")), 401),
        (format!("{host}Authorization: Bearer {token}0\r\n"), 401),
        (format!("{host}Authorization: Basic {token}\r\n"), 401),
        (format!("Host: evil.example.org\r\n{bearer}"), 421),
        (format!("Host: evil.example.org:{}\r\n{bearer}", place.port()), 421),
    ] {
        let answer = http(place, "/health", &headers).await;
        assert_eq!(answer.status, expected, "{headers}");
        assert!(!answer.head.to_ascii_lowercase().contains("access-control-"), "{}", answer.head);
    }
    // Who may not ask keeps no connection, though it asks for one.
    for (headers, expected) in [(host.clone(), 401), (format!("Host: evil.example.org\r\n{bearer}"), 421)] {
        let answer = http_that_stays(place, "/health", &headers).await;
        assert_eq!(answer.status, expected);
        assert!(answer.head.to_ascii_lowercase().contains("connection: close"), "{}", answer.head);
    }
    let url = format!("http://{place}");
    let by_command =
        run(&["queue", "list", "--json", "--url", &url, "--token-file", &token_file.display().to_string()]);
    assert!(by_command.status.success() && by_command.stdout.contains("\"messages\": []"), "{by_command:?}");
    use std::os::unix::fs::PermissionsExt;
    for secret in ["admin.token", "admin.sock", "own-mark.key"] {
        let mode = std::fs::metadata(program.data().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{secret} is for its owner alone");
    }
    drop(served);
}

#[test]
fn health_and_metrics_tell_how_it_is() {
    setting().held().administered().tell(async |world| {
        let health = world.administration("/health").await;
        assert_eq!((health.status, health.body.contains("\"status\":\"ok\"")), (200, true), "{health:?}");
        let alice = world.person("alice").await;
        alice.send("sip:bob@example.org", "counted").await;
        let metrics = world.administration("/metrics").await;
        assert_eq!(metrics.status, 200);
        assert!(
            metrics.head.to_ascii_lowercase().contains("content-type: application/openmetrics-text"),
            "{}",
            metrics.head
        );
        for line in [
            "restante_messages_stored_total 1",
            "restante_messages_waiting 1",
            "restante_msrp_sessions 0",
            "restante_disk_full 0",
            "restante_tenant_limits_total{tenant=\"example\",limit=\"stored\"} 0",
            "restante_dropped_total{reason=\"shard-busy\"} 0",
            "# EOF",
        ] {
            assert!(metrics.body.lines().any(|it| it == line), "no {line:?} in {}", metrics.body);
        }
        for family in ["restante_accept_seconds_bucket", "restante_transport_", "restante_policy_"] {
            assert!(metrics.body.contains(family), "no {family} in {}", metrics.body);
        }
        world.held().pretend_age(std::time::Duration::from_secs(60));
        let late = world.administration("/health").await;
        assert_eq!((late.status, late.body.contains("overloaded")), (503, true), "{late:?}");
        let metrics = world.administration("/metrics").await.body;
        assert!(metrics.lines().any(|it| it == "restante_oldest_write_age_seconds 60.0"), "{metrics}");
    });
}
