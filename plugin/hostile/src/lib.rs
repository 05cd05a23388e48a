//! A policy that misbehaves in the way its settings name. It shows that the host is not harmed; it is not part of the
//! program.
//!
//! The settings are `{"behaviour": "…"}`, for every hook, or `{"behaviour": "…", "when": "…"}` for one of them: `check`
//! (which is `check-settings`), `on-incoming`, `on-available`, `on-pull`, `on-failure`, `on-expiry`. `describe` knows no
//! settings: a test writes its behaviour into the component, over the text behind [`DESCRIBE`].
//!
//! [`misbehave`] is what does not show in an answer, [`answers`] what does. What no compiler emits is in
//! `by-hand/policy.wat`.

#![allow(unsafe_code)]

mod answers;
mod misbehave;

mod bindings {
    wit_bindgen::generate!({ world: "policy", path: "../../wit" });
}

use bindings::restante::policy::types::{
    Availability, CheckedSettings, Context, Description, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer,
    HostAbilities, Incoming, IncomingAnswer, Plan, Problem, Pull, PullAnswer,
};
use misbehave::misbehave;

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
        answers::description(behaviour)
    }

    fn check_settings(settings: String, _host: HostAbilities) -> Result<CheckedSettings, Vec<Problem>> {
        let word = |index| settings.split('"').nth(index).unwrap_or_default();
        let name = if word(1) == "behaviour" { word(3) } else { "good" };
        let when = if word(5) == "when" { word(7) } else { "" };
        if when == "check" {
            misbehave(name);
        }
        answers::checked_settings(name, when)
    }

    fn on_incoming(context: Context, incoming: Incoming) -> Result<IncomingAnswer, String> {
        let name = behaviour(&context, "on-incoming");
        misbehave(name);
        answers::incoming(name, &context, &incoming)
    }

    fn on_available(context: Context, availability: Availability) -> Result<Plan, String> {
        let name = behaviour(&context, "on-available");
        misbehave(name);
        answers::available(name, &availability)
    }

    fn on_pull(context: Context, pull: Pull) -> Result<PullAnswer, String> {
        let name = behaviour(&context, "on-pull");
        misbehave(name);
        answers::pull(name, &pull)
    }

    fn on_failure(context: Context, failure: Failure) -> Result<Vec<FailureAnswer>, String> {
        let name = behaviour(&context, "on-failure");
        misbehave(name);
        answers::failure(name, &failure)
    }

    fn on_expiry(context: Context, messages: Vec<ExpiringMessage>) -> Result<Vec<ExpiryAnswer>, String> {
        let name = behaviour(&context, "on-expiry");
        misbehave(name);
        answers::expiry(name, &messages)
    }
}

/// How this hook behaves: the settings are `BEHAVIOUR` or `BEHAVIOUR@HOOK`.
fn behaviour<'a>(context: &'a Context, hook: &str) -> &'a str {
    let text = std::str::from_utf8(&context.settings).unwrap_or_default();
    match text.split_once('@') {
        Some((name, when)) if when == hook => name,
        Some(_) => "good",
        None => text,
    }
}

bindings::export!(Hostile with_types_in bindings);
