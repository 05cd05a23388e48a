//! Which of a user's devices a request goes to, and in which order, as its caller wants it (RFC 3841).
//!
//! | the request says | then |
//! |---|---|
//! | Reject-Contact of what a device registered | that device does not get it |
//! | Accept-Contact with `require` that a device does not suit | that device does not get it |
//! | another Accept-Contact | among devices of one q those that suit better come first |
//! | Request-Disposition: sequential | one device after the other, instead of those of one q together |
//! | Request-Disposition: no-fork | the first device alone |
//!
//! What is kept and delivered later is a message of ours: its devices are the policy's to choose.
//!
//! Deviation: `redirect`, `no-cancel`, `no-recurse` and `queue` are not followed, which RFC 3841 §9.1 leaves to the server: nothing
//! is redirected here, and calls are not queued.

use restante_deferral::model::{Contact, RecipientKey};
use restante_sip::caller_preferences::CallerPreferences;
use restante_sip::message::SipMessage;
use restante_sip::registration::BindingKind;

use super::super::Shard;

impl Shard {
    /// Those of these contacts that a request goes to, the first to be tried first. Contacts of one q are begun together. A
    /// core applies what callers want itself, as it knows the devices behind it.
    pub(super) fn as_the_caller_wants(
        &self,
        key: &RecipientKey,
        contacts: Vec<Contact>,
        request: &SipMessage,
    ) -> Vec<Contact> {
        let preferences = CallerPreferences::of(request);
        let bindings = self.registrations.get(key).map(|it| it.bindings.as_slice()).unwrap_or_default();
        let preference = |contact: &Contact| {
            let binding = bindings.iter().find(|binding| binding.id.0 == contact.id.0);
            match binding.filter(|binding| binding.kind == BindingKind::Device) {
                Some(binding) => preferences.preference_permille(&binding.feature_tags()),
                None => Some(1000),
            }
        };
        let mut wanted: Vec<(u16, Contact)> =
            contacts.into_iter().filter_map(|contact| Some((preference(&contact)?, contact))).collect();
        wanted.sort_by_key(|(preference, contact)| std::cmp::Reverse((contact.q_permille, *preference)));
        let mut contacts: Vec<Contact> = wanted.into_iter().map(|(_, contact)| contact).collect();
        if preferences.is_for_one {
            contacts.truncate(1);
        }
        if preferences.is_sequential {
            let places = (0..=1000).rev();
            contacts.iter_mut().zip(places).for_each(|(contact, place)| contact.q_permille = place);
        }
        contacts
    }
}
