//! Requests that are passed on: [`restante_sip::proxy::ResponseContext`] decides, this carries it out.
//!
//! | what is passed on | to | what comes of it |
//! |---|---|---|
//! | an INVITE that is no large message (`calls`) | the next Route, else every contact that takes INVITE, by q | goes back to the caller |
//! | an INVITE with a large message (`calls`) | every contact that takes INVITE, by q | 2xx goes back; else it is taken over |
//! | a MESSAGE (`messages`) | every contact that is free and takes it, by q | the recipient's machine hears of it |
//! | what we sent ourselves and a core brought back (`forward`) | one way | goes back |
//! | a request in a dialog that passes by here (`dialogs`) | one way | goes back |
//!
//! `branches` sends to each target, `answers` passes back what comes of that.
//!
//! Requests that are not in a dialog keep no state here once they are answered, but for the answers that may still come
//! ([`ANSWERS_MAY_COME`]); dialogs keep none at all.

mod answers;
mod branches;
mod calls;
mod dialogs;
mod messages;
mod preferences;

pub(super) use self::answers::hidden_from;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use restante_deferral::model::{ContactId, Origin, RecipientKey};
use restante_deferral::participating_function::AttemptId;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::proxy::{
    Action, BranchId, ContextSettings, OwnRoutes, Refusal, ResponseContext, TakeOver, breadth_of_each, loop_key,
    validate,
};
use restante_sip::transaction::{ClientTransactionId, Flow, ServerTransactionId};

use super::requests::SUPPORTED;
use super::session::ANSWERS_MAY_COME;
use super::{Now, Shard};
use crate::server::media::MediaId;
use crate::server::openings::Opening;

/// What a transaction has longer than the context to end: 64·T1, since what is cancelled may never be answered.
const LONGER_THAN_CONTEXT: Duration = Duration::from_secs(40);

/// Names a relay within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RelayId(u64);

/// Where a request came from, as long as it is passed on: its transaction, and its connection, may be gone before its
/// last branch begins.
#[derive(Clone, Copy)]
struct Came {
    flow: Flow,
    /// That is a peer whose word counted then.
    is_vouched_for: bool,
}

/// A request that is passed on.
pub(super) struct Relay {
    context: ResponseContext,
    server: ServerTransactionId,
    came: Came,
    method: Method,
    request: SipMessage,
    own: OwnRoutes,
    /// Its topmost Via as received.
    stamped: String,
    /// What its branches end with.
    mark: String,
    max_breadth: u32,
    branches: Vec<Branch>,
    errand: Errand,
    /// Its part of what the caller may have open.
    opening: Option<Opening>,
    /// Its entry among the shard's wake-ups.
    scheduled: Option<Instant>,
    /// It is over, and its entry says when it is forgotten.
    is_ending: bool,
}

/// One way of it.
struct Branch {
    target: Target,
    client: Option<ClientTransactionId>,
    /// What was sent, and where.
    sent: Option<(Bytes, Flow)>,
    hop: Option<SocketAddr>,
    is_device: bool,
    is_cancelled: bool,
    /// Its final answer.
    status: Option<u16>,
    /// What it asserts counts.
    is_trusted: bool,
    /// Our own in the request, the caller's side first.
    record_routes: Vec<String>,
    /// What came of it: none while it is not over.
    end: Option<BranchEnd>,
}

/// How a branch ended.
#[derive(Clone, Copy, Debug)]
struct BranchEnd {
    status: Option<u16>,
    origin: Origin,
    retry_after_seconds: Option<u32>,
}

/// Where a branch goes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// To a contact, as it is reached when it is this branch's turn.
    Contact {
        key: RecipientKey,
        contact: ContactId,
        /// Another flow of the device of this branch: it is not tried when the device answered there (RFC 5626 §7).
        follows: Option<BranchId>,
        /// The caller asked not to be named (RFC 3325 §7).
        is_private: bool,
        /// The caller showed credentials here: they do not go on, nor does what it asserts itself.
        is_user: bool,
        /// Where the caller came from, if what follows in the dialog may have to come here.
        record: Option<Flow>,
    },
    /// This way, whatever is registered.
    Way(Way),
}

impl Target {
    fn follows(&self) -> Option<BranchId> {
        match self {
            Target::Contact { follows, .. } => *follows,
            Target::Way(_) => None,
        }
    }
}

