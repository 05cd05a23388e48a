//! What a tenant wants when its policy does not decide.

use restante_deferral::decision::{Answer, IncomingAnswer, Plan, PullAnswer, Rejection, Undecided};
use restante_deferral::model::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Hook;

/// How long a sender or client is asked to wait before it tries again.
const RETRY_AFTER_SECONDS: u32 = 60;
/// How long deliveries wait before the policy is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What happens instead, for one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// The server's own answer, which loses nothing.
    #[default]
    Default,
    /// The generation that was active before is asked; when it does not decide either, the server's own answer.
    Previous,
    /// No service until the policy works: a message is refused with 480 and Retry-After, a pull too; deliveries wait and
    /// are asked about again after a minute. What was accepted stays: an expired message goes as the server's own answer
    /// says.
    Refuse,
}

/// By hook, in the order of [`Hook::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailurePolicies {
    hooks: [FailurePolicy; 5],
}

impl FailurePolicies {
    /// The same for every hook.
    #[must_use]
    pub fn all(policy: FailurePolicy) -> FailurePolicies {
        FailurePolicies { hooks: [policy; 5] }
    }

    /// With another one for this hook.
    #[must_use]
    pub fn with(mut self, hook: Hook, policy: FailurePolicy) -> FailurePolicies {
        if let Some(place) = self.hooks.get_mut(hook.index()) {
            *place = policy;
        }
        self
    }

    /// That of this hook.
    #[must_use]
    pub fn of(&self, hook: Hook) -> FailurePolicy {
        self.hooks.get(hook.index()).copied().unwrap_or_default()
    }
}

/// The answer of [`FailurePolicy::Refuse`]; none where the server's own answer is the only one that loses nothing.
pub(super) fn refusal(hook: Hook, now: Timestamp) -> Option<Answer> {
    let rejection = || Rejection {
        status: 480,
        reason: "Temporarily Unavailable".to_owned(),
        retry_after_seconds: Some(RETRY_AFTER_SECONDS),
    };
    match hook {
        Hook::Incoming => Some(Answer::Incoming(IncomingAnswer::Reject(rejection()))),
        Hook::Available => {
            Some(Answer::Available(Plan { steps: Vec::new(), ask_again_at: Some(now.after(ASK_AGAIN)) }))
        }
        Hook::Pull => Some(Answer::Pull(PullAnswer::Refuse(rejection()))),
        // A message without an answer waits.
        Hook::Failure => Some(Answer::Failure(Vec::new())),
        Hook::Expiry => None,
    }
}

/// Whether the guest itself failed, rather than the host's queues or the guest's own `err`.
pub(super) fn is_the_guests_failure(undecided: Undecided) -> bool {
    match undecided {
        Undecided::Trapped | Undecided::TimedOut | Undecided::OutOfMemory | Undecided::Impossible => true,
        Undecided::Declined | Undecided::Overloaded | Undecided::Suspended => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hook_has_its_own() {
        let policies = FailurePolicies::all(FailurePolicy::Previous).with(Hook::Pull, FailurePolicy::Refuse);
        let found = Hook::ALL.map(|hook| policies.of(hook));
        assert_eq!(found.iter().filter(|it| **it == FailurePolicy::Previous).count(), 4);
        assert_eq!(policies.of(Hook::Pull), FailurePolicy::Refuse);
        assert_eq!(FailurePolicies::default().of(Hook::Expiry), FailurePolicy::Default);
    }

    #[test]
    fn refusing_can_be_carried_out_and_never_drops_what_was_accepted() {
        use restante_deferral::decision::validate;
        let now = Timestamp(1_000);
        let Some(Answer::Incoming(answer)) = refusal(Hook::Incoming, now) else { panic!("a refusal") };
        assert_eq!(validate::incoming(&answer, now, true, &[]), Ok(()));
        assert_eq!(refusal(Hook::Expiry, now), None);
        let Some(Answer::Available(plan)) = refusal(Hook::Available, now) else { panic!("a plan") };
        assert_eq!((plan.steps.len(), plan.ask_again_at), (0, Some(Timestamp(61_000))));
    }
}
