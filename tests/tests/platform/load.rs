//! Two hundred activations back and forth while messages flow.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use restante_client::{Client, ClientConfiguration, ClientEvent, ClientEvents, PageMessage};
use restante_tests::{Program, guest};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const PAIRS: usize = 4;
const ACTIVATIONS: u64 = 200;
const PER_PHASE: u64 = 10;
/// Beyond this a message is lost: nothing waits for a registration here.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long messages took, with and without swaps beside them.
#[derive(Default)]
struct Latencies {
    swapping: Vec<Duration>,
    quiet: Vec<Duration>,
}

async fn client(program: &Program, name: &str) -> (Client, ClientEvents) {
    let configuration = ClientConfiguration::new(&format!("sip:{name}@example.org"), program.sip());
    Client::start(configuration).await.expect("a client")
}

/// Sends one message after the other, each when the one before it arrived, until it is told to stop.
async fn converse(program: &Program, pair: usize, is_swapping: &AtomicBool, stop: &AtomicBool) -> Latencies {
    let (alice, _unheard) = client(program, &format!("alice{pair}")).await;
    let (bob, mut events) = client(program, &format!("bob{pair}")).await;
    assert_eq!(bob.register(3_600).await.expect("an answer").status, 200);
    let mut latencies = Latencies::default();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let text = format!("{pair}-{number}");
        let began_swapping = is_swapping.load(Ordering::Relaxed);
        let sent_at = Instant::now();
        let outcome = alice.send(PageMessage::text(bob.identity(), &text)).await.expect("an answer to MESSAGE");
        assert_eq!(outcome.answer.status, 202, "{text}: {outcome:?}");
        let arrived = async {
            loop {
                if let Some(ClientEvent::Received(message)) = events.next().await {
                    return message;
                }
            }
        };
        let message = tokio::time::timeout(PATIENCE, arrived).await.unwrap_or_else(|_| panic!("{text} is lost"));
        assert_eq!(message.text(), Some(text.as_str()), "once, and in order");
        let took = sent_at.elapsed();
        match (began_swapping, is_swapping.load(Ordering::Relaxed)) {
            (true, true) => latencies.swapping.push(took),
            (false, false) => latencies.quiet.push(took),
            _ => {}
        }
    }
    latencies
}

/// One request to the administration interface.
async fn ask(program: &Program, method: &str, path: &str, content_type: &str, body: &[u8]) -> Value {
    let mut stream = UnixStream::connect(program.data().join("admin.sock")).await.expect("the socket");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("a request");
    stream.write_all(body).await.expect("a body");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.starts_with("HTTP/1.1 2"), "{text}");
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str(body).unwrap_or(Value::Null)
}

/// Two policies that share nothing: what one makes of its settings, the other cannot read.
async fn proposals(program: &Program) -> [Vec<u8>; 2] {
    let mut proposals = Vec::new();
    for (name, settings) in
        [("scripted", r#"{"available": "page", "keep_milliseconds": 3600000}"#), ("standard", r#"{"few": 5}"#)]
    {
        let component = std::fs::read(guest(name)).expect("a component");
        let uploaded = ask(program, "POST", "/components", "application/wasm", &component).await;
        let digest = uploaded["digest"].as_str().expect("a digest").to_owned();
        proposals.push(format!(r#"{{"digest": "{digest}", "settings": {settings}}}"#).into_bytes());
    }
    proposals.try_into().expect("two")
}

async fn swap(program: &Program, is_swapping: &AtomicBool, stop: &AtomicBool) -> u64 {
    let proposals = proposals(program).await;
    let activated = AtomicU64::new(0);
    while activated.load(Ordering::Relaxed) < ACTIVATIONS {
        is_swapping.store(true, Ordering::Relaxed);
        for _ in 0..PER_PHASE {
            let turn = activated.fetch_add(1, Ordering::Relaxed);
            let proposal = &proposals[usize::try_from(turn % 2).unwrap_or(0)];
            ask(program, "POST", "/tenants/example/policy/activate", "application/json", proposal).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        is_swapping.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    stop.store(true, Ordering::Relaxed);
    activated.into_inner()
}

fn percentile(latencies: &mut [Duration], share: f64) -> Duration {
    latencies.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
    latencies.get(index).copied().unwrap_or_default()
}

#[tokio::test]
async fn two_hundred_activations_fail_no_transaction_and_no_decision() {
    tokio::task::LocalSet::new().run_until(swap_under_load()).await;
}

async fn swap_under_load() {
    let program = Rc::new(Program::new(""));
    let served = program.serve().await;
    let (is_swapping, stop) = (Rc::new(AtomicBool::new(false)), Rc::new(AtomicBool::new(false)));
    let mut conversations = Vec::new();
    for pair in 0..PAIRS {
        let (program, is_swapping, stop) = (program.clone(), is_swapping.clone(), stop.clone());
        conversations
            .push(tokio::task::spawn_local(async move { converse(&program, pair, &is_swapping, &stop).await }));
    }
    assert_eq!(swap(&program, &is_swapping, &stop).await, ACTIVATIONS);
    let mut all = Latencies::default();
    for conversation in conversations {
        let Latencies { swapping, quiet } = conversation.await.expect("a conversation");
        all.swapping.extend(swapping);
        all.quiet.extend(quiet);
    }
    let status = program.ask(&["policy", "status", "example", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["active"]["number"], ACTIVATIONS + 1);
    for hook in status["hooks"].as_array().expect("hooks") {
        assert_eq!(hook["undecided"], 0, "no decision was made by half of a policy: {status:#}");
    }
    let [swapping, quiet] = [percentile(&mut all.swapping, 0.99), percentile(&mut all.quiet, 0.99)];
    println!(
        "p99 {swapping:?} of {} messages beside swaps, {quiet:?} of {} without",
        all.swapping.len(),
        all.quiet.len()
    );
    assert!(all.swapping.len() > 100 && all.quiet.len() > 100, "there was load");
    // 2x or 5 ms is what is promised on a machine of its own; a busy one gets some room.
    assert!(swapping <= quiet * 2 + Duration::from_millis(100), "p99 {swapping:?} beside swaps, {quiet:?} without");
    drop(served);
}
