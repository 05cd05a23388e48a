//! `restante client` against a running server, as somebody types it.

use restante_tests::{Finished, Program, run};
use serde_json::Value;

const ALICE: &str = "sip:alice@example.org";
const BOB: &str = "sip:bob@example.org";
const TENANT: &str = "[tenants.example]\ndomains = [\"example.org\"]\ntrust = [\"127.0.0.0/8\"]\n";

fn client(program: &Program, command: &str, arguments: &[&str]) -> Finished {
    let server = program.sip().to_string();
    run(&[&["client", command, "--server", &server, "--json"], arguments].concat())
}

fn listen(program: &Program, further: &[&str]) -> Finished {
    // Longer than anything takes that must happen: the count is what ends it.
    client(program, "listen", &[&["--as", BOB, "--for", "60"], further].concat())
}

/// The events of one kind.
fn events(finished: &Finished, kind: &str) -> Vec<Value> {
    let all = finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON on every line"));
    all.filter(|event| event["event"] == kind).collect()
}

#[tokio::test]
async fn a_first_message_waits_for_somebody_who_comes_back() {
    let program = Program::patient(TENANT);
    let _served = program.serve().await;
    let sent = client(&program, "send", &["--from", ALICE, "--to", BOB, "--text", "See you at six"]);
    assert!(sent.status.success(), "{sent:?}");
    let sent = events(&sent, "sent");
    assert_eq!((&sent[0]["status"], &sent[0]["mode"]), (&202.into(), &"page mode".into()));
    let listened = listen(&program, &["--count", "1"]);
    assert!(listened.status.success(), "{listened:?}");
    let received = events(&listened, "received");
    assert_eq!((&received[0]["text"], &received[0]["from"]), (&"See you at six".into(), &ALICE.into()));
    assert_eq!(received[0]["message_id"], sent[0]["message_id"]);
    assert!(events(&listened, "violation").is_empty(), "{listened:?}");
}

#[tokio::test]
async fn a_long_text_and_a_file_go_in_large_message_mode_and_are_saved_under_other_names() {
    let program = Program::patient(TENANT);
    let _served = program.serve().await;
    let directory = program.data().with_file_name("person");
    let (file, saved) = (directory.join("secret name.jpg"), directory.join("saved"));
    std::fs::create_dir(&directory).unwrap();
    let content: Vec<u8> = (0..500_000).map(|at: u32| (at % 251) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let long = "x".repeat(2_000);
    let file_path = file.display().to_string();
    for content in [["--text", long.as_str()], ["--file", file_path.as_str()]] {
        let sent = client(&program, "send", &[&["--from", ALICE, "--to", BOB][..], &content].concat());
        assert!(sent.status.success(), "{sent:?}");
        assert_eq!(events(&sent, "sent")[0]["mode"], "large message mode");
    }
    let listened = listen(&program, &["--count", "2", "--save", &saved.display().to_string()]);
    assert!(listened.status.success(), "{listened:?}");
    let received = events(&listened, "received");
    assert_eq!((&received[0]["text"], &received[0]["bytes"]), (&long.into(), &2_000.into()));
    let kept = received[1]["file"].as_str().unwrap();
    assert!(std::fs::read(kept).unwrap() == content);
    assert!(kept.ends_with(".jpg") && !kept.contains("secret"), "{kept}");
    assert_eq!(std::fs::read_dir(&saved).unwrap().count(), 2);
}

#[tokio::test]
async fn what_is_announced_is_fetched_by_its_id() {
    let program = Program::patient(&format!("{TENANT}[tenants.example.settings]\ndelivery = \"pull\"\nfew = 0\n"));
    let _served = program.serve().await;
    for text in ["one", "two"] {
        let sent = client(&program, "send", &["--from", ALICE, "--to", BOB, "--text", text]);
        assert!(sent.status.success(), "{sent:?}");
    }
    let queue = program.ask(&["queue", "list", "--json"]);
    let queue: Value = serde_json::from_str(&queue.stdout).unwrap();
    let second = queue["messages"][1]["id"].to_string();
    let fetched = client(&program, "fetch", &["--as", BOB, "--id", &second]);
    assert!(fetched.status.success(), "{fetched:?}");
    assert_eq!(events(&fetched, "received")[0]["text"], "two");
    let nothing = client(&program, "fetch", &["--as", BOB, "--id", "4711"]);
    assert!(!nothing.status.success(), "{nothing:?}");
    let listened = listen(&program, &["--pull", "--count", "1"]);
    assert!(listened.status.success(), "{listened:?}");
    let received = events(&listened, "received");
    assert_eq!((&received[0]["text"], &received[0]["mode"]), (&"one".into(), &"fetched".into()));
}

#[tokio::test]
async fn notifications_are_waited_for_and_a_failure_is_one() {
    let program = Program::patient(TENANT);
    let _served = program.serve().await;
    // Counted from its Date, which has whole seconds: what comes when they are over may not wait, and is refused.
    let asked = ["--from", ALICE, "--to", BOB, "--text", "short life", "--expires", "6", "--wait", "60"];
    let sent =
        client(&program, "send", &[&asked[..], &["--imdn", "processing,negative-delivery,positive-delivery"]].concat());
    assert!(!sent.status.success(), "{sent:?}");
    let statuses: Vec<Value> = events(&sent, "disposition").into_iter().map(|event| event["status"].clone()).collect();
    assert_eq!(statuses, ["stored", "failed"]);
}

#[tokio::test]
async fn what_the_server_refuses_and_what_cannot_be_is_a_failure() {
    let program = Program::patient(TENANT);
    let _served = program.serve().await;
    let refused = client(&program, "send", &["--from", ALICE, "--to", "sip:bob@elsewhere.org", "--text", "x"]);
    assert!(!refused.status.success());
    assert_eq!(events(&refused, "sent")[0]["status"], 404);
    let nobody = client(&program, "send", &["--from", "alice", "--to", BOB, "--text", "x"]);
    assert!(!nobody.status.success() && nobody.stderr.contains("sip:USER@DOMAIN"), "{nobody:?}");
    let nobody = client(&program, "listen", &["--as", "sip:bob@elsewhere.org", "--for", "30"]);
    assert!(!nobody.status.success() && nobody.stderr.contains("404"), "{nobody:?}");
}
