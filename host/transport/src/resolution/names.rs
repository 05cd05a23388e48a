//! What is known of names, for those who must not wait.
//!
//! | what is known | is said | is done |
//! |---|---|---|
//! | nothing | [`Known::Not`] | it is asked; who wants to is told when that ended |
//! | places, still valid | [`Known::Places`] | |
//! | places that were valid a while ago | [`Known::Places`] | it is asked again: better the old place than none (RFC 8767) |
//! | that it leads nowhere, or that nobody could say | [`Known::Nowhere`] | it is asked again after a while |
//!
//! What the operator named ([`Wanted::of_operator`]) is neither pushed out by other names nor waits for their questions. Of
//! the others the one that was used longest ago makes room for a new one.
//!
//! A place that did not work is put behind the others for a while ([`Names::note_failure`]): so the next attempt takes the
//! next place (RFC 3263 §4.3). Places that no listener of ours reaches ([`Reach`]) are the last.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::dns::Dns;
use super::marks::{MarkLimits, Marks};
use super::procedure::{Resolved, resolve};
use super::reach::Reach;
use super::wanted::{Place, Wanted};

/// Bounds of what is known.
#[derive(Clone, Debug)]
pub struct NameLimits {
    /// Names that are known; of more the one that was used longest ago is forgotten.
    pub max_names: usize,
    /// Names that are being asked about, those of the operator not counted. More lead nowhere.
    pub max_questions: usize,
    /// Who waits for one name.
    pub max_waiting: usize,
    /// Places are believed at least so long, also where their records are shorter-lived.
    pub min_validity: Duration,
    /// And at most so long.
    pub max_validity: Duration,
    /// Places that could not be asked for again are believed so much longer.
    pub stale_for: Duration,
    /// A name that leads nowhere is not asked about again for so long.
    pub failure_for: Duration,
    /// How long one procedure may take.
    pub timeout: Duration,
    /// Of places that did not work.
    pub marks: MarkLimits,
}

/// What is known of a name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Where it leads, the best first.
    Places(Vec<Place>),
    /// It leads nowhere, or nobody could say. Temporary.
    Nowhere,
    /// Nothing yet: it is being asked.
    Not,
}

/// Of the questions that may be under way, the part that one asker may have: somebody whose names nobody answers for leaves
/// some for others.
const ASKER_SHARE: usize = 8;

/// Who wants to know something, as [`Names::asker`] tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker(u64);

/// Leave to ask, until this is dropped.
struct Turn {
    _question: OwnedSemaphorePermit,
    of: Option<(Arc<Names>, Asker)>,
}

/// Who is asked, and where.
type Asked = (Arc<dyn Dns>, Handle);
/// Gives a number below or equal to its argument.
type Random = Box<dyn Fn(u64) -> u64 + Send + Sync>;

/// What is known, and who is asked.
pub struct Names {
    asked: Option<Asked>,
    limits: NameLimits,
    reach: Reach,
    random: Random,
    questions: Arc<Semaphore>,
    questions_of_operator: Arc<Semaphore>,
    /// Questions under way of each asker.
    asking: Mutex<HashMap<Asker, usize>>,
    askers: RandomState,
    known: Mutex<State>,
    /// Whether any place is marked: most answers need no look at the rest.
    has_marks: AtomicBool,
}

#[derive(Default)]
struct State {
    entries: HashMap<Wanted, Entry>,
    marks: Marks,
}

/// Called when a name was asked about.
type Waiting = Box<dyn FnOnce() + Send>;

struct Entry {
    places: Vec<Place>,
    /// When that has to be asked again; none: it was not asked yet.
    until: Option<Instant>,
    /// Until when places that every question was answered for are better than others.
    whole_until: Option<Instant>,
    is_asked: bool,
    waiting: Vec<Waiting>,
    used_at: Instant,
}

impl Default for NameLimits {
    fn default() -> NameLimits {
        NameLimits {
            max_names: 10_000,
            max_questions: 64,
            max_waiting: 10_000,
            min_validity: Duration::from_secs(5),
            max_validity: Duration::from_secs(3_600),
            stale_for: Duration::from_secs(24 * 3_600),
            failure_for: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            marks: MarkLimits::default(),
        }
    }
}

impl Names {
    /// Asks somebody on a runtime. `random` gives a number below or equal to its argument.
    pub fn new(
        asked: (Arc<dyn Dns>, Handle),
        limits: NameLimits,
        reach: Reach,
        random: impl Fn(u64) -> u64 + Send + Sync + 'static,
    ) -> Arc<Names> {
        Arc::new(Names::of(Some(asked), limits, reach, Box::new(random)))
    }

    /// Asks nobody: every name leads nowhere.
    #[must_use]
    pub fn none() -> Arc<Names> {
        Arc::new(Names::of(None, NameLimits::default(), Reach::of([]), Box::new(|_| 0)))
    }

