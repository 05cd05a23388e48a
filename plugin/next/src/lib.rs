//! A policy of the contract that exists for the host's tests alone (`host/policy/src/contract/next`): it says what kind of
//! sender a message has, and finds that among the fields of the message.

mod bindings {
    wit_bindgen::generate!({
        world: "restante:policy/policy@0.2.0",
        path: ["../../wit", "../../host/policy/src/contract/next/wit"],
        generate_all,
    });
}

use bindings::restante::policy0_1_0::types::{
    Availability, CheckedSettings, Context, Description, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer,
    HostAbilities, Incoming, IncomingAnswer, Keep, Plan, Problem, Pull, PullAnswer,
};

struct Next;

impl bindings::Guest for Next {
    fn classify(sender: String) -> String {
        if sender.starts_with("sip:") { "a person".to_owned() } else { "a number".to_owned() }
    }

    fn describe() -> Description {
        Description { name: "next".to_owned(), version: "0.1.0".to_owned(), settings_schema: None }
    }

    fn check_settings(_settings: String, _host: HostAbilities) -> Result<CheckedSettings, Vec<Problem>> {
        Ok(CheckedSettings { normalised: Vec::new(), problems: Vec::new() })
    }

    fn on_incoming(context: Context, _incoming: Incoming) -> Result<IncomingAnswer, String> {
        let is_person = context.fields.iter().any(|it| it.name == "sender.class" && it.value == "a person");
        let priority = if is_person { 200 } else { 50 };
        Ok(IncomingAnswer::Keep(Keep { expires_at: context.now.saturating_add(60_000), priority, deliver_now: true }))
    }

    fn on_available(_context: Context, _availability: Availability) -> Result<Plan, String> {
        Ok(Plan { steps: Vec::new(), ask_again_at: None })
    }

    fn on_pull(_context: Context, _pull: Pull) -> Result<PullAnswer, String> {
        Err("not here".to_owned())
    }

    fn on_failure(_context: Context, _failure: Failure) -> Result<Vec<FailureAnswer>, String> {
        Ok(Vec::new())
    }

    fn on_expiry(_context: Context, _messages: Vec<ExpiringMessage>) -> Result<Vec<ExpiryAnswer>, String> {
        Ok(Vec::new())
    }
}

bindings::export!(Next with_types_in bindings);
