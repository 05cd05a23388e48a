//! What a stored message costs the machine: arrival, decision, commit, reply, for recipients who are not there.
//! `cargo bench -p restante-deferral`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use restante_deferral::commit::{Applied, Window};
use restante_deferral::decision::{Answer, IncomingAnswer, Keep};
use restante_deferral::model::{
    Body, CanonicalAddress, Counts, DeduplicationKey, Dispositions, Duration, Envelope, ImdnHeaders, MessageId,
    MessageKind, Mode, RecipientKey, Sender, TenantName, Timestamp, Verification,
};
use restante_deferral::participating_function::{Arrival, Input, Limits, Output, Recipient, ReplyToken};

const RECIPIENTS: u64 = 1000;
const MESSAGES: u64 = 200_000;

fn main() {
    let limits = Arc::new(Limits::default());
    let now = Timestamp(1_700_000_000_000);
    let mut machines: Vec<Recipient> = (0..RECIPIENTS)
        .map(|number| {
            let address = CanonicalAddress(format!("sip:user{number}@example.org").into());
            Recipient::new(RecipientKey { tenant: TenantName("example".into()), address }, Arc::clone(&limits))
        })
        .collect();
    // Made beforehand: the edge pays for these.
    let arrivals: Vec<Box<Arrival>> = (0..MESSAGES).map(arrival).collect();
    let mut accepted = 0_u64;
    let began = Instant::now();
    for (number, arrival) in (0_u64..).zip(arrivals) {
        let index = usize::try_from(number % RECIPIENTS).unwrap_or_default();
        let Some(machine) = machines.get_mut(index) else { continue };
        machine.handle(now, Input::Arrival(arrival));
        while let Some(output) = machine.poll_output() {
            match black_box(output) {
                Output::Load(token, _) => machine.handle(now, Input::Loaded(token, Ok(Box::new(Window::default())))),
                Output::Ask(token, _) => {
                    let expires_at = now.after(Duration::from_secs(3600));
                    let keep = Keep { expires_at, priority: 100, deliver_now: true };
                    machine.handle(now, Input::Answered(token, Ok(Answer::Incoming(IncomingAnswer::Keep(keep)))));
                }
                Output::Commit(token, transaction, _) => {
                    let applied = transaction.changes.iter().map(|_| Applied::Inserted(MessageId(number))).collect();
                    machine.handle(now, Input::Committed(token, Ok(applied)));
                }
                Output::Reply(..) => accepted += 1,
                _ => {}
            }
        }
    }
    let nanoseconds = began.elapsed().as_nanos() / u128::from(MESSAGES);
    println!("{accepted} messages accepted, {nanoseconds} ns each");
}

fn arrival(number: u64) -> Box<Arrival> {
    let mut key = [0_u8; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    Box::new(Arrival {
        reply: ReplyToken(number),
        request: Default::default(),
        deduplication: DeduplicationKey(key),
        deduplication_as_written: None,
        envelope: Envelope {
            kind: MessageKind::Message,
            mode: Mode::Page,
            sender: Sender {
                address: CanonicalAddress("sip:alice@example.org".into()),
                uri: String::from("sip:alice@example.org"),
                verification: Verification::TrustedPeer,
                private: false,
            },
            request_uri: String::from("sip:bob@example.org"),
            headers: vec![(String::from("Conversation-ID"), String::from("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"))],
            content_type: String::from("message/cpim"),
            wrapped_type: Some(String::from("text/plain")),
            imdn: Some(ImdnHeaders {
                message_id: format!("m{number}"),
                dispositions: Dispositions::default(),
                ..ImdnHeaders::default()
            }),
            page_base_bytes: Some(700),
        },
        body: Body::Inline(Bytes::from_static(&[b'x'; 300])),
        expires_at: None,
        sender_counts: Counts::default(),
        tenant_counts: Counts::default(),
        recipient_rates: Counts::default(),
        upstream_failure: None,
        has_room: true,
    })
}
