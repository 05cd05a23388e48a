use super::request::{RequestedContact, RequestedContacts};
use super::{Binding, BindingKind, Bindings, RegisterRequest, Registrant};
use crate::UnixMilliseconds;
use crate::header::write_date;

impl Bindings {
    /// The header fields of the 200 after [`Bindings::apply`]: every binding as a Contact of its own with `expires`,
    /// Path for who understands it (RFC 3327 §5.3), `Require: outbound` and Flow-Timer where RFC 5626 was applied,
    /// P-Associated-URI with `associated` URIs, Date.
    ///
    /// A core gets its own Contact back, and not what others registered.
    #[must_use]
    pub fn answer(
        &self,
        now: UnixMilliseconds,
        request: &RegisterRequest,
        registrant: Registrant,
        associated: &[String],
    ) -> Vec<rsip::Header> {
        let other = |name: &str, value: String| rsip::Header::Other(name.to_owned(), value);
        let mut fields: Vec<rsip::Header> = match registrant {
            Registrant::Device => self
                .bindings
                .iter()
                .filter(|binding| binding.kind == BindingKind::Device && binding.expires_at > now)
                .map(|binding| contact(&binding.contact_value(), seconds_left(binding, now)))
                .collect(),
            Registrant::Core => self.core_contacts(now, request),
        };
        if request.supports_path {
            fields.extend(request.path.iter().map(|path| other("Path", path.clone())));
        }
        // Whether this request made or ended a flow, and not whether there is one (RFC 5626 §6).
        let is_of_a_flow = |it: &RequestedContact| it.value.reg_id().is_some() && it.value.instance().is_some();
        let names_a_flow = match &request.contacts {
            RequestedContacts::These(contacts) => contacts.iter().any(is_of_a_flow),
            RequestedContacts::Query | RequestedContacts::All => false,
        };
        if request.is_outbound && names_a_flow {
            fields.push(rsip::Header::Require("outbound".to_owned().into()));
            fields.extend(request.flow_timer_seconds.map(|seconds| other("Flow-Timer", seconds.to_string())));
        }
        fields.extend(associated.iter().map(|uri| other("P-Associated-URI", format!("<{uri}>"))));
        fields.push(rsip::Header::Date(write_date(now / 1000).into()));
        fields
    }

    fn core_contacts(&self, now: UnixMilliseconds, request: &RegisterRequest) -> Vec<rsip::Header> {
        let RequestedContacts::These(contacts) = &request.contacts else { return Vec::new() };
        let bound = self.bindings.iter().find(|binding| binding.kind == BindingKind::Core && !binding.doubtful);
        let left = bound.map_or(0, |binding| seconds_left(binding, now));
        contacts.iter().map(|it| contact(&format!("<{}>{}", it.uri, it.parameters), left)).collect()
    }
}

fn contact(value: &str, seconds: u64) -> rsip::Header {
    rsip::Header::Contact(format!("{value};expires={seconds}").into())
}

/// Rounded up: a client that takes 0 for "gone" must not read it while the binding lives.
fn seconds_left(binding: &Binding, now: UnixMilliseconds) -> u64 {
    binding.expires_at.saturating_sub(now).div_ceil(1000)
}
