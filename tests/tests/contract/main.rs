//! Whatever the contract offers a policy, the host does: told with a policy that answers as its settings say.

mod arrivals;
mod availability;
mod pulls;

use restante_tests::{Setting, guest, setting};

/// A tenant whose policy answers so.
fn scripted(settings: &str) -> Setting {
    setting().tenant(|tenant| tenant.policy = guest("scripted")).settings(settings)
}

/// The same with a hand-over target `elsewhere`, at an address that is known before the story.
fn with_target(settings: &str, target: std::net::SocketAddr) -> Setting {
    scripted(settings).tenant(move |tenant| {
        tenant.hand_over.insert("elsewhere".to_owned(), format!("sip:{target}"));
    })
}
