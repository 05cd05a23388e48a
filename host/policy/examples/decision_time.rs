//! Prints what one decision of the standard policy costs, with and without the kernel's help in wiping memory.
//!
//! `cargo run --release -p restante-policy --example decision_time`

use std::hint::black_box;
use std::time::Instant;

use restante_deferral::decision::{
    Availability, ContactView, Context, HostAbilities, Question, Trigger, WaitingMessage,
};
use restante_deferral::model::{
    Abilities, CanonicalAddress, ContactId, MessageId, MessageKind, Profile, QueueTotals, RecipientKey, TenantName,
    Timestamp,
};
use restante_policy::{Loader, PolicyEngine, PolicyLimits, decide};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for pagemap_scan in [true, false] {
        let engine = PolicyEngine::new(PolicyLimits { pagemap_scan, ..PolicyLimits::default() })?;
        let loader = Loader::new(engine, None)?;
        let host = HostAbilities { max_page_bytes: 1_300, max_message_bytes: 1 << 30, hand_over_targets: Vec::new() };
        let generation = loader.load(restante_policy::standard::COMPONENT, "{}", &host)?.generation;
        for messages in [1, 50] {
            let question = question(messages);
            let mut best = f64::INFINITY;
            for _ in 0..20 {
                let count = 1_000;
                let started_at = Instant::now();
                for _ in 0..count {
                    black_box(decide(&generation, black_box(question.clone()))).map_err(|why| format!("{why:?}"))?;
                }
                best = best.min(started_at.elapsed().as_secs_f64() * 1e6 / f64::from(count));
            }
            println!("pagemap scan {pagemap_scan:5}  {messages:2} messages  {best:6.1} µs per decision");
        }
    }
    Ok(())
}

fn question(messages: u64) -> Question {
    let context = Context {
        now: Timestamp(1_700_000_000_000),
        recipient: RecipientKey {
            tenant: TenantName("example".into()),
            address: CanonicalAddress("sip:bob@example.org".into()),
        },
        profile: Profile::default(),
        queue: QueueTotals::default(),
        fields: Vec::new(),
    };
    let contact = ContactView {
        id: ContactId(1),
        instance: Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned()),
        q_permille: 1_000,
        abilities: Abilities { page_mode: true, large_message_mode: true, ..Abilities::default() },
        tags: Vec::new(),
        last_failure: None,
    };
    let availability = Availability {
        trigger: Trigger::Registered,
        contacts: vec![contact],
        messages: (1..=messages).map(waiting).collect(),
        not_shown: 0,
        can_notify: true,
    };
    Question::Available(context, availability)
}

fn waiting(id: u64) -> WaitingMessage {
    WaitingMessage {
        id: MessageId(id),
        sender: format!("sip:sender{}@example.org", id % 5),
        kind: MessageKind::Message,
        page_bytes: Some(600),
        size_bytes: 120,
        content_type: "message/cpim".to_owned(),
        received_at: Timestamp(1_699_999_000_000),
        expires_at: Timestamp(1_700_100_000_000),
        priority: 100,
        attempts: 0,
        not_before: None,
        last_failure: None,
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        devices: Vec::new(),
    }
}
