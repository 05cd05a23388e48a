//! Which way each message can go.

use crate::types::{Abilities, Contact, ContactId, Context, WaitingMessage};

/// Which messages share a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All of one original sender: what deployed clients expect.
    BySender,
    /// All, with this contact: it registered the CPM deferred delivery feature tag.
    All(ContactId),
}

/// The ways to the recipient.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    page: bool,
    large: Option<&'a Contact>,
    max_page_bytes: u32,
}

impl<'a> Ways<'a> {
    /// What the contacts offer.
    #[must_use]
    pub fn of(context: &Context, contacts: &'a [Contact]) -> Ways<'a> {
        let large = || contacts.iter().filter(|contact| contact.abilities.contains(Abilities::LARGE_MESSAGE_MODE));
        Ways {
            page: contacts.iter().any(|contact| contact.abilities.contains(Abilities::PAGE_MODE)),
            large: large().find(|contact| contact.last_failure.is_none()).or_else(|| large().next()),
            max_page_bytes: context.host.max_page_bytes,
        }
    }

    /// Whether this message is small enough for page mode.
    #[must_use]
    pub fn fits_page(&self, message: &WaitingMessage) -> bool {
        message.page_bytes.is_some_and(|bytes| bytes <= self.max_page_bytes)
    }

    /// Whether this message can go in page mode.
    #[must_use]
    pub fn can_page(&self, message: &WaitingMessage) -> bool {
        self.page && !message.page_refused && self.fits_page(message)
    }

    /// Whether this message can go in a session.
    #[must_use]
    pub fn can_session(&self, message: &WaitingMessage) -> bool {
        self.large.is_some() && !message.large_refused
    }

    /// Which messages may share a session.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        match self.large {
            Some(contact) if contact.abilities.contains(Abilities::CPM_DEFERRED) => Sharing::All(contact.id),
            _ => Sharing::BySender,
        }
    }
}
