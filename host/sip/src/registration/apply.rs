use super::binding::{Binding, BindingId, BindingKind};
use super::embedded::EmbeddedDevice;
use super::request::{RegisterRequest, RequestedContact, RequestedContacts, is_reachable, methods_of};
use super::{RegisterError, Registrant, RegistrarLimits};
use crate::UnixMilliseconds;
use crate::identity::equivalent;
use crate::uri::Uri;

/// An hour: what asks for as much is never too brief (RFC 3261 §10.3 step 7).
const NEVER_TOO_BRIEF_SECONDS: u32 = 3600;

/// What is bound to one address-of-record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// In the order in which they were made.
    pub bindings: Vec<Binding>,
    /// The last number that was given to a binding. No number is used again for another one: see [`Bindings::new`].
    pub last_id: u64,
}

/// What a REGISTER changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrationOutcome {
    /// In the order in which it happened; a binding that did not change is not here.
    pub changes: Vec<BindingChange>,
}

/// A binding that changed, as it is now, or was last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingChange {
    /// What happened to it.
    pub kind: ChangeKind,
    /// The binding.
    pub binding: Binding,
}

/// What happened to a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was there before.
    Refreshed {
        /// The address is another one, or a device is behind the core that was not known there.
        moved: bool,
    },
    /// It was ended by its owner.
    Removed,
    /// Its time was up.
    Expired,
    /// The core says that a device left; others may be there.
    Doubtful,
}

impl RegistrationOutcome {
    /// Whether somebody can be reached because of this who could perhaps not be before.
    #[must_use]
    pub fn makes_available(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.kind, ChangeKind::Added | ChangeKind::Refreshed { .. }))
    }
}

impl Bindings {
    /// None. Numbers begin behind `now` in milliseconds since 1970, so that whatever was numbered before, at fewer than
    /// a thousand bindings a second, is numbered otherwise and nothing has to be kept of a user whose last binding
    /// went.
    #[must_use]
    pub fn new(now: UnixMilliseconds) -> Bindings {
        Bindings { bindings: Vec::new(), last_id: now }
    }

    /// Takes over the bindings of another name of the user, with numbers of its own. Of two that are the same contact,
    /// the same device, or a core each, its own stays, and it has at most `max_contacts`. Whether one came.
    pub fn inherit(&mut self, others: Vec<Binding>, max_contacts: usize) -> bool {
        let before = self.bindings.len();
        for other in others {
            let is_same = |own: &Binding| {
                own.contact_uri == other.contact_uri
                    || (own.instance.is_some() && own.instance == other.instance && own.reg_id == other.reg_id)
                    || (own.kind, other.kind) == (BindingKind::Core, BindingKind::Core)
            };
            if self.bindings.len() < max_contacts && !self.bindings.iter().any(is_same) {
                self.last_id = self.last_id.saturating_add(1);
                self.bindings.push(Binding { id: BindingId(self.last_id), ..other });
            }
        }
        self.bindings.len() > before
    }

    /// Does what a REGISTER asks, all of it or nothing (RFC 3261 §10.3 step 7).
    ///
    /// | Contact | of a device | of a core |
    /// |---|---|---|
    /// | none | nothing changes | bound: From names the core too |
    /// | `*`, Expires 0 | every device binding ends | the route is doubtful |
    /// | expiry 0 | that binding ends | the route is doubtful until it expires or is refreshed |
    /// | known one | refreshed | refreshed; the devices it tells of are added to those known |
    /// | unknown one | added | takes the place of the route before: a user has one serving core |
    ///
    /// A binding is known by instance and reg-id where RFC 5626 applies, else by an equivalent URI (RFC 3261 §19.1.4).
    /// Deviation: else by instance alone: a device that comes back with another address takes the place of its old one,
    /// which would be a ghost until it expires.
    ///
    /// Within one Call-ID a lower CSeq is refused. Deviation: an equal one is a repetition that outlived its
    /// transaction, is answered as the first was, and changes nothing.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing was changed then.
    pub fn apply(
        &mut self,
        now: UnixMilliseconds,
        request: &RegisterRequest,
        registrant: Registrant,
        limits: &RegistrarLimits,
    ) -> Result<RegistrationOutcome, RegisterError> {
        let mut update =
            Update { bindings: self.clone(), now, request, limits, touched: Vec::new(), changes: Vec::new() };
        for binding in update.bindings.expire(now) {
            update.changes.push(BindingChange { kind: ChangeKind::Expired, binding });
        }
        match registrant {
            Registrant::Device => update.device()?,
            Registrant::Core => update.core()?,
        }
        *self = update.bindings;
        Ok(RegistrationOutcome { changes: update.changes })
    }

