//! What one decision of the standard policy costs: in a fresh instance, with the kernel's help in finding what it wrote and
//! without, as before Linux 6.7; beside the same source compiled natively, and the same rules in Lua with a state that is
//! used again. All of them answer the same, which is checked.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use mlua::{Function, Lua, LuaSerdeExt, SerializeOptions};
use restante_deferral::decision::{Answer, Availability, ContactView, Context, HostAbilities, Plan, Question};
use restante_deferral::decision::{DeliveryStep, RecipientView, Step, Target, Trigger, WaitingMessage};
use restante_deferral::model::{
    Abilities, CanonicalAddress, ContactId, MessageId, MessageKind, QueueTotals, TenantName, Timestamp,
};
use restante_policy::{Generation, Loader, PolicyEngine, PolicyLimits, decide};
use restante_policy_sdk::bindings::Guest;
use restante_policy_sdk::types;
use standard::Standard;

const NOW: u64 = 1_700_000_000_000;
/// Messages that a decision is about.
const COUNTS: [u64; 2] = [1, 50];

/// Measures and prints a table.
pub fn compare() -> Result<()> {
    let with_scan = generation(true)?;
    let without_scan = generation(false)?;
    let native = Native::new()?;
    let lua = Scripted::new()?;
    println!("decision, on-available             1 message   50 messages   µs, the best mean of ten rounds");
    let wasm = |generation: &Arc<Generation>| {
        COUNTS.map(|count| best(&question(count), |question| plan(decide(generation, question))))
    };
    print("fresh instance", wasm(&with_scan))?;
    print("fresh instance, no pagemap scan", wasm(&without_scan))?;
    print("native Rust", COUNTS.map(|count| best(&question(count), |question| native.decide(question))))?;
    print("Lua, one state for all", COUNTS.map(|count| best(&question(count), |question| lua.decide(&question))))?;
    for count in COUNTS {
        let expected = plan(decide(&with_scan, question(count)))?;
        ensure!(native.decide(question(count))? == expected, "native Rust decides otherwise about {count}");
        ensure!(lua.decide(&question(count))? == expected, "Lua decides otherwise about {count}");
    }
    Ok(())
}

fn print(what: &str, micros: [Result<f64>; 2]) -> Result<()> {
    let [one, fifty] = micros;
    println!("  {what:<32} {:>9.2}   {:>11.2}", one?, fifty?);
    Ok(())
}

/// Best mean of several rounds.
fn best(question: &Question, decide: impl Fn(Question) -> Result<Plan>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let count = 1_000;
        let began = Instant::now();
        for _ in 0..count {
            black_box(decide(black_box(question.clone())))?;
        }
        best = best.min(began.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    }
    Ok(best)
}

fn plan(decided: Result<Answer, restante_deferral::decision::Undecided>) -> Result<Plan> {
    match decided {
        Ok(Answer::Available(plan)) => Ok(plan),
        other => Err(anyhow!("no plan: {other:?}")),
    }
}

/// The standard policy with its default settings.
fn generation(pagemap_scan: bool) -> Result<Arc<Generation>> {
    let engine = PolicyEngine::new(PolicyLimits { pagemap_scan, ..PolicyLimits::default() })?;
    Ok(Loader::new(engine, None)?.load(restante_policy::standard::COMPONENT, "{}", &host())?.generation)
}

fn host() -> HostAbilities {
    HostAbilities { max_page_bytes: 1_300, max_message_bytes: 1 << 30, hand_over_targets: Vec::new() }
}

/// The rules in Lua.
struct Scripted {
    lua: Lua,
    on_available: Function,
}

impl Scripted {
    fn new() -> Result<Scripted> {
        let lua = Lua::new();
        lua.load(include_str!("standard.lua")).set_name("standard.lua").exec()?;
        let on_available = lua.globals().get("on_available")?;
        Ok(Scripted { lua, on_available })
    }

    fn decide(&self, question: &Question) -> Result<Plan> {
        let Question::Available(context, availability) = question else { return Err(anyhow!("another hook")) };
        // Plain tables: an array needs no mark to be told from a record when the answer is read.
        let options = SerializeOptions::new().set_array_metatable(false);
        let context = self.lua.to_value_with(context, options)?;
        let availability = self.lua.to_value_with(availability, options)?;
        let plan: mlua::Value = self.on_available.call((context, availability, host().max_page_bytes))?;
        self.lua.from_value(plan).context("standard.lua answers with no plan")
    }
}

/// The source of the component, compiled into this program: the contract's values there and back are part of it, as they
/// are of the component.
struct Native {
    settings: Vec<u8>,
}

