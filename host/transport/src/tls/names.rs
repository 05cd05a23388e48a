use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use restante_sip::uri::host_address;

use crate::address::NameId;

/// Names that are known at a time; the oldest is forgotten for a new one. Who still uses its number is told that there
/// is no such name, and asks again.
const MAX_NAMES: usize = 10_000;

/// Hosts that were asked for, by number: what carries a number can be copied.
#[derive(Default)]
pub(super) struct AskedNames {
    last: u64,
    numbers: HashMap<Arc<str>, NameId>,
    hosts: HashMap<NameId, Arc<str>>,
    order: VecDeque<NameId>,
}

impl AskedNames {
    /// The number of a host; a number never stands for another one.
    pub(super) fn number(&mut self, host: &str) -> NameId {
        let host = match host_address(host) {
            Some(address) => address.to_string(),
            None => host.trim_end_matches('.').to_ascii_lowercase(),
        };
        if let Some(known) = self.numbers.get(host.as_str()) {
            return *known;
        }
        if self.order.len() >= MAX_NAMES
            && let Some(oldest) = self.order.pop_front()
            && let Some(forgotten) = self.hosts.remove(&oldest)
        {
            self.numbers.remove(&forgotten);
        }
        self.last = self.last.wrapping_add(1);
        let (number, host) = (NameId(self.last), Arc::<str>::from(host));
        self.numbers.insert(host.clone(), number);
        self.hosts.insert(number, host);
        self.order.push_back(number);
        number
    }

    pub(super) fn host(&self, number: NameId) -> Option<Arc<str>> {
        self.hosts.get(&number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_a_number_one_name() {
        let mut names = AskedNames::default();
        let first = names.number("Proxy.Example.org.");
        assert_eq!(names.number("proxy.example.org"), first);
        assert_eq!(names.host(first).as_deref(), Some("proxy.example.org"));
        assert_eq!(names.host(names.numbers["proxy.example.org"]).as_deref(), Some("proxy.example.org"));
        for number in 0..MAX_NAMES {
            names.number(&format!("{number}.example.org"));
        }
        assert_eq!(names.host(first), None, "the oldest is forgotten");
        assert_ne!(names.number("proxy.example.org"), first);
        assert_eq!((names.numbers.len(), names.hosts.len(), names.order.len()), (MAX_NAMES, MAX_NAMES, MAX_NAMES));
    }
}
