//! Asking a tenant's policy from outside the shards.

use restante_deferral::decision::{Answer, Question, Undecided};
use restante_deferral::model::TenantName;
use restante_policy::record::feasible;
use restante_policy::{Hook, Party};
use tokio::sync::oneshot;

use super::{Policies, PolicyError};
use crate::server::shard::DecisionTicket;

/// Who waits for an answer.
pub enum Asker {
    /// A machine of a shard.
    Machine(DecisionTicket),
    /// Somebody outside, who carries it out himself.
    Outsider(oneshot::Sender<Result<Answer, Undecided>>),
}

impl Policies {
    /// Asks the tenant's policy for somebody outside, as a shard does for its recipients: beside its questions, within the
    /// same limits, counted the same. What the policy fails at then spares it outsiders' questions alone. The question says which tenant. An answer that no server could carry out is none;
    /// the text says why it could not.
    ///
    /// # Errors
    /// There is no such tenant.
    pub async fn decide(&self, question: Question) -> Result<Result<Answer, (Undecided, String)>, PolicyError> {
        let hook = Hook::of(&question);
        let tenant = tenant_of(&question);
        let host = self.managed(&tenant)?.abilities();
        let (asker, answered) = oneshot::channel();
        let outcome = match self.host.submit_for_outsider(Asker::Outsider(asker), question.clone()) {
            // Who decides ends with the server, and then nobody answers.
            Ok(()) => answered.await.unwrap_or(Err(Undecided::Overloaded)),
            Err(_) => Err(Undecided::Overloaded),
        };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(why) => return Ok(Err((why, reason(why).to_owned()))),
        };
        if let Err(impossible) = feasible(&question, &answer, &host) {
            let why = impossible.to_string();
            self.host.note_unusable(&tenant, hook, Party::Outsider, &why);
            return Ok(Err((Undecided::Impossible, why)));
        }
        Ok(Ok(answer))
    }
}

/// Whose policy a question is for.
fn tenant_of(question: &Question) -> TenantName {
    let (Question::Incoming(context, _)
    | Question::Available(context, _)
    | Question::Pull(context, _)
    | Question::Failure(context, _)
    | Question::Expiry(context, _)) = question;
    context.tenant.clone()
}

/// Why there is no answer, in a sentence.
fn reason(undecided: Undecided) -> &'static str {
    match undecided {
        Undecided::Declined => "the policy said that it cannot decide",
        Undecided::Trapped => "the policy trapped",
        Undecided::TimedOut => "the policy did not finish in time",
        Undecided::OutOfMemory => "the policy wanted more memory than it may have",
        Undecided::Overloaded => "too many questions wait",
        Undecided::Impossible => "the answer cannot be carried out",
        Undecided::Suspended => "the policy failed too often lately and is not asked now",
    }
}