impl Native {
    fn new() -> Result<Native> {
        let checked = Standard::check_settings("{}".to_owned(), native_host());
        Ok(Native { settings: checked.map_err(|problems| anyhow!("{problems:?}"))?.normalised })
    }

    fn decide(&self, question: Question) -> Result<Plan> {
        let Question::Available(context, availability) = question else { return Err(anyhow!("another hook")) };
        let context = native_context(context, self.settings.clone());
        let plan = Standard::on_available(context, native_availability(availability));
        Ok(plan_of(plan.map_err(|why| anyhow!(why))?))
    }
}

fn native_host() -> types::HostAbilities {
    let HostAbilities { max_page_bytes, max_message_bytes, hand_over_targets } = host();
    types::HostAbilities { max_page_bytes, max_message_bytes, hand_over_targets }
}

fn native_context(context: Context, settings: Vec<u8>) -> types::Context {
    types::Context {
        now: context.now.0,
        tenant: context.tenant.0.as_ref().to_owned(),
        settings,
        recipient: types::Recipient {
            address: context.recipient.address.0.as_ref().to_owned(),
            aliases: context.recipient.aliases,
            subscriber_class: context.recipient.subscriber_class,
            delivery: None,
            utc_offset_minutes: context.recipient.utc_offset_minutes,
        },
        queue: types::QueueTotals { messages: 0, size_bytes: 0, oldest_received_at: None },
        host: native_host(),
        fields: Vec::new(),
    }
}

fn native_availability(availability: Availability) -> types::Availability {
    let contact = |contact: ContactView| types::Contact {
        id: contact.id.0,
        instance: contact.instance,
        q_permille: contact.q_permille,
        abilities: types::Abilities::PAGE_MODE | types::Abilities::LARGE_MESSAGE_MODE,
        tags: contact.tags,
        last_failure: None,
    };
    let message = |message: WaitingMessage| types::WaitingMessage {
        id: message.id.0,
        sender: message.sender,
        kind: types::MessageKind::Message,
        page_bytes: message.page_bytes,
        size_bytes: message.size_bytes,
        content_type: message.content_type,
        received_at: message.received_at.0,
        expires_at: message.expires_at.0,
        priority: message.priority,
        attempts: message.attempts,
        not_before: None,
        last_failure: None,
        page_refused: message.page_refused,
        large_refused: message.large_refused,
        notified_at: None,
        fetch_deadline: None,
        devices: Vec::new(),
    };
    types::Availability {
        trigger: types::Trigger::Registered,
        contacts: availability.contacts.into_iter().map(contact).collect(),
        messages: availability.messages.into_iter().map(message).collect(),
        not_shown: availability.not_shown,
        can_notify: availability.can_notify,
    }
}

/// Of a plan that delivers, which all of these questions lead to.
fn plan_of(plan: types::Plan) -> Plan {
    let delivery = |step: types::DeliveryStep| DeliveryStep {
        messages: step.messages.into_iter().map(MessageId).collect(),
        target: match step.target {
            types::Target::Any => Target::Any,
            types::Target::Contact(contact) => Target::Contact(ContactId(contact)),
            types::Target::Each => Target::Each,
        },
    };
    let step = |step: types::Step| match step {
        types::Step::Page(step) => Some(Step::Page(delivery(step))),
        types::Step::Session(step) => Some(Step::Session(delivery(step))),
        _ => None,
    };
    Plan { steps: plan.steps.into_iter().filter_map(step).collect(), ask_again_at: plan.ask_again_at.map(Timestamp) }
}

/// Bob is back, and so many messages of five senders wait.
fn question(waiting: u64) -> Question {
    let context = Context {
        now: Timestamp(NOW),
        tenant: TenantName("bench".into()),
        recipient: RecipientView {
            address: CanonicalAddress("sip:bob@example.org".into()),
            aliases: Vec::new(),
            subscriber_class: None,
            delivery: None,
            utc_offset_minutes: None,
        },
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
    let messages = (1..=waiting).map(|id| WaitingMessage {
        id: MessageId(id),
        sender: format!("sip:sender{}@example.org", id % 5),
        kind: MessageKind::Message,
        page_bytes: Some(600),
        size_bytes: 120,
        content_type: "message/cpim".to_owned(),
        received_at: Timestamp(NOW - 1_000_000),
        expires_at: Timestamp(NOW + 100_000_000),
        priority: 100,
        attempts: 0,
        not_before: None,
        last_failure: None,
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        devices: Vec::new(),
    });
    let availability = Availability {
        trigger: Trigger::Registered,
        contacts: vec![contact],
        messages: messages.collect(),
        not_shown: 0,
        can_notify: true,
    };
    Question::Available(context, availability)
}
