//! Time goes by in a world, or is set back.

use restante_deferral::model::{Duration, Timestamp};
use restante_deferral::participating_function::Input;

use super::World;

impl World {
    /// It was ahead by so much; the edge notices at once. What is under way goes on.
    pub fn clock_is_set_back(&mut self, by: Duration) {
        self.now = Timestamp(self.now.0 - by.0);
        let agenda = std::mem::take(&mut self.agenda);
        let earlier = |at: Timestamp| Timestamp(at.0 - by.0);
        self.agenda = agenda.into_iter().map(|((at, number), input)| ((earlier(at), number), input)).collect();
        if self.machine.is_some() {
            self.tell(Input::Wake);
        }
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now.after(duration));
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.run_for(Duration::from_secs(seconds));
    }

    /// Jumps from one thing that happens to the next.
    pub fn run_until(&mut self, end: Timestamp) {
        let mut turns = 0_u32;
        while let Some(at) = self.next_moment().filter(|at| *at <= end) {
            turns += 1;
            assert!(turns < 200_000, "the machine does not come to rest");
            self.now = self.now.max(at);
            let due = self.agenda.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= self.now);
            match due {
                Some(key) => {
                    let input = self.agenda.remove(&key).expect("just seen");
                    self.deliver(input);
                }
                None => self.tell(Input::Wake),
            }
        }
        self.now = end;
    }

    /// The next thing on the agenda, the machine's alarm, or the durable one when there is no machine.
    pub fn next_moment(&self) -> Option<Timestamp> {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let alarm = match &self.machine {
            Some(machine) => machine.next_wake(),
            None => self.store.wake_at(&self.key),
        };
        [agenda, alarm].into_iter().flatten().min()
    }

    pub fn schedule(&mut self, after: u64, input: Input) {
        self.sequence += 1;
        self.agenda.insert((self.now.after(Duration(after)), self.sequence), input);
    }
}
