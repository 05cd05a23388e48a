//! Answers that nobody can carry out, or that are too much, or at the end of what a field can say.

use std::hint::black_box;

use crate::bindings::restante::policy::types::{
    AfterDeadline, Availability, CheckedSettings, Context, DeliveryStep, Description, DiscardStep, ExpiringMessage,
    ExpiryAction, ExpiryAnswer, Failure, FailureAction, FailureAnswer, HandOverStep, HoldStep, Incoming,
    IncomingAnswer, Keep, Mode, NotifyStep, Plan, Problem, Pull, PullAnswer, PullDelivery, Rejection, Relay, Retry,
    Severity, Step, Target,
};

const DAY_MILLISECONDS: u64 = 86_400_000;
/// What no message has, nor any contact.
const NOBODYS: u64 = u64::MAX;

pub fn description(behaviour: &str) -> Description {
    Description {
        name: match behaviour {
            "no-name" => String::new(),
            "long-name" => "x".repeat(101),
            "control" => "a\u{1b}[31mb".to_owned(),
            _ => "hostile".to_owned(),
        },
        version: if behaviour == "long-version" { "x".repeat(101) } else { String::new() },
        settings_schema: schema(behaviour),
    }
}

fn schema(behaviour: &str) -> Option<String> {
    match behaviour {
        "long-schema" => Some(format!("{{\"title\":\"{}\"}}", "x".repeat(65_536))),
        "vast-schema" => Some("x".repeat(1 << 20)),
        "deep-schema" => Some("[".repeat(30_000) + &"]".repeat(30_000)),
        "not-json" => Some("{title: 1}".to_owned()),
        "not-a-schema" => Some("[1]".to_owned()),
        "control" => Some("{\"title\": \"a\u{202e}b\"}".to_owned()),
        _ => None,
    }
}

pub fn checked_settings(name: &str, when: &str) -> Result<CheckedSettings, Vec<Problem>> {
    let problem = |text: &str| Problem {
        pointer: format!("/{}", text.repeat(1_000)),
        severity: Severity::Warning,
        text: text.repeat(1_000),
    };
    if name == "refuse-at-length" {
        return Err(vec![problem("\u{1b}[31m"); 10]);
    }
    let normalised = match (name, when) {
        ("vast-settings", _) => vec![0; 65_537],
        (_, "") => name.as_bytes().to_vec(),
        _ => format!("{name}@{when}").into_bytes(),
    };
    let count = if name == "many-problems" { 10_000 } else { 0 };
    Ok(CheckedSettings { normalised, problems: vec![problem(""); count] })
}

pub fn incoming(name: &str, context: &Context, incoming: &Incoming) -> Result<IncomingAnswer, String> {
    let keep = |expires_at| Keep { expires_at, priority: 100, deliver_now: true };
    let refusal = |status, reason: &str, retry_after_seconds| {
        Ok(IncomingAnswer::Reject(Rejection { status, reason: reason.to_owned(), retry_after_seconds }))
    };
    Ok(match name {
        "err" => return Err("cannot decide".to_owned()),
        "long-err" => return Err("x".repeat(100_000)),
        "long-discard" => IncomingAnswer::Discard("\u{1}".repeat(60_000)),
        "remember" => IncomingAnswer::Discard(remembered().to_string()),
        // A refusal that is none.
        "impossible" => return refusal(200, "OK", None),
        "highest" => IncomingAnswer::Keep(Keep { expires_at: u64::MAX, priority: u8::MAX, deliver_now: true }),
        "lowest" => IncomingAnswer::Keep(Keep { expires_at: 0, priority: 0, deliver_now: false }),
        "not-a-number" => IncomingAnswer::Keep(keep(not_a_number())),
        "negative" => IncomingAnswer::Keep(keep(black_box(-1.0_f64) as u64)),
        "highest-relay" => IncomingAnswer::Relay(Relay {
            deadline_milliseconds: u32::MAX,
            contacts: Vec::new(),
            otherwise: keep(u64::MAX),
        }),
        "lowest-relay" => {
            IncomingAnswer::Relay(Relay { deadline_milliseconds: 0, contacts: Vec::new(), otherwise: keep(u64::MAX) })
        }
        "highest-refusal" => return refusal(u16::MAX, "", Some(u32::MAX)),
        "lowest-refusal" => return refusal(0, "", Some(0)),
        "refusal-of-the-hosts" => return refusal(503, "", Some(1)),
        "long-reason" => return refusal(480, &"x".repeat(10_000), None),
        "smuggled-header" => return refusal(480, "No\r\nContact: <sip:mallory@example.net>", None),
        "unknown-target" => IncomingAnswer::HandOver("nobody".to_owned()),
        "long-target" => IncomingAnswer::HandOver("x".repeat(10_000)),
        "aliased-strings" => IncomingAnswer::HandOver("x".repeat(1 << 20)),
        _ => IncomingAnswer::Keep(keep(context.now + DAY_MILLISECONDS + incoming.size_bytes.unwrap_or(1))),
    })
}

