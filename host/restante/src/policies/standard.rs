//! The policy in this program, as a tenant's state names it: another program has another one, and that alone is no
//! reason to depose what was activated by command.
//!
//! | what the configuration named, as the state says | and now it is `standard` |
//! |---|---|
//! | the standard policy of this program | the same |
//! | that of another program, which decides | another one |
//! | that of another program, and something else decides, by command | the same: the command stands |
//! | anything else | another one |

use restante_policy::standard::NAME;

use super::library::{Origin, TenantState};

/// What stands before the digest in [`TenantState::configured`] where the configuration says `standard`.
const PREFIX: &str = "standard:";

/// How a state names the policy of a program that has this one.
pub(super) fn identity(digest: &str) -> String {
    format!("{PREFIX}{digest}")
}

/// Whether `standard` is no change, where the state says that the configuration named this and the program has that.
pub(super) fn stays(state: &TenantState, identity: &str, digest: &str) -> bool {
    match digest_of(state, identity) {
        Some(named) => named == digest || !decides_by_configuration(state, named),
        // A file with the same bytes.
        None => identity == digest,
    }
}

/// Whether the configuration named the standard policy of another program than one that has this.
pub(super) fn is_of_another_program(state: &TenantState, digest: &str) -> bool {
    let named = state.configured.as_ref().and_then(|(identity, _)| digest_of(state, identity));
    named.is_some_and(|named| named != digest)
}

fn decides_by_configuration(state: &TenantState, named: &str) -> bool {
    state.active.origin == Origin::Configuration && state.active.digest == named
}

/// The digest in what names a standard policy. States of the first programs have the digest alone: there the name tells
/// that the generation gives itself.
fn digest_of<'a>(state: &TenantState, identity: &'a str) -> Option<&'a str> {
    identity.strip_prefix(PREFIX).or_else(|| {
        let mut named = state.generations().filter(|it| it.origin == Origin::Configuration && it.digest == identity);
        named.any(|it| it.name == NAME).then_some(identity)
    })
}
