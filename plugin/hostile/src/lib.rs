//! A policy that misbehaves in the way its settings name. It shows that the host is not harmed; it is not part of the
//! program.
//!
//! The settings are `{"behaviour": "…"}` or, for what is to happen in `check-settings` already,
//! `{"behaviour": "…", "when": "check"}`. `describe` knows no settings: a test writes its behaviour into the component, over
//! the text behind [`DESCRIBE`].

#![allow(unsafe_code)]

mod bindings {
    wit_bindgen::generate!({ world: "policy", path: "../../wit" });
}

use std::hint::black_box;

use bindings::restante::policy::log::{Level, log};
use bindings::restante::policy::types::{
    Availability, CheckedSettings, Context, DeliveryStep, Description, ExpiringMessage, ExpiryAnswer, Failure,
    FailureAction, FailureAnswer, HostAbilities, Incoming, IncomingAnswer, Keep, Plan, Problem, Pull, PullAnswer,
    Rejection, Step, Target,
};

struct Hostile;

/// How `describe` behaves; filled up with dots.
static DESCRIBE: [u8; 32] = *b"describe:good...................";

impl bindings::Guest for Hostile {
    fn describe() -> Description {
        // SAFETY: a valid, aligned static; volatile because it is not what the compiler saw.
        let text = unsafe { std::ptr::read_volatile(&raw const DESCRIBE) };
        let text = String::from_utf8_lossy(&text).into_owned();
        let behaviour = text.trim_start_matches("describe:").trim_end_matches('.');
        misbehave(behaviour);
        Description {
            name: match behaviour {
                "no-name" => String::new(),
                "long-name" => "x".repeat(101),
                "control" => "a\u{1b}[31mb".to_owned(),
                _ => "hostile".to_owned(),
            },
            version: if behaviour == "long-version" { "x".repeat(101) } else { String::new() },
            settings_schema: hostile_schema(behaviour),
        }
    }

    fn check_settings(settings: String, _host: HostAbilities) -> Result<CheckedSettings, Vec<Problem>> {
        let name = settings.split('"').nth(3).unwrap_or("good").to_owned();
        if settings.contains("\"when\"") {
            misbehave(&name);
        }
        let size = if name == "vast-settings" { 65_537 } else { 0 };
        let normalised = if size > 0 { vec![0; size] } else { name.into_bytes() };
        Ok(CheckedSettings { normalised, problems: Vec::new() })
    }

    fn on_incoming(context: Context, incoming: Incoming) -> Result<IncomingAnswer, String> {
        let name = String::from_utf8_lossy(&context.settings).into_owned();
        misbehave(&name);
        let expires_at = context.now + incoming.size_bytes.unwrap_or(1);
        match name.as_str() {
            "err" => Err("cannot decide".to_owned()),
            "long-err" => Err("x".repeat(100_000)),
            // A refusal that is none.
            "impossible" => Ok(IncomingAnswer::Reject(Rejection {
                status: 200,
                reason: "OK".to_owned(),
                retry_after_seconds: None,
            })),
            "remember" => Ok(IncomingAnswer::Discard(remembered().to_string())),
            _ => Ok(IncomingAnswer::Keep(Keep { expires_at, priority: 100, deliver_now: true })),
        }
    }

    fn on_available(context: Context, _availability: Availability) -> Result<Plan, String> {
        let name = String::from_utf8_lossy(&context.settings).into_owned();
        misbehave(&name);
        match name.as_str() {
            "err" => Err("cannot decide".to_owned()),
            "long-err" => Err("x".repeat(100_000)),
            // A message that nobody has.
            "impossible" => {
                let nobodys = DeliveryStep { messages: vec![u64::MAX], target: Target::Any };
                Ok(Plan { steps: vec![Step::Page(nobodys)], ask_again_at: None })
            }
            _ => Ok(Plan { steps: Vec::new(), ask_again_at: None }),
        }
    }

    fn on_pull(_context: Context, _pull: Pull) -> Result<PullAnswer, String> {
        Err("no".to_owned())
    }

    fn on_failure(context: Context, _failure: Failure) -> Result<Vec<FailureAnswer>, String> {
        match context.settings.as_slice() {
            b"aliased-strings" => Ok(aliased_strings(1 << 20, 128)),
            b"giant-list" => Ok(vec![FailureAnswer { message: 1, action: FailureAction::Wait }; 20_000]),
            _ => Ok(Vec::new()),
        }
    }

    fn on_expiry(_context: Context, _messages: Vec<ExpiringMessage>) -> Result<Vec<ExpiryAnswer>, String> {
        Ok(Vec::new())
    }
}

fn hostile_schema(behaviour: &str) -> Option<String> {
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

/// Returns only from the behaviours that show in the answer.
fn misbehave(name: &str) {
    match name {
        "endless-loop" => loop {
            black_box(());
        },
        "burn-then-answer" => burn(),
        "memory-bomb" => memory_bomb(),
        "trap" => core::arch::wasm32::unreachable(),
        "recursion" => {
            black_box(recurse(1));
        }
        "log-flood" => {
            for line in 0..10_000 {
                log(Level::Info, &format!("line {line}"));
            }
        }
        "log-long" => log(Level::Warning, &"x".repeat(60_000)),
        "log-control" => log(Level::Debug, "a\u{1b}[31m\r\nb\0c\u{202e}d"),
        _ => {}
    }
}

/// A few milliseconds of work.
fn burn() {
    let mut sum = 0_u64;
    for step in 0..10_000_000_u64 {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(step));
    }
}

fn memory_bomb() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth.wrapping_add(1)).wrapping_add(frame[depth as usize % 64])
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

bindings::export!(Hostile with_types_in bindings);
