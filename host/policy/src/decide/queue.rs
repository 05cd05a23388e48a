//! A queue that is fair between tenants.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use restante_deferral::model::TenantName;

use super::Party;

/// The part of what may wait that outsiders' jobs may have.
const PART_OF_OUTSIDERS: usize = 16;

/// Jobs of many tenants. Each tenant's come in order, the tenants take turns, and none has more than its share of the
/// threads. Within a tenant those of the server and those of outsiders take turns, too.
pub(super) struct FairQueue<Job> {
    max_waiting: usize,
    max_waiting_bytes: usize,
    state: Mutex<State<Job>>,
    changed: Condvar,
}

struct State<Job> {
    tenants: HashMap<TenantName, Line<Job>>,
    /// Tenants with waiting jobs, the next one first.
    turns: VecDeque<TenantName>,
    closed: bool,
}

struct Line<Job> {
    own: Waiting<Job>,
    of_outsiders: Waiting<Job>,
    /// The next turn is an outsider's.
    is_outsiders_turn: bool,
    running: usize,
    /// As its last job said.
    max_running: usize,
}

struct Waiting<Job> {
    /// With the bytes of each.
    jobs: VecDeque<(usize, Job)>,
    /// The sum of them.
    bytes: usize,
}

impl<Job> FairQueue<Job> {
    /// With so many jobs of one tenant waiting at most, and so many bytes of them.
    pub(super) fn new(max_waiting: usize, max_waiting_bytes: usize) -> Self {
        let state = State { tenants: HashMap::new(), turns: VecDeque::new(), closed: false };
        FairQueue { max_waiting, max_waiting_bytes, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds a job of so many bytes, of a tenant of which so many may run at a time; gives it back when too many of the
    /// tenant's wait that the same party asks for, or the queue is closed. One that is too large by itself may wait alone.
    pub(super) fn push(
        &self,
        (tenant, party): (TenantName, Party),
        max_running: usize,
        bytes: usize,
        job: Job,
    ) -> Result<(), Job> {
        let part = |most: usize| match party {
            Party::Server => most,
            Party::Outsider => (most / PART_OF_OUTSIDERS).max(1),
        };
        let mut state = self.lock();
        if state.closed {
            return Err(job);
        }
        let line = state.tenants.entry(tenant.clone()).or_insert_with(Line::new);
        line.max_running = max_running;
        let is_first = line.is_empty();
        let waiting = line.of(party);
        let waiting_bytes = waiting.bytes.saturating_add(bytes);
        let is_too_much = !waiting.jobs.is_empty() && waiting_bytes > part(self.max_waiting_bytes);
        if waiting.jobs.len() >= part(self.max_waiting) || is_too_much {
            return Err(job);
        }
        waiting.bytes = waiting_bytes;
        waiting.jobs.push_back((bytes, job));
        if is_first {
            state.turns.push_back(tenant);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for a job whose tenant may have one more running; none when the queue is closed. [`Self::finished`]
    /// follows.
    pub(super) fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.next() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job of this tenant is done.
    pub(super) fn finished(&self, tenant: &TenantName) {
        let mut state = self.lock();
        let Some(line) = state.tenants.get_mut(tenant) else { return };
        line.running = line.running.saturating_sub(1);
        let has_more = !line.is_empty();
        if !has_more && line.running == 0 {
            state.tenants.remove(tenant);
        }
        drop(state);
        if has_more {
            self.changed.notify_one();
        }
    }

    /// How many jobs of this tenant wait.
    pub(super) fn waiting(&self, tenant: &TenantName) -> usize {
        self.lock().tenants.get(tenant).map_or(0, |line| line.own.jobs.len() + line.of_outsiders.jobs.len())
    }

    /// Forgets what waits and ends every wait.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.tenants.clear();
        state.turns.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<Job>> {
        // Nothing here panics between two consistent states.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Job> Line<Job> {
    fn new() -> Self {
        let waiting = || Waiting { jobs: VecDeque::new(), bytes: 0 };
        Line { own: waiting(), of_outsiders: waiting(), is_outsiders_turn: false, running: 0, max_running: 1 }
    }

    fn is_empty(&self) -> bool {
        self.own.jobs.is_empty() && self.of_outsiders.jobs.is_empty()
    }

    fn of(&mut self, party: Party) -> &mut Waiting<Job> {
        match party {
            Party::Server => &mut self.own,
            Party::Outsider => &mut self.of_outsiders,
        }
    }

    /// The next job: of the party whose turn it is, else of the other.
    fn next(&mut self) -> Option<Job> {
        let is_outsiders = match (self.own.jobs.is_empty(), self.of_outsiders.jobs.is_empty()) {
            (false, false) => self.is_outsiders_turn,
            (own_is_empty, _) => own_is_empty,
        };
        self.is_outsiders_turn = !is_outsiders;
        let waiting = self.of(if is_outsiders { Party::Outsider } else { Party::Server });
        let (bytes, job) = waiting.jobs.pop_front()?;
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        Some(job)
    }
}

impl<Job> State<Job> {
    /// The next job of the next tenant that has not its share running already.
    fn next(&mut self) -> Option<Job> {
        for _ in 0..self.turns.len() {
            let tenant = self.turns.pop_front()?;
            let Some(line) = self.tenants.get_mut(&tenant) else { continue };
            if line.running >= line.max_running {
                self.turns.push_back(tenant);
                continue;
            }
            let job = line.next();
            line.running = line.running.saturating_add(usize::from(job.is_some()));
            if !line.is_empty() {
                self.turns.push_back(tenant);
            }
            if job.is_some() {
                return job;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantName {
        TenantName(name.into())
    }

    fn queue(max_waiting: usize, max_running: usize, jobs: &[(&str, u32)]) -> FairQueue<u32> {
        let queue = FairQueue::new(max_waiting, 100);
        for (name, job) in jobs {
            queue.push((tenant(name), Party::Server), max_running, 10, *job).unwrap();
        }
        queue
    }

    #[test]
    fn tenants_take_turns_and_each_ones_jobs_keep_their_order() {
        let jobs = [("a", 1), ("a", 2), ("a", 3), ("b", 10), ("c", 20), ("b", 11)];
        let queue = queue(10, 10, &jobs);
        let taken: Vec<_> = (0..6).filter_map(|_| queue.take()).collect();
        assert_eq!(taken, [1, 10, 20, 2, 11, 3]);
    }

    #[test]
    fn one_tenant_does_not_get_more_than_its_share() {
        let queue = queue(10, 1, &[("a", 1), ("a", 2), ("b", 10)]);
        assert_eq!(queue.take(), Some(1));
        assert_eq!(queue.take(), Some(10));
        assert_eq!(queue.lock().next(), None, "both are at their share");
        queue.finished(&tenant("a"));
        assert_eq!(queue.take(), Some(2));
    }

    #[test]
    fn a_share_can_be_changed_and_is_each_tenants_own() {
        let queue = queue(10, 1, &[("a", 1), ("a", 2), ("a", 3)]);
        assert_eq!((queue.take(), queue.lock().next()), (Some(1), None));
        queue.push((tenant("a"), Party::Server), 2, 10, 4).unwrap();
        assert_eq!((queue.take(), queue.lock().next()), (Some(2), None));
        queue.push((tenant("b"), Party::Server), 1, 10, 10).unwrap();
        assert_eq!((queue.take(), queue.lock().next()), (Some(10), None));
    }

    #[test]
    fn what_is_too_much_comes_back_and_harms_no_other() {
        let queue = queue(2, 1, &[("a", 1), ("a", 2)]);
        assert_eq!(queue.push((tenant("a"), Party::Server), 1, 10, 3), Err(3));
        assert_eq!(queue.push((tenant("b"), Party::Server), 1, 10, 4), Ok(()));
        assert_eq!((queue.waiting(&tenant("a")), queue.waiting(&tenant("c"))), (2, 0));
        queue.take();
        assert_eq!(queue.push((tenant("a"), Party::Server), 1, 10, 3), Ok(()));
    }

    #[test]
    fn bytes_that_wait_are_bounded_and_what_is_too_large_waits_alone() {
        let queue = FairQueue::new(10, 100);
        let push = |bytes, job| queue.push((tenant("a"), Party::Server), 10, bytes, job);
        assert_eq!([push(60, 1), push(40, 2), push(1, 3)], [Ok(()), Ok(()), Err(3)]);
        queue.take();
        assert_eq!([push(60, 4), push(1, 5)], [Ok(()), Err(5)]);
        queue.take();
        queue.take();
        assert_eq!([push(1_000, 6), push(1, 7)], [Ok(()), Err(7)]);
        assert_eq!(queue.take(), Some(6));
    }

    #[test]
    fn outsiders_take_turns_with_the_server_and_have_a_part_of_the_queue() {
        let queue = FairQueue::new(32, 3_200);
        let push = |party, bytes, job| queue.push((tenant("a"), party), 10, bytes, job);
        for job in 1..=4 {
            push(Party::Server, 10, job).unwrap();
        }
        assert_eq!([10, 11, 12].map(|job| push(Party::Outsider, 10, job)), [Ok(()), Ok(()), Err(12)]);
        assert_eq!(push(Party::Server, 10, 5), Ok(()), "which leaves the server its own");
        assert_eq!(queue.waiting(&tenant("a")), 7);
        let taken: Vec<_> = (0..7).filter_map(|_| queue.take()).collect();
        assert_eq!(taken, [1, 10, 2, 11, 3, 4, 5]);
        assert_eq!([push(Party::Outsider, 1_000, 20), push(Party::Outsider, 1, 21)], [Ok(()), Err(21)]);
        assert_eq!((push(Party::Server, 10, 6), queue.take(), queue.take()), (Ok(()), Some(20), Some(6)));
    }

    #[test]
    fn idle_tenants_are_forgotten() {
        let queue = queue(2, 1, &[("a", 1)]);
        queue.take();
        queue.finished(&tenant("a"));
        assert!(queue.lock().tenants.is_empty());
        assert!(queue.lock().turns.is_empty());
    }

    #[test]
    fn a_closed_queue_gives_and_takes_nothing() {
        let queue = queue(2, 1, &[("a", 1)]);
        queue.close();
        assert_eq!(queue.take(), None);
        assert_eq!(queue.push((tenant("a"), Party::Server), 1, 10, 2), Err(2));
    }
}
