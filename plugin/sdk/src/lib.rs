//! What a policy for Restante is written with, in Rust.
//!
//! A policy says how messages for people who are away are kept and delivered. It is a type with the trait [`Policy`],
//! and [`export!`] makes a component of it. Everything that it does not say itself is done the usual way.
//!
//! ```
//! use restante_policy_sdk::{Context, Declined, Incoming, IncomingAnswer, Keep, Policy};
//!
//! /// How long messages are kept.
//! #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
//! #[serde(default)]
//! struct Settings {
//!     /// Days that a message is kept.
//!     #[schemars(range(min = 1, max = 365))]
//!     days: u16,
//! }
//!
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Settings { days: 14 }
//!     }
//! }
//!
//! struct Fortnight;
//!
//! impl Policy for Fortnight {
//!     type Settings = Settings;
//!
//!     fn on_incoming(settings: &Settings, context: &Context, _: &Incoming) -> Result<IncomingAnswer, Declined> {
//!         let expires_at = context.after_seconds(u64::from(settings.days) * 86_400);
//!         Ok(Keep::until(expires_at).into())
//!     }
//! }
//!
//! restante_policy_sdk::export!(Fortnight);
//! ```
//!
//! | module | has |
//! |---|---|
//! | [`types`], and this root | what the contract's `wit/policy.wit` says, in Rust, with constructors for answers |
//! | [`usual`] | what happens where a policy has nothing to say, to be used in parts and with other figures |
//! | [`plan`] | [`Planner`], which collects the steps of an answer to `on-available` |
//! | [`settings`] | the operator's settings, from JSON to a type of the policy's own |
//! | [`time`] | the recipient's local time |
//! | [`log`] | lines for the operator: [`debug!`], [`info!`], [`warning!`] |
//! | `testing` | contexts, messages and contacts to try hooks on, in `cargo test` |
//!
//! Every call runs in an instance of its own: there is nothing to remember, and nothing but the arguments to look at.
//! That makes each hook a plain function from what the host knows to what is to be done.

/// What `wit/policy.wit` says, as generated. A policy that does without [`Policy`] implements [`bindings::Guest`] and
/// calls [`bindings::export_guest!`].
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "policy",
        path: "../../wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_guest",
        default_bindings_module: "restante_policy_sdk::bindings",
    });
}

/// Takes memory from what the guest begins with before it lets it grow; how much that is says `.cargo/config.toml`.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

mod answers;
#[doc(hidden)]
pub mod component;
pub mod log;
pub mod plan;
mod policy;
pub mod settings;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod time;
pub mod usual;
mod ways;

pub use bindings::restante::policy::types;
pub use plan::Planner;
pub use policy::{Declined, Policy};
pub use settings::{NoSettings, Problems};
pub use time::{LocalTime, Period, TimeOfDay, Weekday};
pub use types::*;
pub use usual::Usual;
pub use ways::{Sharing, Ways};