pub fn available(name: &str, availability: &Availability) -> Result<Plan, String> {
    let shown: Vec<u64> = availability.messages.iter().map(|message| message.id).collect();
    let hold = |messages, until| Step::Hold(HoldStep { messages, until });
    let page = |messages, target| Step::Page(DeliveryStep { messages, target });
    let plan = |steps| Ok(Plan { steps, ask_again_at: None });
    match name {
        "err" => Err("cannot decide".to_owned()),
        "long-err" => Err("x".repeat(100_000)),
        "impossible" | "unknown-message" => plan(vec![page(vec![NOBODYS], Target::Any)]),
        "unknown-contact" => plan(vec![page(shown, Target::Contact(NOBODYS))]),
        // Of other recipients, wherever they are.
        "others-messages" => {
            let others = (1..=50).filter(|id| !shown.contains(id)).collect();
            plan(vec![Step::Discard(DiscardStep { messages: others, report: false })])
        }
        "same-twice" => plan(vec![page([shown.as_slice(), &shown].concat(), Target::Any)]),
        "same-in-two-steps" => plan(vec![page(shown.clone(), Target::Any), hold(shown, None)]),
        "same-many-times" => plan(vec![page(vec![shown.first().copied().unwrap_or(1); 5_000], Target::Any)]),
        "ten-thousand-steps" => plan(vec![hold(Vec::new(), None); 10_000]),
        "hundreds-of-steps" => plan(vec![hold(Vec::new(), None); 200]),
        "giant-list" => plan(vec![hold(vec![1; 1_000_000], None)]),
        "aliased-strings" => Ok(Plan { steps: aliased_steps(100_000), ask_again_at: None }),
        "unknown-target" => plan(vec![Step::HandOver(HandOverStep { messages: shown, target: "nobody".to_owned() })]),
        "highest" => Ok(Plan { steps: vec![hold(shown, Some(u64::MAX))], ask_again_at: Some(u64::MAX) }),
        "lowest" => Ok(Plan { steps: vec![hold(shown, Some(0))], ask_again_at: Some(0) }),
        "highest-deadline" => plan(vec![notify(shown, u64::MAX)]),
        "lowest-deadline" | "not-a-number" | "negative" => plan(vec![notify(shown, not_a_number())]),
        _ => plan(vec![page(shown, Target::Any)]),
    }
}

pub fn pull(name: &str, pull: &Pull) -> Result<PullAnswer, String> {
    let shown: Vec<u64> = pull.messages.iter().map(|message| message.id).collect();
    let send = |messages, mode| Ok(PullAnswer::Send(PullDelivery { messages, mode, keep_copy: true }));
    let refuse = |status, reason: String, retry_after_seconds| {
        Ok(PullAnswer::Refuse(Rejection { status, reason, retry_after_seconds }))
    };
    match name {
        "long-err" => Err("x".repeat(100_000)),
        "impossible" | "unknown-message" => send(vec![NOBODYS], Mode::Large),
        "others-messages" => send((1..=50).filter(|id| !shown.contains(id)).collect(), Mode::Large),
        "same-twice" => send([shown.as_slice(), &shown].concat(), Mode::Large),
        "giant-list" => send(vec![1; 1_000_000], Mode::Large),
        "aliased-strings" => refuse(480, "x".repeat(1 << 20), None),
        "highest" => refuse(u16::MAX, String::new(), Some(u32::MAX)),
        "lowest" => refuse(0, String::new(), Some(0)),
        "smuggled-header" => refuse(480, "No\r\nContact: <sip:mallory@example.net>".to_owned(), None),
        "err" => Err("no".to_owned()),
        _ => send(shown, Mode::Large),
    }
}

