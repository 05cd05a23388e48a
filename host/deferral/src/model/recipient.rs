//! What is known of a recipient besides its messages.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// How a user wants deferred messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Send them when the client becomes available.
    Push,
    /// Announce them.
    Pull,
    /// Keep them until the client asks.
    Hold,
}

/// A recipient's names and preferences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Other names, in canonical form; at most [`Profile::MAX_ALIASES`].
    pub aliases: Vec<String>,
    /// Those of `aliases` that a core told in a registration (RFC 7315 §4.1) and no operator set. The core may give them to
    /// somebody else.
    pub registered: Vec<String>,
    /// The operator's subscriber class.
    pub subscriber_class: Option<String>,
    /// The user's preference.
    pub delivery: Option<Delivery>,
    /// Offset from UTC in minutes, -1440 to 1440.
    pub utc_offset_minutes: Option<i16>,
}

/// A change of a [`Profile`]: what is absent stays as it is, also when somebody else changes it at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// The operator's subscriber class; `Some(None)` removes it.
    pub subscriber_class: Option<Option<String>>,
    /// The user's preference; `Some(None)`: as the operator's policy says.
    pub delivery: Option<Option<Delivery>>,
    /// Offset from UTC in minutes; `Some(None)`: unknown.
    pub utc_offset_minutes: Option<Option<i16>>,
    /// The other names.
    pub aliases: AliasChange,
}

/// What happens to a user's other names, all in canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AliasChange {
    /// Nothing.
    #[default]
    Keep,
    /// The operator says that it is these and no others.
    Set(Vec<String>),
    /// A core's registration tells of these, too.
    Register(Vec<String>),
    /// These are somebody else's now.
    Remove(Vec<String>),
}

impl Profile {
    /// Other names of one user; what a registration tells beyond is not kept.
    pub const MAX_ALIASES: usize = 64;

    /// Does what a change says.
    pub fn change(&mut self, change: &ProfileChange) {
        if let Some(class) = &change.subscriber_class {
            self.subscriber_class.clone_from(class);
        }
        if let Some(delivery) = change.delivery {
            self.delivery = delivery;
        }
        if let Some(offset) = change.utc_offset_minutes {
            self.utc_offset_minutes = offset;
        }
        match &change.aliases {
            AliasChange::Keep => {}
            AliasChange::Set(aliases) => {
                self.aliases.clear();
                self.registered.clear();
                for alias in aliases {
                    self.add_alias(alias);
                }
            }
            AliasChange::Register(aliases) => {
                for alias in aliases {
                    if self.add_alias(alias) {
                        self.registered.push(alias.clone());
                    }
                }
            }
            AliasChange::Remove(aliases) => {
                self.aliases.retain(|known| !aliases.contains(known));
                self.registered.retain(|known| !aliases.contains(known));
            }
        }
    }

    /// Takes over the names of another profile, and its preferences where this one has none: the two are one user's.
    pub fn merge(&mut self, other: &Profile) {
        for alias in &other.aliases {
            if self.add_alias(alias) && other.registered.contains(alias) {
                self.registered.push(alias.clone());
            }
        }
        if self.subscriber_class.is_none() {
            self.subscriber_class.clone_from(&other.subscriber_class);
        }
        self.delivery = self.delivery.or(other.delivery);
        self.utc_offset_minutes = self.utc_offset_minutes.or(other.utc_offset_minutes);
    }

    /// Whether it is new.
    fn add_alias(&mut self, alias: &str) -> bool {
        let is_new = self.aliases.len() < Profile::MAX_ALIASES && !self.aliases.iter().any(|known| known == alias);
        if is_new {
            self.aliases.push(alias.to_owned());
        }
        is_new
    }
}

impl ProfileChange {
    /// Whether it says how the user wants messages, names apart.
    #[must_use]
    pub fn is_preference(&self) -> bool {
        self.subscriber_class.is_some() || self.delivery.is_some() || self.utc_offset_minutes.is_some()
    }
}

/// What waits for a recipient in all. Dispositions are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QueueTotals {
    /// Messages.
    pub messages: u32,
    /// Their bytes.
    pub size_bytes: u64,
    /// When the oldest was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_received_at: Option<Timestamp>,
}

/// Stored messages and recent arrivals of one party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Counts {
    /// Stored now.
    pub stored_messages: u32,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Arrivals in the last minute.
    pub last_minute: u32,
    /// Arrivals in the last hour.
    pub last_hour: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn change(aliases: AliasChange) -> ProfileChange {
        ProfileChange { aliases, ..ProfileChange::default() }
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let mut profile = Profile {
            aliases: names(&["tel:+1"]),
            subscriber_class: Some("gold".into()),
            delivery: Some(Delivery::Hold),
            ..Profile::default()
        };
        profile.change(&change(AliasChange::Register(names(&["tel:+1", "tel:+2"]))));
        assert_eq!(profile.aliases, ["tel:+1", "tel:+2"]);
        assert_eq!(profile.registered, ["tel:+2"], "what the operator set stays the operator's");
        profile.change(&ProfileChange { delivery: Some(None), ..ProfileChange::default() });
        assert_eq!((profile.delivery, profile.subscriber_class.as_deref()), (None, Some("gold")));
        profile.change(&change(AliasChange::Set(names(&["tel:+2"]))));
        assert_eq!((profile.aliases.len(), profile.registered.len()), (1, 0), "the operator's now");
        profile.change(&change(AliasChange::Remove(names(&["tel:+2"]))));
        assert!(profile.aliases.is_empty());
        assert!(!change(AliasChange::Set(Vec::new())).is_preference());
    }

    #[test]
    fn names_are_bounded() {
        let mut profile = Profile::default();
        let many = (0..100).map(|number| format!("tel:+{number}")).collect();
        profile.change(&change(AliasChange::Register(many)));
        assert_eq!((profile.aliases.len(), profile.registered.len()), (Profile::MAX_ALIASES, Profile::MAX_ALIASES));
    }

    #[test]
    fn merged_profiles_keep_what_the_owner_said() {
        let mut owner = Profile { delivery: Some(Delivery::Pull), aliases: names(&["tel:+1"]), ..Profile::default() };
        owner.merge(&Profile {
            aliases: names(&["tel:+1", "tel:+2"]),
            registered: names(&["tel:+1", "tel:+2"]),
            delivery: Some(Delivery::Push),
            utc_offset_minutes: Some(60),
            ..Profile::default()
        });
        assert_eq!(owner.aliases, ["tel:+1", "tel:+2"]);
        assert_eq!(owner.registered, ["tel:+2"]);
        assert_eq!((owner.delivery, owner.utc_offset_minutes), (Some(Delivery::Pull), Some(60)));
    }
}