    fn of(asked: Option<Asked>, limits: NameLimits, reach: Reach, random: Random) -> Names {
        let questions = Arc::new(Semaphore::new(limits.max_questions));
        // One for each name of the configuration: no others are among these.
        let questions_of_operator = Arc::new(Semaphore::new(limits.max_names));
        let has_marks = AtomicBool::new(false);
        let (asking, askers, known) = (Mutex::default(), RandomState::new(), Mutex::default());
        Names { asked, limits, reach, random, questions, questions_of_operator, asking, askers, known, has_marks }
    }

    /// Who asks: a user, or a source.
    pub fn asker(&self, who: impl Hash) -> Asker {
        Asker(self.askers.hash_one(who))
    }

    /// Where a name leads, for a task that can wait for it. None: nowhere, or nobody could say, or its asker has as many
    /// questions under way as it may have.
    pub async fn places(self: &Arc<Names>, wanted: &Wanted, asker: Option<Asker>) -> Vec<Place> {
        let (told, ended) = oneshot::channel();
        let told = move || _ = told.send(());
        if let Known::Places(places) = self.look_up_for(wanted, Instant::now(), asker, told) {
            return places;
        }
        // Where nothing is being asked, whoever was to be told is gone already.
        let _ = ended.await;
        match self.look_up(wanted, Instant::now(), || ()) {
            Known::Places(places) => places,
            Known::Nowhere | Known::Not => Vec::new(),
        }
    }

    /// What is known; what has to be asked is asked in the background. Where it is [`Known::Not`], `then` is called when
    /// that ended, on another thread; otherwise it is dropped.
    pub fn look_up(self: &Arc<Names>, wanted: &Wanted, now: Instant, then: impl FnOnce() + Send + 'static) -> Known {
        self.look_up_for(wanted, now, None, then)
    }

    fn look_up_for(
        self: &Arc<Names>,
        wanted: &Wanted,
        now: Instant,
        asker: Option<Asker>,
        then: impl FnOnce() + Send + 'static,
    ) -> Known {
        if let Some(place) = wanted.place() {
            return Known::Places(vec![place]);
        }
        let Some((dns, runtime)) = &self.asked else { return Known::Nowhere };
        let mut known = self.known();
        let State { entries, marks } = &mut *known;
        let is_due = entries.get(wanted).is_none_or(|entry| entry.is_due(now));
        let turn = if is_due { self.turn(wanted, asker) } else { None };
        // What cannot be asked about now pushes nothing out.
        if !entries.contains_key(wanted) && (turn.is_none() || !make_room(entries, wanted, self.limits.max_names)) {
            return Known::Nowhere;
        }
        let entry = entries.entry(wanted.clone()).or_insert_with(|| Entry::new(now));
        entry.used_at = now;
        if let Some(turn) = turn {
            entry.is_asked = true;
            let (names, dns, wanted) = (Arc::clone(self), Arc::clone(dns), wanted.clone());
            runtime.spawn(async move {
                names.ask(&*dns, wanted).await;
                drop(turn);
            });
        }
        entry.known(now, self.limits.stale_for).map(|known| self.in_order(known, marks, now)).unwrap_or_else(|| {
            if !entry.is_asked || entry.waiting.len() >= self.limits.max_waiting {
                return Known::Nowhere;
            }
            entry.waiting.push(Box::new(then));
            Known::Not
        })
    }

    /// What was sent there met nobody: for a while, names that have other places lead there, where some name leads here. Twice
    /// as long each time that it happens again, until that place answers.
    pub fn note_failure(&self, place: SocketAddr, now: Instant) {
        self.mark(place, |marks, limits| marks.failed(place, now, limits));
    }

    /// What was sent there was answered 503 (RFC 3263 §4.3): the same for a while, and no longer the next time.
    pub fn note_busy(&self, place: SocketAddr, now: Instant) {
        self.mark(place, |marks, limits| marks.busy(place, now, limits));
    }

    fn mark(&self, place: SocketAddr, mark: impl FnOnce(&mut Marks, &MarkLimits)) {
        let mut known = self.known();
        // Clients that are gone are places of no name, and many.
        if known.entries.values().any(|entry| entry.places.iter().any(|known| known.socket == place)) {
            mark(&mut known.marks, &self.limits.marks);
            self.has_marks.store(!known.marks.is_empty(), Ordering::Relaxed);
        }
    }

    /// Somebody answered there.
    pub fn note_answer(&self, place: SocketAddr) {
        if self.has_marks.load(Ordering::Relaxed) {
            let mut known = self.known();
            known.marks.answered(place);
            self.has_marks.store(!known.marks.is_empty(), Ordering::Relaxed);
        }
    }

