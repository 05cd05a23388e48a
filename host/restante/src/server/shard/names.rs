//! Other names of users: learning them, and taking in what waits under them.
//!
//! A name that comes to belong to a user may have a queue, a machine that works on it and a registration of its own, on
//! whichever shard it hashes to. From the moment the directory knows the name, everything new for it goes to its owner.
//! What there is already follows in this order:
//!
//! | step | where | what |
//! |---|---|---|
//! | 1 | owner's shard | the owner's profile says so durably; then the directory does ([`Shard::change_profile`]) |
//! | 2 | name's shard | told to release the name; its bindings go to the owner, who registers them as its own; its subscriptions end, and clients subscribe again |
//! | 3 | name's shard | a machine at work goes on until it is idle, then it is put away |
//! | 4 | name's shard | the store is ordered to move what waits ([`restante_store::Adoption`]) |
//! | 5 | owner's shard | its machine is told that its queue grew |
//!
//! Why a busy machine is waited for, and nothing is taken away from it: it has leases on messages that a device is
//! acknowledging, timers, arrivals that wait for a policy or a commit, and commits under way that name its recipient. All of
//! them end by themselves within the bounds that every machine has, because nothing new comes: the directory sends it to the
//! owner, and without bindings no attempt begins. Arrivals in its hands are stored under the name and answered as ever, and
//! are moved with the rest. When it is idle, all of its commits are done; the store carries out orders in the order they
//! are given; so the adoption, given by the same shard, sees all of them and none comes after it.
//!
//! What still comes for the name between 4 and 5 (a large message whose session began before) waits until the store is done,
//! and is then stored under the name by a machine made for it, which leaves in the same way. A report that another shard
//! stored under the name in the meantime rings the name's durable alarm; an alarm of a name that is somebody's leads to
//! another adoption. A crash anywhere in between is mended at the next start, when every name with something under it is
//! released again.
//!
//! Learning the name before its queue is idle means that the owner may get a new message before an old one that still waits
//! under the name. The other way about, a name that is written to all the time would never be idle, and its owner never get
//! what waits.

use restante_deferral::commit::CommitError;
use restante_deferral::decision::Trigger;
use restante_deferral::model::{AliasChange, Duration, Profile, ProfileChange, RecipientKey};
use restante_deferral::participating_function::Input;
use restante_store::{Adopted, Adoption, Record, Saved, Takeover};
use tokio::sync::oneshot;

use super::{Now, Order, Shard, ToShard};
use crate::logging::Shortened;
use crate::server::directory::Reservation;

/// Wait before an adoption that failed is ordered again.
const ADOPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A change of a user's names or preferences, to be made durable by the user's own shard, so that such changes come to the
/// directory in the order in which the store carried them out.
pub struct ProfileOrder {
    /// Whose.
    pub user: RecipientKey,
    /// What is to be different; nothing: the directory and the machine learn what the store knows.
    pub change: ProfileChange,
    /// Holds the names that are new until they are known. Users whose names they were lose them in the same commit: two
    /// that claim a name would be told apart at the next start by chance.
    pub reservation: Option<Reservation>,
    /// Told the profile as it is then.
    pub done: Option<oneshot::Sender<Result<Profile, CommitError>>>,
}

impl Shard {
    pub(super) fn change_profile(&mut self, now: Now, order: ProfileOrder) {
        if self.shared.directory.owner_of(&order.user).is_some() {
            // Another name of somebody since this was sent: it has no profile of its own any more.
            return self.profile_changed(now, order, Err(CommitError::Failed));
        }
        let from = order.reservation.as_ref().map(|it| it.displaced().to_vec()).unwrap_or_default();
        let change = order.change.clone();
        let record = match from.is_empty() {
            true => Record::ProfileChange(change),
            false => Record::Takeover(Takeover { change, from }),
        };
        let (ticket, user) = (self.ticket(), order.user.clone());
        self.orders.insert(ticket.token, Order::Profile(Box::new(order)));
        if let Err(error) = self.shared.store.save(ticket, user, record)
            && let Some(Order::Profile(order)) = self.orders.remove(&ticket.token)
        {
            self.profile_changed(now, *order, Err(error));
        }
    }

