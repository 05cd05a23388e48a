use super::EmbeddedDevice;
use crate::UnixMilliseconds;
use crate::header::{ContactValue, HeaderError, NameAddr};
use crate::uri::Uri;

/// Number of a binding, never used again within its address-of-record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingId(pub u64);

/// What a binding's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingKind {
    /// The client.
    Device,
    /// The core behind which the client is.
    Core,
}

/// One way to an address-of-record, in plain values that a store can keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its number.
    pub id: BindingId,
    /// What its address is.
    pub kind: BindingKind,
    /// Contact's URI as written.
    pub contact_uri: String,
    /// Contact's parameters as written, each with its semicolon, without `expires`: q, +sip.instance, reg-id, feature
    /// tags and unknown ones.
    pub contact_parameters: String,
    /// `+sip.instance` without angle brackets.
    pub instance: Option<String>,
    /// `reg-id`, when RFC 5626 was applied.
    pub reg_id: Option<u32>,
    /// Methods from the `methods` feature tag, else from Allow; empty when neither came.
    pub methods: Vec<String>,
    /// Path, the first hop from us first (RFC 3327).
    pub path: Vec<String>,
    /// Call-ID of the last REGISTER.
    pub call_id: String,
    /// Its CSeq.
    pub cseq_number: u32,
    /// When the binding was made, milliseconds since 1970.
    pub registered_at: UnixMilliseconds,
    /// When it was refreshed last, milliseconds since 1970.
    pub refreshed_at: UnixMilliseconds,
    /// When it ends, milliseconds since 1970.
    pub expires_at: UnixMilliseconds,
    /// The flow that the REGISTER came over, in whatever form the caller writes one.
    pub flow: Option<String>,
    /// User-Agent of the REGISTER.
    pub user_agent: Option<String>,
    /// A [`BindingKind::Core`] whose core said that a device left: there may be nobody.
    pub doubtful: bool,
    /// Devices that the core told of. Empty for [`BindingKind::Device`].
    pub devices: Vec<EmbeddedDevice>,
}

/// Where a request to a binding goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Request-URI.
    pub request_uri: String,
    /// Values of Route in order.
    pub routes: Vec<String>,
}

impl Binding {
    /// The whole Contact value, without `expires`.
    #[must_use]
    pub fn contact_value(&self) -> String {
        format!("<{}>{}", self.contact_uri, self.contact_parameters)
    }

    /// Contact, parsed.
    ///
    /// # Errors
    /// [`HeaderError`]: cannot be for a binding that [`super::Bindings::apply`] made.
    pub fn contact(&self) -> Result<ContactValue, HeaderError> {
        ContactValue::parse(&self.contact_value())
    }

    /// Contact's `q`, 0 to 1000.
    #[must_use]
    pub fn q_permille(&self) -> u16 {
        self.contact().and_then(|contact| contact.q_permille()).unwrap_or(1000)
    }

    /// Feature tags (RFC 3840) of the device, or of all devices known behind the core: names and values.
    #[must_use]
    pub fn feature_tags(&self) -> Vec<(String, Option<String>)> {
        let values = match self.kind {
            BindingKind::Device => vec![self.contact()],
            BindingKind::Core => self.devices.iter().map(EmbeddedDevice::contact).collect(),
        };
        let mut tags: Vec<(String, Option<String>)> = Vec::new();
        for contact in values.iter().flatten() {
            for (name, value) in contact.feature_tags() {
                let tag = (name.to_ascii_lowercase(), value.map(str::to_owned));
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
        tags
    }

    /// Methods that the device, or any device behind the core, takes; empty when unknown.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        let mut methods = match self.kind {
            BindingKind::Device => self.methods.clone(),
            BindingKind::Core => self.devices.iter().flat_map(|device| device.methods.iter().cloned()).collect(),
        };
        methods.sort_unstable();
        methods.dedup();
        methods
    }

    /// Where a request to this binding goes: to the device with its Path as the route, or to the address-of-record
    /// through the core (the Path in a third-party REGISTER is the client's, and would go around the core).
    ///
    /// Header fields in the Contact's URI are left out: they may not stand in a Request-URI (RFC 3261 §19.1.1).
    #[must_use]
    pub fn target(&self, address_of_record: &str) -> Target {
        match self.kind {
            BindingKind::Device => Target { request_uri: self.request_uri(), routes: self.path.clone() },
            BindingKind::Core => Target { request_uri: address_of_record.to_owned(), routes: vec![self.core_route()] },
        }
    }

    fn request_uri(&self) -> String {
        match Uri::parse(&self.contact_uri) {
            Ok(Uri::Sip(mut uri)) => {
                uri.headers = None;
                uri.parameters.retain(|(name, _)| !name.eq_ignore_ascii_case("method"));
                Uri::Sip(uri).to_string()
            }
            _ => self.contact_uri.clone(),
        }
    }

    /// The core as a loose route.
    fn core_route(&self) -> String {
        match Uri::parse(&self.contact_uri) {
            Ok(Uri::Sip(mut uri)) => {
                uri.headers = None;
                if !uri.parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case("lr")) {
                    uri.parameters.push(("lr".to_owned(), None));
                }
                NameAddr::new(Uri::Sip(uri)).to_string()
            }
            _ => format!("<{}>", self.contact_uri),
        }
    }
}
