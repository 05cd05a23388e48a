use super::document::{
    MAX_CONTACTS, MAX_DOCUMENT_BYTES, MAX_REGISTRATIONS, RegistrationInfo, ReportedContact, ReportedRegistration,
};

/// What the documents of one subscription say together (RFC 3680 §5.1).
///
/// | document | version | what happens |
/// |---|---|---|
/// | full | any | takes the place of everything |
/// | partial | the next one | changes what it names |
/// | partial | one was missed, or none came before | [`Taken::Gap`]: a full one is to be asked for |
/// | partial | one that came already | nothing |
///
/// Deviation: a full one is taken whatever its version, which Kamailio leaves at 0. NOTIFYs are taken in the order of their
/// CSeq, so that it is not older than what is known.
///
/// A contact that ended is forgotten once it was taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrationTable {
    version: Option<u32>,
    registrations: Vec<ReportedRegistration>,
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taken {
    /// It was taken in.
    Applied,
    /// It came already, or is older than what is known.
    Known,
    /// One before it was missed.
    Gap,
}

impl RegistrationTable {
    /// Takes a document in.
    pub fn apply(&mut self, info: RegistrationInfo) -> Taken {
        match self.version {
            _ if info.is_full => {}
            Some(known) if info.version <= known => return Taken::Known,
            Some(known) if info.version == known.saturating_add(1) => {}
            _ => return Taken::Gap,
        }
        self.version = Some(info.version);
        if info.is_full {
            self.registrations.clear();
        }
        for registration in info.registrations {
            self.take(registration);
        }
        for registration in &mut self.registrations {
            let is_active = registration.is_active;
            registration.contacts.retain(|contact| is_active && contact.is_active);
        }
        Taken::Applied
    }

    /// Whether a document that is about to be taken in tells that one of the user's registered or refreshed: by what
    /// happened to it, or because more is left of it than was said last.
    pub fn is_news(&self, info: &RegistrationInfo, is_users: impl Fn(&str) -> bool) -> bool {
        let known = |registration: &ReportedRegistration, id: &str| {
            let known = self.registrations.iter().find(|it| it.id == registration.id);
            known.and_then(|it| it.contacts.iter().find(|it| it.id == id)).and_then(|it| it.expires_seconds)
        };
        let users = info.registrations.iter().filter(|it| it.is_active && is_users(&it.address_of_record));
        users.flat_map(|it| it.contacts.iter().map(move |contact| (it, contact))).any(|(registration, contact)| {
            let rose = || known(registration, &contact.id).zip(contact.expires_seconds);
            contact.is_active
                && (["registered", "created", "refreshed"].contains(&&*contact.event)
                    || rose().is_some_and(|(before, now)| now > before))
        })
    }

    /// The active contacts of the addresses-of-record that are the user's, each once.
    pub fn contacts(&self, is_users: impl Fn(&str) -> bool) -> Vec<&ReportedContact> {
        let mut found: Vec<&ReportedContact> = Vec::new();
        for registration in self.registrations.iter().filter(|it| is_users(&it.address_of_record)) {
            for contact in &registration.contacts {
                if !found.iter().any(|known| known.uri == contact.uri) {
                    found.push(contact);
                }
            }
        }
        found
    }

    /// Whether anything is said of the user at all: what is not said proves nothing.
    pub fn speaks_of(&self, is_users: impl Fn(&str) -> bool) -> bool {
        self.registrations.iter().any(|it| is_users(&it.address_of_record))
    }

    /// Forgets everything: a new subscription begins with a full document (RFC 3680 §4.6).
    pub fn clear(&mut self) {
        *self = RegistrationTable::default();
    }

    fn take(&mut self, told: ReportedRegistration) {
        let at = match self.registrations.iter().position(|it| it.id == told.id) {
            Some(at) => at,
            None if self.registrations.len() < MAX_REGISTRATIONS => {
                self.registrations.push(ReportedRegistration { id: told.id, ..ReportedRegistration::default() });
                self.registrations.len() - 1
            }
            None => return,
        };
        for contact in told.contacts {
            self.take_contact(at, contact);
        }
        if let Some(known) = self.registrations.get_mut(at) {
            known.is_active = told.is_active;
            known.address_of_record = told.address_of_record;
        }
    }