    pub(super) fn profile_changed(&mut self, now: Now, order: ProfileOrder, result: Result<Saved, CommitError>) {
        let ProfileOrder { user, change, reservation, done } = order;
        let result = result.and_then(|saved| match saved {
            Saved::Profile(profile) => Ok(profile),
            Saved::Kept | Saved::Adopted(_) => Err(CommitError::Failed),
        });
        if let Ok(profile) = &result {
            let displaced = reservation.as_ref().map(|it| it.displaced().to_vec()).unwrap_or_default();
            for name in self.shared.directory.settle(&user, profile, reservation) {
                tracing::info!(
                    tenant = %user.tenant,
                    user = %Shortened(&user.address.0),
                    name = %Shortened(&name.address.0),
                    "the name now belongs to this user"
                );
                self.shared.to_recipient(&name, ToShard::Release(name.clone()));
            }
            if self.slots.contains_key(&user) {
                self.tell(now, &user, Input::Profile(profile.clone()));
            }
            // Whose names they were learns it on its own shard.
            for (other, _) in displaced {
                let change = ProfileChange::default();
                let order = ProfileOrder { user: other.clone(), change, reservation: None, done: None };
                self.shared.to_recipient(&other, ToShard::ChangeProfile(Box::new(order)));
            }
            // Who wants messages otherwise than before, and is there, gets them so at once.
            if change.is_preference() && !self.contacts_of(&user).is_empty() {
                self.contacts_changed(now, &user, Some(Trigger::Operator));
            }
        }
        if let Some(done) = done {
            let _ = done.send(result);
        }
    }

    /// The core says under which names a user is registered (RFC 7315 §4.1): they all reach its queue from now on.
    pub(super) fn learn_names(&mut self, now: Now, user: &RecipientKey, names: &[String]) {
        let reservation = self.shared.directory.reserve_registered(user, names);
        if reservation.names().is_empty() {
            return;
        }
        let change =
            ProfileChange { aliases: AliasChange::Register(reservation.names().to_vec()), ..ProfileChange::default() };
        let order = ProfileOrder { user: user.clone(), change, reservation: Some(reservation), done: None };
        self.change_profile(now, order);
    }

    /// What is kept under this name goes to whom it belongs to, as soon as nobody works on it.
    pub(super) fn release(&mut self, now: Now, name: &RecipientKey) {
        let Some(owner) = self.shared.directory.owner_of(name) else { return };
        // A registration that is being written comes first; its end releases the name.
        if self.registering.contains_key(name) {
            return;
        }
        self.give_bindings_away(now, name, &owner);
        self.deactivate_subscriptions_of(now, name);
        match self.slots.get_mut(name) {
            Some(slot) => {
                slot.is_leaving = true;
                self.leave_if_idle(now, name);
            }
            None => self.order_adoption(now, name.clone(), owner),
        }
    }

    /// Registrations of an earlier run under names that are somebody's.
    pub(super) fn release_registered_names(&mut self, now: Now) {
        let directory = &self.shared.directory;
        let names: Vec<RecipientKey> =
            self.registrations.keys().filter(|name| directory.owner_of(name).is_some()).cloned().collect();
        for name in names {
            self.release(now, &name);
        }
    }

