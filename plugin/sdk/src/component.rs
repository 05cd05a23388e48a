//! From the contract's functions to a [`Policy`]. Called by [`export!`](crate::export).

use crate::policy::Policy;
use crate::settings;
use crate::types::{
    Availability, CheckedSettings, Context, Description, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer,
    HostAbilities, Incoming, IncomingAnswer, Plan, Problem, Pull, PullAnswer,
};

/// Makes a component of a type with the trait [`Policy`](crate::Policy). Its name and version are those of the crate.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        const _: () = {
            use $crate::component;
            use $crate::types;

            struct Exported;

            impl $crate::bindings::Guest for Exported {
                fn describe() -> types::Description {
                    component::describe::<$policy>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
                }

                fn check_settings(
                    settings: String,
                    host: types::HostAbilities,
                ) -> Result<types::CheckedSettings, Vec<types::Problem>> {
                    component::check_settings::<$policy>(&settings, &host)
                }

                fn on_incoming(
                    context: types::Context,
                    incoming: types::Incoming,
                ) -> Result<types::IncomingAnswer, String> {
                    component::on_incoming::<$policy>(&context, &incoming)
                }

                fn on_available(
                    context: types::Context,
                    availability: types::Availability,
                ) -> Result<types::Plan, String> {
                    component::on_available::<$policy>(&context, &availability)
                }

                fn on_pull(context: types::Context, pull: types::Pull) -> Result<types::PullAnswer, String> {
                    component::on_pull::<$policy>(&context, &pull)
                }

                fn on_failure(
                    context: types::Context,
                    failure: types::Failure,
                ) -> Result<Vec<types::FailureAnswer>, String> {
                    component::on_failure::<$policy>(&context, &failure)
                }

                fn on_expiry(
                    context: types::Context,
                    messages: Vec<types::ExpiringMessage>,
                ) -> Result<Vec<types::ExpiryAnswer>, String> {
                    component::on_expiry::<$policy>(&context, &messages)
                }
            }

    $crate::bindings::export_guest!(Exported with_types_in $crate::bindings);
        };
    };
}

pub fn describe<P: Policy>(name: &str, version: &str) -> Description {
    Description {
        name: name.to_owned(),
        version: version.to_owned(),
        settings_schema: Some(settings::schema::<P::Settings>().to_string()),
    }
}

pub fn check_settings<P: Policy>(text: &str, host: &HostAbilities) -> Result<CheckedSettings, Vec<Problem>> {
    let (_, checked) = settings::check::<P>(text, host)?;
    Ok(checked)
}

pub fn on_incoming<P: Policy>(context: &Context, incoming: &Incoming) -> Result<IncomingAnswer, String> {
    P::on_incoming(&read::<P>(context)?, context, incoming).map_err(|declined| declined.0)
}

pub fn on_available<P: Policy>(context: &Context, availability: &Availability) -> Result<Plan, String> {
    P::on_available(&read::<P>(context)?, context, availability).map_err(|declined| declined.0)
}

pub fn on_pull<P: Policy>(context: &Context, pull: &Pull) -> Result<PullAnswer, String> {
    P::on_pull(&read::<P>(context)?, context, pull).map_err(|declined| declined.0)
}

pub fn on_failure<P: Policy>(context: &Context, failure: &Failure) -> Result<Vec<FailureAnswer>, String> {
    P::on_failure(&read::<P>(context)?, context, failure).map_err(|declined| declined.0)
}

pub fn on_expiry<P: Policy>(context: &Context, messages: &[ExpiringMessage]) -> Result<Vec<ExpiryAnswer>, String> {
    P::on_expiry(&read::<P>(context)?, context, messages).map_err(|declined| declined.0)
}

fn read<P: Policy>(context: &Context) -> Result<P::Settings, String> {
    settings::read(&context.settings)
}
