//! What each sender has open at this moment, over all shards, so that nobody takes what there is for everybody.
//!
//! | from | counted by |
//! |---|---|
//! | a trusted peer | who it says the sender is, whatever its address: it speaks for many |
//! | a trusted peer that names nobody | its address: all that it names nobody for together |
//! | a user who showed a password | who that is, and the address: whoever has many names has few addresses |
//!
//! An address is an IPv4 address or the /64 network of an IPv6 one. There is an entry for what is open and no other, so
//! that these tables are bounded by the number of sessions and calls.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use restante_deferral::model::RecipientKey;
use restante_transport::source_of;

/// How much of one kind everybody has open.
pub(super) struct Openings {
    max_per_sender: u64,
    max_per_source: u64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    senders: HashMap<RecipientKey, u64>,
    sources: HashMap<IpAddr, u64>,
}

/// Whose one more is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opener {
    /// Who is known to stand behind it.
    pub(super) sender: Option<RecipientKey>,
    /// Where it comes from, where that counts.
    pub(super) source: Option<IpAddr>,
}

/// One that is open, given back when this is dropped.
pub(super) struct Opening {
    of: Arc<Openings>,
    opener: Opener,
}

/// Of what somebody has as many open as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// The sender.
    Sender,
    /// The address.
    Source,
}

impl Openings {
    pub(super) fn new(max_per_sender: u64, max_per_source: u64) -> Arc<Openings> {
        Arc::new(Openings { max_per_sender, max_per_source, open: Mutex::default() })
    }

    /// One more.
    ///
    /// # Errors
    /// [`Exceeded`]: nothing was opened.
    pub(super) fn open(self: &Arc<Self>, sender: Opener) -> Result<Opening, Exceeded> {
        let opener = Opener { source: sender.source.map(source_of), sender: sender.sender };
        let mut open = self.lock();
        if opener.sender.as_ref().is_some_and(|it| count(&open.senders, it) >= self.max_per_sender) {
            return Err(Exceeded::Sender);
        }
        if opener.source.as_ref().is_some_and(|it| count(&open.sources, it) >= self.max_per_source) {
            return Err(Exceeded::Source);
        }
        if let Some(sender) = &opener.sender {
            add(&mut open.senders, sender.clone());
        }
        if let Some(source) = opener.source {
            add(&mut open.sources, source);
        }
        drop(open);
        Ok(Opening { of: self.clone(), opener })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut open = self.of.lock();
        if let Some(sender) = &self.opener.sender {
            take(&mut open.senders, sender);
        }
        if let Some(source) = &self.opener.source {
            take(&mut open.sources, source);
        }
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, u64>, key: &K) -> u64 {
    counts.get(key).copied().unwrap_or(0)
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

fn take<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: &K) {
    let Some(count) = counts.get_mut(key) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        counts.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use restante_deferral::model::{CanonicalAddress, TenantName};

    use super::*;

    fn opener(tenant: &str, sender: &str, source: &str) -> Opener {
        let address = CanonicalAddress(sender.into());
        let sender = (!sender.is_empty()).then(|| RecipientKey { tenant: TenantName(tenant.into()), address });
        Opener { sender, source: source.parse().ok() }
    }

    #[test]
    fn a_sender_has_so_many_open_wherever_it_is_and_nobody_else_has_fewer() {
        let openings = Openings::new(2, 100);
        let open = |tenant, sender, source| openings.open(opener(tenant, sender, source));
        let one = open("t", "sip:a", "192.0.2.1").ok().unwrap();
        let _two = open("t", "sip:a", "").ok().unwrap();
        assert_eq!(open("t", "sip:a", "192.0.2.2").err(), Some(Exceeded::Sender));
        assert!(open("t", "sip:b", "192.0.2.1").is_ok());
        assert!(open("u", "sip:a", "").is_ok(), "what one tenant believes says nothing to another");
        drop(one);
        assert!(open("t", "sip:a", "192.0.2.1").is_ok());
    }

    #[test]
    fn an_address_has_so_many_open_whatever_its_names_and_nothing_stays_of_what_is_closed() {
        let openings = Openings::new(100, 2);
        let open = |sender, source| openings.open(opener("t", sender, source));
        let held: Vec<_> =
            [open("sip:a", "2001:db8::1"), open("", "2001:db8::2")].into_iter().map(Result::ok).collect();
        assert_eq!(open("sip:c", "2001:db8::3").err(), Some(Exceeded::Source), "one host has a whole network");
        assert_eq!(open("", "2001:db8::1").err(), Some(Exceeded::Source));
        assert!(open("sip:c", "2001:db8:0:1::1").is_ok());
        assert!(open("sip:c", "").is_ok(), "a peer that is trusted");
        drop(held);
        let open = openings.lock();
        assert!(open.senders.is_empty() && open.sources.is_empty());
    }
}