    /// Puts the machine of a name that is somebody's away once it is done.
    pub(super) fn leave_if_idle(&mut self, now: Now, name: &RecipientKey) {
        let Some(slot) = self.slots.get_mut(name).filter(|slot| slot.is_leaving && slot.is_idle()) else { return };
        match self.shared.directory.owner_of(name) {
            Some(owner) => {
                if let Some(at) = slot.scheduled {
                    self.wakes.remove(&(at, name.clone()));
                }
                self.slots.remove(name);
                self.shared.metrics.recipients.dec();
                self.order_adoption(now, name.clone(), owner);
            }
            None if !self.shared.directory.serves(&name.tenant) => {
                if let Some(at) = slot.scheduled {
                    self.wakes.remove(&(at, name.clone()));
                }
                self.slots.remove(name);
                self.shared.metrics.recipients.dec();
            }
            // The operator took the name back, or the tenant is served again, meanwhile.
            None => slot.is_leaving = false,
        }
    }

    /// No machine of the name is in memory, and none is made until the store is done.
    pub(super) fn order_adoption(&mut self, now: Now, name: RecipientKey, owner: RecipientKey) {
        self.adopting.entry(name.clone()).or_default();
        let adoption = Adoption {
            alias: name.address.clone(),
            is_configured: self.shared.directory.is_configured(&name.address.0),
            wake_at: now.wall,
        };
        let ticket = self.ticket();
        self.orders.insert(ticket.token, Order::Adoption { name, owner: owner.clone() });
        if let Err(error) = self.shared.store.save(ticket, owner, Record::Adoption(adoption))
            && let Some(Order::Adoption { name, owner }) = self.orders.remove(&ticket.token)
        {
            self.adopted(now, name, owner, Err(error));
        }
    }

    pub(super) fn adopted(
        &mut self,
        now: Now,
        name: RecipientKey,
        owner: RecipientKey,
        result: Result<Saved, CommitError>,
    ) {
        match result {
            Ok(Saved::Adopted(Adopted { messages, more, changes_profile })) => {
                if messages > 0 {
                    tracing::info!(
                        tenant = %owner.tenant,
                        user = %Shortened(&owner.address.0),
                        name = %Shortened(&name.address.0),
                        messages,
                        "moved what waited under another name to this user's queue"
                    );
                    self.shared.to_recipient(&owner, ToShard::Grew(owner.clone()));
                }
                if changes_profile {
                    let change = ProfileChange::default();
                    let order = ProfileOrder { user: owner.clone(), change, reservation: None, done: None };
                    self.shared.to_recipient(&owner, ToShard::ChangeProfile(Box::new(order)));
                }
                if more {
                    return self.order_adoption(now, name, owner);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(
                    tenant = %name.tenant,
                    name = %Shortened(&name.address.0),
                    %error,
                    "cannot move what waits under another name to the user's queue"
                );
                self.adoption_retries.insert((now.wall.after(ADOPT_AGAIN_AFTER), name.clone()));
            }
        }
        for input in self.adopting.remove(&name).unwrap_or_default() {
            self.tell(now, &name, input);
        }
    }

    pub(super) fn retry_adoptions(&mut self, now: Now) {
        while self.adoption_retries.first().is_some_and(|(at, _)| *at <= now.wall)
            && let Some((_, name)) = self.adoption_retries.pop_first()
        {
            if !self.adopting.contains_key(&name) {
                self.release(now, &name);
            }
        }
    }

    /// Keeps what comes for a name while it is being adopted. What was not taken comes back.
    pub(super) fn hold_for_adoption(&mut self, name: &RecipientKey, input: Input) -> Result<(), Input> {
        let most = super::size(self.shared.limits.max_waiting_arrivals);
        let Some(held) = self.adopting.get_mut(name) else { return Err(input) };
        match input {
            Input::Wake | Input::QueueGrew if held.contains(&input) => {}
            Input::Arrival(_) | Input::Invitation(_) | Input::Pull(_) | Input::Discard { .. } if held.len() >= most => {
                return Err(input);
            }
            // Meant for a machine that is gone.
            Input::Loaded(..)
            | Input::Answered(..)
            | Input::Committed(..)
            | Input::Delivered(..)
            | Input::AttemptEnded(..)
            | Input::Contacts(..)
            | Input::Profile(_) => {}
            input => held.push_back(input),
        }
        Ok(())
    }
}