    /// What is known with the places in the order in which they are to be tried: as they were said, then those that did not
    /// work, and of these the one first that was left alone for longest; then those that cannot be reached.
    fn in_order(&self, known: Known, marks: &Marks, now: Instant) -> Known {
        let Known::Places(mut places) = known else { return known };
        places.sort_by_key(|place| (!self.reach.has(place), marks.failed_at(place.socket, now)));
        Known::Places(places)
    }

    /// None: as many as may be asked about are, in all or of this asker.
    fn turn(self: &Arc<Names>, wanted: &Wanted, asker: Option<Asker>) -> Option<Turn> {
        let questions = if wanted.is_of_operator() { &self.questions_of_operator } else { &self.questions };
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let share = (self.limits.max_questions / ASKER_SHARE).max(1);
        if asker.is_some_and(|asker| asking.get(&asker).is_some_and(|count| *count >= share)) {
            return None;
        }
        let question = questions.clone().try_acquire_owned().ok()?;
        if let Some(asker) = asker {
            let count = asking.entry(asker).or_default();
            *count = count.saturating_add(1);
        }
        Some(Turn { _question: question, of: asker.map(|asker| (Arc::clone(self), asker)) })
    }

    async fn ask(&self, dns: &dyn Dns, wanted: Wanted) {
        let asked = tokio::time::timeout(self.limits.timeout, resolve(dns, &wanted, &self.random)).await;
        let now = Instant::now();
        let waiting = {
            let mut known = self.known();
            let Some(entry) = known.entries.get_mut(&wanted) else { return };
            entry.is_asked = false;
            match asked {
                Ok(Ok(resolved)) if !resolved.places.is_empty() => entry.found(resolved, now, &self.limits),
                answered => {
                    // A zone that says that there is nothing is believed; nobody's silence is.
                    if matches!(answered, Ok(Ok(_))) {
                        entry.places.clear();
                    }
                    tracing::warn!(name = %wanted, "the name cannot be resolved: {}", reason(&answered));
                    entry.until = Some(now + self.limits.failure_for);
                }
            }
            std::mem::take(&mut entry.waiting)
        };
        waiting.into_iter().for_each(|then| then());
    }

    fn known(&self) -> MutexGuard<'_, State> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((names, asker)) = &self.of else { return };
        let mut asking = names.asking.lock().unwrap_or_else(PoisonError::into_inner);
        match asking.get_mut(asker) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = asking.remove(asker),
        }
    }
}

/// Makes room for one more name where there is none: the one is forgotten that was used longest ago and is not being asked
/// about. One of the operator's goes for another one of these alone. False: there is none to forget.
fn make_room(entries: &mut HashMap<Wanted, Entry>, newcomer: &Wanted, max_names: usize) -> bool {
    if entries.len() < max_names {
        return true;
    }
    let may_go = |known: &Wanted| newcomer.is_of_operator() || !known.is_of_operator();
    let others = entries.iter().filter(|(known, entry)| !entry.is_asked && may_go(known));
    let oldest = others.min_by_key(|(known, entry)| (known.is_of_operator(), entry.used_at));
    let oldest = oldest.map(|(known, _)| known.clone());
    oldest.is_some_and(|oldest| entries.remove(&oldest).is_some())
}

impl Entry {
    fn new(now: Instant) -> Entry {
        let (places, waiting) = (Vec::new(), Vec::new());
        Entry { places, until: None, whole_until: None, is_asked: false, waiting, used_at: now }
    }

    /// Where one question was not answered, what the others lead to is used for a short while, and not in place of what is
    /// known from all of them.
    fn found(&mut self, resolved: Resolved, now: Instant, limits: &NameLimits) {
        let validity = resolved.valid_for.clamp(limits.min_validity, limits.max_validity);
        if !resolved.is_partial {
            self.places = resolved.places;
            self.until = Some(now + validity);
            self.whole_until = Some(now + validity + limits.stale_for);
            return;
        }
        self.until = Some(now + validity.min(limits.failure_for));
        if self.places.is_empty() || self.whole_until.is_none_or(|until| until <= now) {
            self.places = resolved.places;
        }
    }

    /// Whether it is to be asked about.
    fn is_due(&self, now: Instant) -> bool {
        !self.is_asked && self.until.is_none_or(|until| until <= now)
    }

    /// None: it was never asked to an end, or too long ago.
    fn known(&self, now: Instant, stale_for: Duration) -> Option<Known> {
        let until = self.until?;
        if self.places.is_empty() {
            return (until > now).then_some(Known::Nowhere);
        }
        (now < until + stale_for).then(|| Known::Places(self.places.clone()))
    }
}

fn reason<T>(answered: &Result<Result<T, super::dns::DnsFailure>, tokio::time::error::Elapsed>) -> String {
    match answered {
        Ok(Ok(_)) => "there is no such name".to_owned(),
        Ok(Err(failure)) => failure.to_string(),
        Err(_) => "no answer in time".to_owned(),
    }
}

#[cfg(test)]
mod tests;