/// The way of one branch.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) flow: Flow,
    pub(super) request_uri: String,
    /// All of them, the next hop's first; to a contact also what is left of the request's own.
    pub(super) routes: Vec<String>,
    pub(super) record_routes: Vec<String>,
    pub(super) hidden: Vec<Name>,
    pub(super) is_device: bool,
    /// To where a client was seen, and it may not be reached otherwise.
    pub(super) is_where_seen: bool,
    /// Who answers may assert who it is (RFC 3325 §5).
    pub(super) is_trusted: bool,
}

/// What a relay is for.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// Its answers go back, whatever they are.
    Pass,
    /// Ours to take over: the session of a large message that waits for its answer.
    Invitation(MediaId),
    /// A machine's attempt, which is answered by the machine.
    Attempt { key: RecipientKey, attempt: AttemptId },
}

/// What a request needs to be passed on.
pub(super) struct Passage {
    pub(super) own: OwnRoutes,
    mark: String,
    is_vouched_for: bool,
}

impl Shard {
    /// Whether a request may be passed on (RFC 3261 §16.3), and what is left of its Route. `is_vouched_for`: it comes
    /// from a peer that the tenant whom it concerns trusts, and not from one that is trusted by another alone.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn passage(&mut self, request: &SipMessage, is_vouched_for: bool) -> Result<Passage, Refusal> {
        let own = self.without_own_routes(request);
        let mark = self.endpoint.identifiers().loop_mark(&loop_key(request, &own));
        validate(request, &mark, &SUPPORTED)?;
        Ok(Passage { own, mark, is_vouched_for })
    }

    pub(super) fn refuse_passage(&mut self, now: Now, transaction: ServerTransactionId, refusal: &Refusal) {
        let unsupported = match refusal {
            Refusal::BadExtension(tags) => Some(tags.as_str()),
            _ => None,
        };
        self.answer_with(now, transaction, refusal.status(), |builder| builder.optional("Unsupported", unsupported));
    }

    /// Passes a request on to targets, with the q of each in thousandths. None: nothing was begun; the caller was
    /// answered where it is nobody else's to answer.
    pub(super) fn relay(
        &mut self,
        now: Now,
        server: ServerTransactionId,
        passage: Passage,
        targets: Vec<(u16, Target)>,
        errand: Errand,
        take_over: Option<TakeOver>,
    ) -> Option<RelayId> {
        if self.relays.len() as u64 >= self.shared.limits.max_relays {
            if matches!(errand, Errand::Pass) {
                self.answer_with(now, server, 503, |builder| builder.field("Retry-After", "5"));
            }
            return None;
        }
        let request = self.endpoint.request(server).cloned()?;
        let method = request.method()?;
        let stamped = self.endpoint.stamped_via(server)?.to_owned();
        let came = self.endpoint.came_from(server)?;
        // Those of one q are begun at once, each with what takes its place; the others follow one after the other.
        let firsts: Vec<u16> = targets.iter().filter(|(_, it)| it.follows().is_none()).map(|(q, _)| *q).collect();
        let at_once = firsts.iter().map(|q| firsts.iter().filter(|other| *other == q).count()).max();
        let each = match breadth_of_each(&request, at_once.unwrap_or(0)) {
            Ok(each) => each,
            Err(refusal) => {
                if matches!(errand, Errand::Pass) {
                    self.refuse_passage(now, server, &refusal);
                }
                return None;
            }
        };
        // In a dialog there is no core that would go on without us.
        let begins_dialog = request.to().is_ok_and(|to| to.tag().is_none());
        let settings = ContextSettings {
            is_invite: method == Method::Invite,
            timer_c: self.timer_c(),
            first_word: begins_dialog.then(|| self.most_without_a_word()),
            take_over,
        };
        let places: Vec<_> = targets.iter().map(|(q_permille, target)| (*q_permille, target.follows())).collect();
        let (context, actions) = ResponseContext::new(now.monotonic, &places, settings);
        let branch = |(_, target)| Branch {
            target,
            client: None,
            sent: None,
            hop: None,
            is_device: false,
            is_cancelled: false,
            status: None,
            is_trusted: false,
            record_routes: Vec::new(),
            end: None,
        };
        let branches = targets.into_iter().map(branch).collect();
        if matches!(errand, Errand::Pass) {
            self.endpoint.pass_on_is_begun(server);
        }
        let Passage { own, mark, is_vouched_for } = passage;
        let id = RelayId(self.token());
        let relay = Relay {
            context,
            server,
            came: Came { flow: came, is_vouched_for },
            method,
            request,
            own,
            stamped,
            mark,
            max_breadth: each,
            branches,
            errand,
            opening: None,
            scheduled: None,
            is_ending: false,
        };
        self.relays.insert(id, Box::new(relay));
        self.relay_of_server.insert(server, id);
        self.act(now, id, actions, None);
        Some(id)
    }

    /// The caller's CANCEL. False: the request is not passed on.
    pub(super) fn relay_cancelled(&mut self, now: Now, server: ServerTransactionId) -> bool {
        let Some(id) = self.relay_of_server.get(&server).copied() else { return false };
        let Some(relay) = self.relays.get_mut(&id) else { return false };
        if relay.context.is_over() {
            return false;
        }
        let actions = relay.context.cancelled(now.monotonic);
        self.act(now, id, actions, None);
        true
    }

    /// When a relay wants to be looked at.
    pub(super) fn next_relay_wake(&self) -> Option<Instant> {
        self.relay_wakes.first().map(|(at, _)| *at)
    }

    /// Does what is due: Timers C, take-overs, what nobody said a word to; and forgets those whose answers can come no more.
    pub(super) fn wake_relays(&mut self, now: Now) {
        while self.relay_wakes.first().is_some_and(|(at, _)| *at <= now.monotonic)
            && let Some((_, id)) = self.relay_wakes.pop_first()
        {
            let Some(relay) = self.relays.get_mut(&id) else { continue };
            relay.scheduled = None;
            if relay.context.is_over() {
                self.forget_relay(id);
                continue;
            }
            let actions = relay.context.handle_wake(now.monotonic);
            self.act(now, id, actions, None);
        }
    }

    /// Whether a relay is still somebody's business.
    pub(super) fn is_relaying(&self, id: RelayId) -> bool {
        self.relays.get(&id).is_some_and(|relay| !relay.context.is_over())
    }

    /// Carries out what the context said. `response` is what just came.
    fn act(&mut self, now: Now, id: RelayId, actions: Vec<Action>, response: Option<&SipMessage>) {
        for action in actions {
            match action {
                Action::Begin(branch) => self.begin_branch(now, id, branch),
                Action::Cancel(branch) => self.cancel_branch(now, id, branch),
                Action::GiveUp(branch) => self.give_branch_up(now, id, branch),
                Action::Pass(branch) => {
                    if let Some(response) = response {
                        self.pass_back(now, id, branch, response);
                    }
                }
                Action::Finish(best) => self.finish_relay(now, id, &best),
                Action::TakeOver => self.take_over(now, id),
                Action::LetGo(branch) => {
                    if let Some(response) = response {
                        self.let_go(now, id, branch, response);
                    }
                }
            }
        }
        let Some(relay) = self.relays.get(&id) else { return };
        match relay.context.is_over() {
            // Of anything but an INVITE no further answer is of interest, and of an INVITE that all refused none can
            // come.
            true if relay.method != Method::Invite || relay.context.is_settled() => self.forget_relay(id),
            true if relay.is_ending => {}
            true => {
                self.schedule_relay(id, Some(now.monotonic + ANSWERS_MAY_COME));
                self.relays.entry(id).and_modify(|relay| {
                    relay.is_ending = true;
                    // Somebody answered: it is no call any more that only rings. Whoever is not trusted and could have
                    // its own devices answer at once has as many of these as of those.
                    if relay.came.is_vouched_for {
                        relay.opening = None;
                    }
                });
            }
            false => self.schedule_relay(id, relay.context.next_wake()),
        }
    }

    fn schedule_relay(&mut self, id: RelayId, at: Option<Instant>) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let before = std::mem::replace(&mut relay.scheduled, at);
        if before != at {
            before.into_iter().for_each(|at| _ = self.relay_wakes.remove(&(at, id)));
            self.relay_wakes.extend(at.map(|at| (at, id)));
        }
    }

    fn forget_relay(&mut self, id: RelayId) {
        let Some(relay) = self.relays.remove(&id) else { return };
        relay.scheduled.into_iter().for_each(|at| _ = self.relay_wakes.remove(&(at, id)));
        if self.relay_of_server.get(&relay.server) == Some(&id) {
            self.relay_of_server.remove(&relay.server);
        }
        for client in relay.branches.iter().filter_map(|branch| branch.client) {
            self.purposes.remove(&client);
        }
    }

    fn timer_c(&self) -> Duration {
        Duration::from_millis(self.shared.limits.max_ringing_milliseconds)
    }

    /// How long nobody may say a word to an INVITE that is passed on.
    fn most_without_a_word(&self) -> Duration {
        Duration::from_millis(self.shared.limits.max_relay_invite_milliseconds)
    }
}
