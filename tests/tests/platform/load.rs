//! Two hundred activations back and forth while messages flow.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use restante_client::{Client, ClientConfiguration, ClientEvent, ClientEvents, PageMessage};
use restante_tests::{Program, guest, in_time, until};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const PAIRS: usize = 4;
const ACTIVATIONS: u64 = 200;
const PER_PHASE: u64 = 10;
/// So many messages go through before the next activation.
const MESSAGES_PER_ACTIVATION: usize = 8;
/// So many go through before activations begin again.
const MESSAGES_PER_QUIET_PHASE: usize = 50;
/// A busy machine's share of what a message takes in the middle, beside swaps. An activation that holds messages up until
/// it is done adds more.
const BUSY: Duration = Duration::from_millis(250);

/// What goes on, and how long messages took with and without swaps beside them.
#[derive(Default)]
struct Load {
    is_swapping: Cell<bool>,
    is_over: Cell<bool>,
    swapping: RefCell<Vec<Duration>>,
    quiet: RefCell<Vec<Duration>>,
}

impl Load {
    fn took(&self, began_swapping: bool, took: Duration) {
        match (began_swapping, self.is_swapping.get()) {
            (true, true) => self.swapping.borrow_mut().push(took),
            (false, false) => self.quiet.borrow_mut().push(took),
            _ => {}
        }
    }
}

async fn client(program: &Program, name: &str) -> (Client, ClientEvents) {
    let configuration = ClientConfiguration::new(&format!("sip:{name}@example.org"), program.sip());
    Client::start(configuration).await.expect("a client")
}

/// Sends one message after the other, each when the one before it arrived, until it is told to stop.
async fn converse(program: &Program, pair: usize, load: &Load) {
    let (alice, _unheard) = client(program, &format!("alice{pair}")).await;
    let (bob, mut events) = client(program, &format!("bob{pair}")).await;
    assert_eq!(bob.register(3_600).await.expect("an answer").status, 200);
    let mut number = 0_u64;
    while !load.is_over.get() {
        number += 1;
        let text = format!("{pair}-{number}");
        let began_swapping = load.is_swapping.get();
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
        let message = in_time(&text, arrived).await;
        assert_eq!(message.text(), Some(text.as_str()), "once, and in order");
        load.took(began_swapping, sent_at.elapsed());
    }
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

/// Phases with and without activations, each over when so many messages went through it.
async fn swap(program: &Program, load: &Load) {
    let mut proposals = proposals(program).await.into_iter().cycle();
    for _ in 0..ACTIVATIONS / PER_PHASE {
        load.is_swapping.set(true);
        for _ in 0..PER_PHASE {
            let proposal = proposals.next().expect("there is always a next one");
            ask(program, "POST", "/tenants/example/policy/activate", "application/json", &proposal).await;
            more(&load.swapping, MESSAGES_PER_ACTIVATION).await;
        }
        load.is_swapping.set(false);
        more(&load.quiet, MESSAGES_PER_QUIET_PHASE).await;
    }
    load.is_over.set(true);
}

/// Waits for so many messages more.
async fn more(latencies: &RefCell<Vec<Duration>>, count: usize) {
    let enough = latencies.borrow().len() + count;
    until("messages go through", || latencies.borrow().len() >= enough).await;
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
    let program = Rc::new(Program::patient(""));
    let served = program.serve().await;
    let load = Rc::<Load>::default();
    let mut conversations = Vec::new();
    for pair in 0..PAIRS {
        let (program, load) = (program.clone(), load.clone());
        conversations.push(tokio::task::spawn_local(async move { converse(&program, pair, &load).await }));
    }
    swap(&program, &load).await;
    for conversation in conversations {
        conversation.await.expect("a conversation");
    }
    let status = program.ask(&["policy", "status", "example", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["active"]["number"], ACTIVATIONS + 1);
    for hook in status["hooks"].as_array().expect("hooks") {
        assert_eq!(hook["undecided"], 0, "no decision was made by half of a policy: {status:#}");
    }
    let (mut swapping, mut quiet) = (load.swapping.take(), load.quiet.take());
    let [swapping, quiet] = [&mut swapping, &mut quiet].map(|of| [percentile(of, 0.5), percentile(of, 0.99)]);
    println!("median and p99: {swapping:?} beside swaps, {quiet:?} without");
    // The median, because a few messages may always have met with what else the machine does.
    assert!(swapping[0] <= quiet[0] * 2 + BUSY, "{swapping:?} beside swaps, {quiet:?} without");
    drop(served);
}
