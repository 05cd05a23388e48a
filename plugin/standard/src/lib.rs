//! The policy that ships with Restante, and the example to start one's own from.
//!
//! A policy is a component with a few functions, the hooks of `wit/policy.wit`. Each has a file here that says in its
//! first lines what it decides:
//!
//! | hook | file |
//! |---|---|
//! | `describe`, `check-settings` | [`settings`] |
//! | `on-incoming` | [`incoming`] |
//! | `on-available` | [`available`], with [`sorting`] and [`plan`] for its two halves |
//! | `on-pull` | [`pull`] |
//! | `on-failure` | [`failure`] |
//! | `on-expiry` | [`expiry`] |
//!
//! Every call runs in an instance of its own: there is nothing to remember, and nothing but the arguments to look at.
//! That makes each hook a plain function from what the host knows to what is to be done, tested as one.

/// What `wit/policy.wit` says, in Rust.
mod bindings {
    wit_bindgen::generate!({
        world: "policy",
        path: "../../wit",
        additional_derives: [PartialEq],
    });
}

mod available;
mod expiry;
mod failure;
mod incoming;
mod plan;
mod pull;
mod settings;
mod sorting;
#[cfg(test)]
mod testing;

use bindings::restante::policy::types::{
    Availability, CheckedSettings, Context, Description, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer,
    HostAbilities, Incoming, IncomingAnswer, Plan, Problem, Pull, PullAnswer,
};
use settings::Settings;

/// The component.
struct Standard;

impl bindings::Guest for Standard {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings_schema: Some(settings::SCHEMA.to_owned()),
        }
    }

    fn check_settings(settings: String, host: HostAbilities) -> Result<CheckedSettings, Vec<Problem>> {
        settings::check(&settings, &host)
    }

    fn on_incoming(context: Context, incoming: Incoming) -> Result<IncomingAnswer, String> {
        let settings = Settings::read(&context.settings)?;
        Ok(incoming::decide(&settings, &context, &incoming))
    }

    fn on_available(context: Context, availability: Availability) -> Result<Plan, String> {
        let settings = Settings::read(&context.settings)?;
        Ok(available::decide(&settings, &context, &availability))
    }

    fn on_pull(_context: Context, pull: Pull) -> Result<PullAnswer, String> {
        Ok(pull::decide(&pull))
    }

    fn on_failure(context: Context, failure: Failure) -> Result<Vec<FailureAnswer>, String> {
        let settings = Settings::read(&context.settings)?;
        Ok(failure::decide(&settings, &context, &failure))
    }

    fn on_expiry(_context: Context, messages: Vec<ExpiringMessage>) -> Result<Vec<ExpiryAnswer>, String> {
        Ok(expiry::decide(&messages))
    }
}

bindings::export!(Standard with_types_in bindings);
