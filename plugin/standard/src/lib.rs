//! The policy that ships with Restante: the SDK's usual way, with the operator's figures, and quotas.
//!
//! | hook | is decided in |
//! |---|---|
//! | `describe`, `check-settings` | [`settings`] |
//! | `on-incoming` | [`incoming`], then `usual/incoming.rs` of the SDK |
//! | `on-available` | `usual/available.rs` |
//! | `on-pull` | `usual/pull.rs` |
//! | `on-failure` | `usual/failure.rs` |
//! | `on-expiry` | `usual/expiry.rs` |
//!
//! Its settings are in other units for the operator than for a decision and may say `"none"`, so it reads them itself
//! and does without the SDK's trait `Policy`. To start a policy of one's own from, see `plugin/examples`.

mod incoming;
mod settings;

use restante_policy_sdk::bindings::{self, Guest};
use restante_policy_sdk::usual;
use restante_policy_sdk::{
    Availability, CheckedSettings, Context, Description, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer,
    HostAbilities, Incoming, IncomingAnswer, Plan, Problem, Pull, PullAnswer,
};
use settings::Settings;

/// The component.
pub struct Standard;

impl Guest for Standard {
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
        Ok(settings.usual(&context).on_available(&context, &availability))
    }

    fn on_pull(_context: Context, pull: Pull) -> Result<PullAnswer, String> {
        Ok(usual::on_pull(&pull))
    }

    fn on_failure(context: Context, failure: Failure) -> Result<Vec<FailureAnswer>, String> {
        let settings = Settings::read(&context.settings)?;
        Ok(settings.usual(&context).on_failure(&context, &failure))
    }

    fn on_expiry(_context: Context, messages: Vec<ExpiringMessage>) -> Result<Vec<ExpiryAnswer>, String> {
        Ok(usual::on_expiry(&messages))
    }
}

bindings::export_guest!(Standard with_types_in bindings);
