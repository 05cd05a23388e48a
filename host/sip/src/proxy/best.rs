//! The choice of the one answer that goes back (RFC 3261 §16.7 steps 6 and 7).

use crate::message::{Name, SipMessage};

/// Fields that every refused branch may add to the one answer (§16.7 step 7).
const CHALLENGES: [Name; 2] = [Name::WwwAuthenticate, Name::ProxyAuthenticate];
/// Challenges that are collected; a client can answer one of them.
const MAX_CHALLENGES: usize = 16;

/// The final answer to pass back.
#[derive(Clone, Debug)]
pub struct Best {
    /// Its status: not always the answer's own, since a 503 goes back as 500, and a 430 as 480.
    pub status: u16,
    /// The answer that was chosen; none where it is ours to write: nobody answered, or 503 or 430 was the best.
    pub response: Option<SipMessage>,
    /// Challenges of the other branches that were refused with 401 or 407, to be added.
    pub challenges: Vec<(Name, String)>,
}

/// What the branches came to so far.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    best: Option<(u16, Option<SipMessage>)>,
    challenges: Vec<(Name, String)>,
}

impl Candidates {
    /// Notes the final answer of a branch; none of its own: a time-out is 408, what could not be sent 503.
    pub(super) fn note(&mut self, status: u16, response: Option<SipMessage>) {
        if let (401 | 407, Some(response)) = (status, &response) {
            let values = CHALLENGES.into_iter().flat_map(|name| response.headers(name).map(move |value| (name, value)));
            let room = MAX_CHALLENGES.saturating_sub(self.challenges.len());
            self.challenges.extend(values.take(room).map(|(name, value)| (name, crate::message::unfold(value))));
        }
        if self.best.as_ref().is_none_or(|(best, _)| rank(status) < rank(*best)) {
            self.best = Some((status, response));
        }
    }

    /// What goes back. 408 where nothing is known.
    pub(super) fn choose(&mut self) -> Best {
        let (status, response) = self.best.take().unwrap_or((408, None));
        // §16.7 step 6: 503 would say that this proxy can serve nobody.
        let (status, response) = match status {
            503 => (500, None),
            // Of flows a caller knows nothing (RFC 5626 §11.5).
            430 => (480, None),
            _ => (status, response),
        };
        let own = |name: &Name, value: &str| {
            response.iter().flat_map(|it| it.headers(*name)).any(|known| crate::message::unfold(known) == value)
        };
        let mut challenges = std::mem::take(&mut self.challenges);
        if !matches!(status, 401 | 407) {
            challenges.clear();
        }
        challenges.retain(|(name, value)| !own(name, value));
        Best { status, response, challenges }
    }
}

/// Which is passed back rather than others, the least first: 6xx, then the lowest class; among 4xx those that tell the
/// caller what to change (§16.7 step 6). Among equals the first. A 503 is the last of its class: a 500 that somebody
/// wrote says more.
fn rank(status: u16) -> (u16, u8) {
    match status {
        600.. => (0, 0),
        401 | 407 => (4, 0),
        415 | 420 | 484 => (4, 1),
        // Nobody was there: whatever somebody said means more.
        408 | 430 => (4, 3),
        503 => (5, 1),
        _ => (status / 100, if status / 100 == 4 { 2 } else { 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageLimits;

    fn answer(status: u16, more: &str) -> SipMessage {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n{more}\r\n"
        );
        SipMessage::parse(text.into(), &MessageLimits::default()).unwrap()
    }

    #[test]
    fn the_best_answer_is_the_one_that_helps_the_caller_most() {
        for (came, best) in [
            (&[486][..], 486),
            (&[486, 603], 603),
            (&[404, 302], 302),
            (&[500, 480], 480),
            (&[480, 404], 480),
            (&[480, 415], 415),
            (&[415, 407], 407),
            (&[408, 486], 486),
            (&[503], 500),
            (&[430], 480),
            (&[430, 486], 486),
            (&[503, 502], 502),
            (&[503, 408], 408),
            (&[600, 401], 600),
            (&[], 408),
        ] {
            let mut candidates = Candidates::default();
            came.iter().for_each(|status| candidates.note(*status, Some(answer(*status, ""))));
            let chosen = candidates.choose();
            assert_eq!(chosen.status, best, "{came:?}");
            let is_ours = came.is_empty() || best == 500 || came == [430];
            assert_eq!(chosen.response.is_none(), is_ours, "{came:?}");
        }
    }

    #[test]
    fn challenges_of_all_branches_go_back_together() {
        let mut candidates = Candidates::default();
        candidates.note(401, Some(answer(401, "WWW-Authenticate: Digest realm=\"one\"\r\n")));
        candidates.note(486, None);
        candidates.note(407, Some(answer(407, "Proxy-Authenticate: Digest realm=\"two\",\r\n nonce=\"n\"\r\n")));
        let chosen = candidates.choose();
        assert_eq!(chosen.status, 401);
        let expected = (Name::ProxyAuthenticate, "Digest realm=\"two\", nonce=\"n\"".to_owned());
        assert_eq!(chosen.challenges, [expected]);
        candidates.note(401, Some(answer(401, "WWW-Authenticate: Digest realm=\"one\"\r\n")));
        candidates.note(604, None);
        assert!(candidates.choose().challenges.is_empty());
    }
}
