//! Connections of a client: how many there may be, which of them make room, and who is at their other ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::passing::{ANSWER_TIMEOUT, Passing, Sent};
use super::{LegId, Output, RelayedClient};
use crate::framing::{Framer, FramingLimits};
use crate::status::Status;
use crate::uri::MsrpUri;

/// Peers that may speak on one leg, as where a relay is behind it; of more the first is forgotten.
const MAX_NAMES_PER_LEG: usize = 8;
/// A leg on which nothing came or went for so long gives its place to another where all are taken.
const MAY_BE_IDLE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) framer: Framer,
    /// Who is at the other end: the next hop as the client names it, or who the peers there say they are.
    pub(super) uris: VecDeque<MsrpUri>,
    /// We connected it to its one name.
    is_ours: bool,
    /// A peer made it, and nothing of it went on to the client yet: until when that is waited for.
    begins_until: Option<Instant>,
    /// When something came or was written last.
    pub(super) last: Option<Instant>,
    pub(super) passing: Option<Passing>,
    /// Frames that the host was given for it, and those of them that it wrote.
    pub(super) queued: u64,
    written: u64,
}

impl Leg {
    /// The client's own.
    pub(super) fn of_client(limits: &FramingLimits) -> Leg {
        Leg::new(limits, None, None, None)
    }

    fn new(limits: &FramingLimits, uri: Option<MsrpUri>, begins_until: Option<Instant>, last: Option<Instant>) -> Leg {
        Leg {
            framer: Framer::new(limits.clone()),
            is_ours: uri.is_some(),
            uris: uri.into_iter().collect(),
            begins_until,
            last,
            passing: None,
            queued: 0,
            written: 0,
        }
    }

    /// Something of it went on.
    pub(super) fn has_begun(&mut self) {
        self.begins_until = None;
    }
}

impl RelayedClient {
    /// A peer connected, for the client's session. None: peers have as many as they may have, and something came of each just
    /// now, or is under way.
    pub fn accept_leg(&mut self, now: Instant) -> Option<LegId> {
        self.add_leg(now, None, Some(now + self.limits.first_request_within))
    }

    /// A leg is gone, or could not be made; the client is told so with this status where it sent something there.
    pub fn leg_lost(&mut self, leg: LegId, status: Status) {
        self.legs.remove(&leg);
        self.sent.retain(|sent| sent.from != leg);
        let (lost, left): (VecDeque<Sent>, VecDeque<Sent>) =
            std::mem::take(&mut self.sent).into_iter().partition(|sent| sent.leg == leg);
        self.sent = left;
        lost.iter().for_each(|sent| self.report(sent, status));
        // What comes of a chunk has nowhere to go; its sender need not wait for its end to learn that.
        let halves: Vec<Sent> =
            self.legs.iter_mut().filter_map(|(from, it)| it.passing.as_mut()?.lose(leg, *from)).collect();
        halves.iter().for_each(|sent| self.report(sent, status));
    }

    /// So many frames of a leg were written since it began: from then on their answers are awaited.
    pub fn written(&mut self, now: Instant, leg: LegId, frames: u64) {
        let Some(known) = self.legs.get_mut(&leg).filter(|known| known.written < frames) else { return };
        known.written = frames;
        known.last = Some(now);
        for sent in self.sent.iter_mut().filter(|sent| sent.leg == leg && sent.frame <= frames) {
            sent.until.get_or_insert(now + ANSWER_TIMEOUT);
        }
    }

    /// When a leg of which nothing came is waited for no longer.
    pub(super) fn next_silence(&self) -> Option<Instant> {
        self.legs.values().filter_map(|leg| leg.begins_until).min()
    }

    pub(super) fn close_silent(&mut self, now: Instant) {
        let is_over = |leg: &Leg| leg.begins_until.is_some_and(|until| until <= now);
        let over: Vec<LegId> = self.legs.iter().filter_map(|(id, leg)| is_over(leg).then_some(*id)).collect();
        over.into_iter().for_each(|leg| self.close(leg));
    }

    /// Notes who is at the other end of a leg that a peer made: it is nowhere else any more, unless we connected there.
    pub(super) fn name_leg(&mut self, leg: LegId, from: &MsrpUri) {
        let has_it = |known: &Leg| known.uris.iter().any(|uri| uri.same_as(from));
        let is_known = self.legs.iter().any(|(id, known)| has_it(known) && (*id == leg || known.is_ours));
        if is_known || self.legs.get(&leg).is_none_or(|known| known.is_ours) {
            return;
        }
        self.legs.values_mut().for_each(|known| known.uris.retain(|uri| !uri.same_as(from)));
        if let Some(known) = self.legs.get_mut(&leg) {
            if known.uris.len() >= MAX_NAMES_PER_LEG {
                known.uris.pop_front();
            }
            known.uris.push_back(from.clone());
        }
    }

    /// A leg to the host of a URI.
    pub(super) fn connect_leg(&mut self, now: Instant, uri: &MsrpUri) -> Option<LegId> {
        let leg = self.add_leg(now, Some(uri.clone()), None)?;
        self.output.push_back(Output::Connect(leg, uri.clone()));
        Some(leg)
    }

    /// Where there is no room, the oldest leg makes it of which nothing came, else the one that was idle for longest.
    fn add_leg(&mut self, now: Instant, uri: Option<MsrpUri>, begins_until: Option<Instant>) -> Option<LegId> {
        let of_peers = self.legs.iter().filter(|(id, leg)| **id != LegId::CLIENT && !leg.is_ours).count();
        let is_crowded = uri.is_none() && of_peers >= self.limits.max_legs / 2;
        // The client's own is one of them.
        if is_crowded || self.legs.len() > self.limits.max_legs {
            let silent = self.legs.iter().find_map(|(id, leg)| leg.begins_until.map(|_| *id));
            let goes = silent.or_else(|| self.longest_idle(now, is_crowded))?;
            self.close(goes);
        }
        let id = LegId(self.next_leg);
        self.next_leg = self.next_leg.wrapping_add(1);
        self.legs.insert(id, Leg::new(&self.limits.framing, uri, begins_until, Some(now)));
        Some(id)
    }

    /// The leg on which nothing came or went for longest, and long enough, and nothing is under way.
    fn longest_idle(&self, now: Instant, of_peers: bool) -> Option<LegId> {
        let is_idle = |(id, leg): &(&LegId, &Leg)| {
            let waits = self.sent.iter().any(|sent| sent.leg == **id || sent.from == **id);
            let is_quiet = leg.last.is_some_and(|last| last + MAY_BE_IDLE <= now);
            is_quiet && !waits && leg.passing.is_none() && leg.queued == leg.written
        };
        let others = self.legs.iter().filter(|(id, leg)| **id != LegId::CLIENT && !(of_peers && leg.is_ours));
        others.filter(is_idle).min_by_key(|(_, leg)| leg.last).map(|(id, _)| *id)
    }

    fn close(&mut self, leg: LegId) {
        self.leg_lost(leg, Status::TIMED_OUT);
        self.output.push_back(Output::Close(leg));
    }
}