    /// What does not fit is left out: all contacts together are not to be more than one document can have.
    fn take_contact(&mut self, at: usize, contact: ReportedContact) {
        let known = self.registrations.iter().flat_map(|it| &it.contacts);
        let (count, bytes) =
            known.fold((0, 0_usize), |(count, bytes), it| (count + 1, bytes.saturating_add(it.size())));
        let Some(registration) = self.registrations.get_mut(at) else { return };
        let place = registration.contacts.iter().position(|it| it.id == contact.id);
        let before = place.and_then(|place| registration.contacts.get(place)).map_or(0, ReportedContact::size);
        let fits = bytes.saturating_sub(before).saturating_add(contact.size()) <= MAX_DOCUMENT_BYTES;
        match place.and_then(|place| registration.contacts.get_mut(place)) {
            Some(known) if fits => *known = contact,
            // What is said of it now is not known, and what was said is not so any more.
            Some(known) => known.is_active = false,
            None if fits && count < MAX_CONTACTS => registration.contacts.push(contact),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(version: u32, is_full: bool, contacts: &[(&str, bool)]) -> RegistrationInfo {
        let contact = |(id, is_active): &(&str, bool)| ReportedContact {
            id: (*id).to_owned(),
            is_active: *is_active,
            uri: format!("sip:{id}@h"),
            ..ReportedContact::default()
        };
        let registration = ReportedRegistration {
            address_of_record: "sip:bob@h".to_owned(),
            id: "r".to_owned(),
            is_active: contacts.iter().any(|(_, is_active)| *is_active) || !is_full,
            contacts: contacts.iter().map(contact).collect(),
        };
        RegistrationInfo { version, is_full, registrations: vec![registration] }
    }

    fn known(table: &RegistrationTable) -> Vec<&str> {
        table.contacts(|it| it == "sip:bob@h").iter().map(|it| it.id.as_str()).collect()
    }

    #[test]
    fn changes_are_taken_in_order_and_what_was_missed_is_found() {
        let mut table = RegistrationTable::default();
        assert_eq!(table.apply(document(1, false, &[("a", true)])), Taken::Gap, "nothing to change");
        assert_eq!(table.apply(document(0, true, &[("a", true)])), Taken::Applied);
        assert_eq!(table.apply(document(1, false, &[("b", true)])), Taken::Applied);
        assert_eq!(known(&table), ["a", "b"]);
        assert_eq!(table.apply(document(1, false, &[("c", true)])), Taken::Known);
        assert_eq!(table.apply(document(3, false, &[("b", false)])), Taken::Gap);
        assert_eq!(known(&table), ["a", "b"]);
        assert_eq!(table.apply(document(4, true, &[("b", true)])), Taken::Applied);
        assert_eq!(known(&table), ["b"]);
        assert_eq!(table.apply(document(5, false, &[("b", false)])), Taken::Applied);
        assert_eq!(known(&table), [""; 0]);
        assert_eq!(table.contacts(|it| it == "sip:carol@h").len(), 0);
        assert_eq!(table.apply(document(0, true, &[("d", true)])), Taken::Applied, "whatever its version");
        assert_eq!(known(&table), ["d"]);
    }

    #[test]
    fn documents_together_hold_no_more_than_one_may() {
        let told = |version: u32, registration: usize, contacts: usize, uri_bytes: usize| {
            let ids: Vec<String> = (0..contacts).map(|it| format!("{registration}-{it}")).collect();
            let mut document =
                document(version, version == 0, &ids.iter().map(|id| (id.as_str(), true)).collect::<Vec<_>>());
            let told = &mut document.registrations[0];
            told.id = registration.to_string();
            told.contacts.iter_mut().for_each(|it| it.uri = format!("sip:{}@{}", it.id, "h".repeat(uri_bytes)));
            document
        };
        for (contacts, uri_bytes, most) in [(MAX_CONTACTS, 1, MAX_CONTACTS), (20, 1_800, MAX_DOCUMENT_BYTES / 1_800)] {
            let mut table = RegistrationTable::default();
            for version in 0..10 {
                assert_eq!(table.apply(told(version, version as usize, contacts, uri_bytes)), Taken::Applied);
            }
            let known = table.contacts(|_| true).len();
            assert!(known <= most && known >= most / 2, "{known} of {uri_bytes}");
        }
        // A contact that grew too large is not believed any longer.
        let mut table = RegistrationTable::default();
        table.apply(told(0, 0, 30, 1_500));
        table.apply(told(1, 0, 30, 1_900 * 2));
        assert!(table.contacts(|_| true).iter().map(|it| it.size()).sum::<usize>() <= MAX_DOCUMENT_BYTES);
    }

    #[test]
    fn what_happened_and_more_time_are_news() {
        let mut table = RegistrationTable::default();
        let told = |event: &str, seconds: u32| {
            let mut document = document(0, true, &[("a", true)]);
            document.registrations[0].contacts[0].event = event.to_owned();
            document.registrations[0].contacts[0].expires_seconds = Some(seconds);
            document
        };
        let is_users = |address: &str| address == "sip:bob@h";
        for event in ["registered", "created", "refreshed"] {
            assert!(table.is_news(&told(event, 60), is_users), "{event}");
            assert!(!table.is_news(&told(event, 60), |_| false), "somebody else's");
        }
        table.apply(told("registered", 60));
        assert!(!table.is_news(&told("shortened", 30), is_users));
        assert!(table.is_news(&told("shortened", 90), is_users));
        let mut gone = told("registered", 60);
        gone.registrations[0].contacts[0].is_active = false;
        assert!(!table.is_news(&gone, is_users));
    }

    #[test]
    fn a_registration_that_ended_has_no_contacts() {
        let mut table = RegistrationTable::default();
        table.apply(document(0, true, &[("a", true)]));
        let mut ended = document(1, false, &[]);
        ended.registrations[0].is_active = false;
        assert_eq!(table.apply(ended), Taken::Applied);
        assert_eq!(known(&table), [""; 0]);
        assert!(table.speaks_of(|it| it == "sip:bob@h"), "and is still spoken of");
        assert_eq!(
            table.apply(RegistrationInfo { version: 2, is_full: true, registrations: Vec::new() }),
            Taken::Applied
        );
        assert!(!table.speaks_of(|it| it == "sip:bob@h"), "nothing is said of anybody");
    }
}