    /// Takes out what has expired.
    pub fn expire(&mut self, now: UnixMilliseconds) -> Vec<Binding> {
        self.bindings.extract_if(.., |binding| binding.expires_at <= now).collect()
    }

    /// When the next binding expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<UnixMilliseconds> {
        self.bindings.iter().map(|binding| binding.expires_at).min()
    }

    /// Takes out a binding, for example one whose connection is gone.
    pub fn remove(&mut self, id: BindingId) -> Option<Binding> {
        let at = self.bindings.iter().position(|binding| binding.id == id)?;
        Some(self.bindings.remove(at))
    }

    /// Nothing is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }
}

struct Update<'a> {
    bindings: Bindings,
    now: UnixMilliseconds,
    request: &'a RegisterRequest,
    limits: &'a RegistrarLimits,
    touched: Vec<BindingId>,
    changes: Vec<BindingChange>,
}

impl Update<'_> {
    fn device(&mut self) -> Result<(), RegisterError> {
        match &self.request.contacts {
            RequestedContacts::Query => Ok(()),
            RequestedContacts::All => self.remove_all(),
            RequestedContacts::These(contacts) => {
                for contact in contacts {
                    self.device_contact(contact)?;
                }
                let devices = self.bindings.bindings.iter().filter(|it| it.kind == BindingKind::Device).count();
                let added = self.changes.iter().any(|change| change.kind == ChangeKind::Added);
                if added && devices > self.limits.max_contacts { Err(RegisterError::TooManyContacts) } else { Ok(()) }
            }
        }
    }

    fn remove_all(&mut self) -> Result<(), RegisterError> {
        let of_device = |binding: &&Binding| binding.kind == BindingKind::Device;
        for binding in self.bindings.bindings.iter().filter(of_device) {
            self.is_repetition(binding)?;
        }
        for binding in self.bindings.bindings.extract_if(.., |binding| of_device(&&*binding)) {
            self.changes.push(BindingChange { kind: ChangeKind::Removed, binding });
        }
        Ok(())
    }

    fn device_contact(&mut self, contact: &RequestedContact) -> Result<(), RegisterError> {
        if !is_reachable(contact) {
            return Err(RegisterError::Malformed("Contact Is No SIP URI"));
        }
        let known = self.find(contact);
        if let Some(binding) = known.and_then(|at| self.bindings.bindings.get(at))
            && !self.touched.contains(&binding.id)
            && self.is_repetition(binding)?
        {
            return Ok(());
        }
        let seconds = self.granted_seconds(contact)?;
        if seconds == 0 {
            if let Some(at) = known {
                let binding = self.bindings.bindings.remove(at);
                self.changes.push(BindingChange { kind: ChangeKind::Removed, binding });
            }
            return Ok(());
        }
        let mut binding = self.new_binding(BindingKind::Device, &contact.uri, &contact.parameters, seconds)?;
        binding.instance = contact.value.instance().map(str::to_owned);
        binding.reg_id = contact.value.reg_id().filter(|_| self.request.is_outbound && binding.instance.is_some());
        binding.methods = methods_of(&contact.value, &self.request.allow);
        self.put(known, binding, false);
        Ok(())
    }

    /// What a contact is granted: its own expiry, else that of the request, else the default.
    fn granted_seconds(&self, contact: &RequestedContact) -> Result<u32, RegisterError> {
        let limits = self.limits;
        let seconds =
            contact.value.expires_seconds().or(self.request.expires_seconds).unwrap_or(limits.default_expires_seconds);
        let least = limits.min_expires_seconds.min(NEVER_TOO_BRIEF_SECONDS);
        if seconds > 0 && seconds < least {
            return Err(RegisterError::TooBrief { min_expires_seconds: least });
        }
        Ok(seconds.min(limits.max_expires_seconds))
    }

    fn core(&mut self) -> Result<(), RegisterError> {
        let known = self.bindings.bindings.iter().position(|binding| binding.kind == BindingKind::Core);
        if let Some(binding) = known.and_then(|at| self.bindings.bindings.get(at)) {
            match self.is_repetition(binding) {
                Ok(false) => {}
                // A core is told nothing about the order: it could only give up the registration.
                Ok(true) | Err(_) => return Ok(()),
            }
        }
        let (uri, asked) = match &self.request.contacts {
            RequestedContacts::These(contacts) => {
                let contact = contacts.iter().find(|contact| is_reachable(contact));
                let contact = contact.ok_or(RegisterError::Malformed("Contact Is No SIP URI"))?;
                (contact.uri.clone(), contact.value.expires_seconds().or(self.request.expires_seconds))
            }
            RequestedContacts::Query => (self.request.registrant_uri.clone(), self.request.expires_seconds),
            RequestedContacts::All => (String::new(), Some(0)),
        };
        if asked == Some(0) {
            self.doubt(known);
            return Ok(());
        }
        let seconds = asked
            .unwrap_or(self.limits.default_expires_seconds)
            .saturating_add(self.limits.third_party_grace_seconds)
            .min(self.limits.max_third_party_expires_seconds);
        let mut binding = self.new_binding(BindingKind::Core, &uri, "", seconds)?;
        let before = known.and_then(|at| self.bindings.bindings.get(at)).map(|known| known.devices.clone());
        let (devices, has_new) = self.merged_devices(before.unwrap_or_default());
        binding.devices = devices;
        self.put(known, binding, has_new);
        Ok(())
    }

    /// A device left the core: the route stays, for others may be behind it.
    fn doubt(&mut self, known: Option<usize>) {
        let before = known.and_then(|at| self.bindings.bindings.get(at)).map(|known| known.devices.clone());
        let (devices, _) = self.merged_devices(before.unwrap_or_default());
        let Some(binding) = known.and_then(|at| self.bindings.bindings.get_mut(at)) else { return };
        binding.doubtful = true;
        binding.devices = devices;
        // What is known by reports alone stays that: its route follows them.
        if !binding.call_id.is_empty() {
            binding.call_id.clone_from(&self.request.call_id);
            binding.cseq_number = self.request.cseq_number;
        }
        self.changes.push(BindingChange { kind: ChangeKind::Doubtful, binding: binding.clone() });
    }

    /// The devices known behind the core after this request, and whether one of them was unknown.
    fn merged_devices(&self, mut known: Vec<EmbeddedDevice>) -> (Vec<EmbeddedDevice>, bool) {
        let told = &self.request.devices;
        let is_new = |device: &EmbeddedDevice, known: &[EmbeddedDevice]| {
            !device.leaves && !known.iter().any(|other| other.is_same_device(device))
        };
        let has_new = told.iter().any(|device| is_new(device, &known));
        if self.request.devices_are_complete {
            known.clear();
        }
        for device in told {
            known.retain(|other| !other.is_same_device(device));
            if !device.leaves && device.contact.len() <= self.limits.max_binding_bytes {
                known.push(device.clone());
            }
        }
        let excess = known.len().saturating_sub(self.limits.max_contacts);
        known.drain(..excess);
        (known, has_new)
    }

    /// The binding that a contact speaks of.
    fn find(&self, contact: &RequestedContact) -> Option<usize> {
        let instance = contact.value.instance();
        let reg_id = contact.value.reg_id().filter(|_| self.request.is_outbound && instance.is_some());
        let devices =
            || self.bindings.bindings.iter().enumerate().filter(|(_, binding)| binding.kind == BindingKind::Device);
        let by_flow = || {
            devices().find(|(_, binding)| {
                reg_id.is_some() && binding.reg_id == reg_id && binding.instance.as_deref() == instance
            })
        };
        let by_uri = || {
            // Two flows of one device may share an address.
            devices().find(|(_, binding)| {
                (reg_id.is_none() || binding.reg_id.is_none())
                    && same_uri(&binding.contact_uri, &contact.value.address.uri)
            })
        };
        let by_instance = || {
            devices().find(|(_, binding)| {
                reg_id.is_none()
                    && binding.reg_id.is_none()
                    && instance.is_some()
                    && binding.instance.as_deref() == instance
                    && !self.touched.contains(&binding.id)
            })
        };
        by_flow().or_else(by_uri).or_else(by_instance).map(|(at, _)| at)
    }

    /// Whether the last REGISTER of a binding was this one; an error when it was a later one.
    fn is_repetition(&self, binding: &Binding) -> Result<bool, RegisterError> {
        if binding.call_id != self.request.call_id || self.request.cseq_number > binding.cseq_number {
            return Ok(false);
        }
        if self.request.cseq_number == binding.cseq_number { Ok(true) } else { Err(RegisterError::OutOfOrder) }
    }

    fn new_binding(
        &self,
        kind: BindingKind,
        uri: &str,
        parameters: &str,
        seconds: u32,
    ) -> Result<Binding, RegisterError> {
        let request = self.request;
        let path_bytes: usize = request.path.iter().map(String::len).sum();
        if uri.len().saturating_add(parameters.len()).saturating_add(path_bytes) > self.limits.max_binding_bytes {
            return Err(RegisterError::TooLarge);
        }
        Ok(Binding {
            id: BindingId(0),
            kind,
            contact_uri: uri.to_owned(),
            contact_parameters: parameters.to_owned(),
            instance: None,
            reg_id: None,
            methods: Vec::new(),
            path: request.path.clone(),
            call_id: request.call_id.clone(),
            cseq_number: request.cseq_number,
            registered_at: self.now,
            refreshed_at: self.now,
            expires_at: self.now.saturating_add(u64::from(seconds).saturating_mul(1000)),
            flow: request.flow.clone(),
            user_agent: request.user_agent.clone(),
            doubtful: false,
            devices: Vec::new(),
        })
    }

    /// Puts a binding in the place of the known one, or adds it.
    fn put(&mut self, known: Option<usize>, mut binding: Binding, has_new_device: bool) {
        let kind = match known.and_then(|at| self.bindings.bindings.get_mut(at)) {
            Some(place) => {
                let moved = has_new_device || place.contact_uri != binding.contact_uri || place.path != binding.path;
                binding.id = place.id;
                binding.registered_at = place.registered_at;
                *place = binding.clone();
                ChangeKind::Refreshed { moved }
            }
            None => {
                self.bindings.last_id = self.bindings.last_id.saturating_add(1);
                binding.id = BindingId(self.bindings.last_id);
                self.bindings.bindings.push(binding.clone());
                ChangeKind::Added
            }
        };
        self.touched.push(binding.id);
        self.changes.push(BindingChange { kind, binding });
    }
}

fn same_uri(stored: &str, uri: &Uri) -> bool {
    match (Uri::parse(stored), uri) {
        (Ok(Uri::Sip(stored)), Uri::Sip(uri)) => equivalent(&stored, uri),
        (Ok(stored), uri) => stored == *uri,
        (Err(_), _) => false,
    }
}