pub fn failure(name: &str, failure: &Failure) -> Result<Vec<FailureAnswer>, String> {
    let all = |action: FailureAction| {
        let answer = |failed: &_| FailureAnswer { message: failed_id(failed), action: action.clone() };
        Ok(failure.messages.iter().map(answer).collect())
    };
    let retry = |after_milliseconds, contact| FailureAction::Retry(Retry { after_milliseconds, mode: None, contact });
    match name {
        "aliased-strings" => Ok(aliased_strings(1 << 16, 100_000)),
        "giant-list" => Ok(vec![FailureAnswer { message: 1, action: FailureAction::Wait }; 20_000]),
        "err" => Err("no".to_owned()),
        "long-err" => Err("x".repeat(100_000)),
        "impossible" | "unknown-message" => Ok(vec![FailureAnswer { message: NOBODYS, action: FailureAction::Wait }]),
        "same-twice" => Ok(failure
            .messages
            .iter()
            .chain(&failure.messages)
            .map(|failed| FailureAnswer { message: failed_id(failed), action: FailureAction::Wait })
            .collect()),
        "highest" => all(retry(u64::MAX, Some(NOBODYS))),
        "lowest" => all(retry(0, Some(0))),
        "highest-deadline" => all(FailureAction::Notify(u64::MAX)),
        "lowest-deadline" | "not-a-number" | "negative" => all(FailureAction::Notify(not_a_number())),
        "unknown-target" => all(FailureAction::HandOver("nobody".to_owned())),
        _ => Ok(Vec::new()),
    }
}

pub fn expiry(name: &str, messages: &[ExpiringMessage]) -> Result<Vec<ExpiryAnswer>, String> {
    let all = |action: ExpiryAction| {
        let answer = |it: &ExpiringMessage| ExpiryAnswer { message: it.message.id, action: action.clone() };
        Ok(messages.iter().map(answer).collect())
    };
    let discard = |message| ExpiryAnswer { message, action: ExpiryAction::Drop(true) };
    match name {
        "err" => Err("no".to_owned()),
        "long-err" => Err("x".repeat(100_000)),
        "impossible" | "unknown-message" => Ok(vec![discard(NOBODYS)]),
        "others-messages" => Ok((1..=50).map(discard).collect()),
        "same-twice" => Ok(messages.iter().chain(messages).map(|it| discard(it.message.id)).collect()),
        "giant-list" => Ok(vec![discard(1); 100_000]),
        "highest" => all(ExpiryAction::Extend(u64::MAX)),
        "lowest" | "not-a-number" | "negative" => all(ExpiryAction::Extend(not_a_number())),
        "unknown-target" => all(ExpiryAction::HandOver("nobody".to_owned())),
        _ => Ok(Vec::new()),
    }
}

fn notify(messages: Vec<u64>, fetch_deadline: u64) -> Step {
    Step::Notify(NotifyStep { messages, fetch_deadline, afterwards: AfterDeadline::Ask })
}

fn failed_id(failed: &crate::bindings::restante::policy::types::FailedMessage) -> u64 {
    failed.message.id
}

/// What becomes of it in a cast: the earliest of times.
fn not_a_number() -> u64 {
    black_box(f64::NAN) as u64
}

/// How often this instance was called before.
fn remembered() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

/// One buffer that many strings of the answer share: little memory here, much in a host that copies each.
fn aliased_strings(size: usize, count: usize) -> Vec<FailureAnswer> {
    let buffer: &'static mut [u8] = vec![b'x'; size].leak();
    let pointer = buffer.as_mut_ptr();
    (0..count)
        .map(|_| {
            // SAFETY: not sound, on purpose. The strings are only read by the host, and the instance ends before they
            // are freed.
            let target = unsafe { String::from_raw_parts(pointer, size, size) };
            FailureAnswer { message: 1, action: FailureAction::HandOver(target) }
        })
        .collect()
}

/// The same with one list of ids, in so many steps.
fn aliased_steps(count: usize) -> Vec<Step> {
    let ids: &'static mut [u64] = vec![1_u64; 10_000].leak();
    let pointer = ids.as_mut_ptr();
    (0..count)
        .map(|_| {
            // SAFETY: as above.
            let messages = unsafe { Vec::from_raw_parts(pointer, 10_000, 10_000) };
            Step::Hold(HoldStep { messages, until: None })
        })
        .collect()
}
