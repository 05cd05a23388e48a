use super::apply::{BindingChange, Bindings, ChangeKind, RegistrationOutcome};
use super::binding::{Binding, BindingId, BindingKind};
use super::embedded::EmbeddedDevice;
use crate::UnixMilliseconds;

/// All devices that are registered with a core, told otherwise than by a REGISTER: by registration events (RFC 3680),
/// or by an operator's system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedDevices {
    /// SIP URI of the core that leads to them, where none is known by its REGISTER.
    pub core_uri: String,
    /// All of them; none: nobody is there.
    pub devices: Vec<EmbeddedDevice>,
    /// Until when that is believed, milliseconds since 1970.
    pub expires_at: UnixMilliseconds,
    /// One of them registered or refreshed, which is more than that they are there still.
    pub is_news: bool,
}

impl Bindings {
    /// Takes in what was reported. Unlike the `Expires: 0` of a third-party REGISTER it is the whole truth of the core:
    /// where it names nobody, the route through the core ends. What devices registered here themselves stays.
    ///
    /// | known | reported | change |
    /// |---|---|---|
    /// | no core | devices | added |
    /// | a core | devices | refreshed: its devices are these; nothing, where nothing is new |
    /// | a core, by reports alone | devices, through another | refreshed, and moved there |
    /// | a core | nobody | removed |
    pub fn report(
        &mut self,
        now: UnixMilliseconds,
        reported: &ReportedDevices,
        max_devices: usize,
    ) -> RegistrationOutcome {
        let mut changes: Vec<BindingChange> =
            self.expire(now).into_iter().map(|binding| BindingChange { kind: ChangeKind::Expired, binding }).collect();
        let known = self.bindings.iter().position(|binding| binding.kind == BindingKind::Core);
        let devices: Vec<EmbeddedDevice> = reported.devices.iter().take(max_devices).cloned().collect();
        match known {
            Some(at) if devices.is_empty() => {
                let binding = self.bindings.remove(at);
                changes.push(BindingChange { kind: ChangeKind::Removed, binding });
            }
            None if devices.is_empty() || reported.expires_at <= now => {}
            Some(at) => changes.extend(self.bindings.get_mut(at).and_then(|it| refresh(it, now, reported, devices))),
            None => {
                self.last_id = self.last_id.saturating_add(1);
                let binding = new_binding(BindingId(self.last_id), now, reported, devices);
                self.bindings.push(binding.clone());
                changes.push(BindingChange { kind: ChangeKind::Added, binding });
            }
        }
        RegistrationOutcome { changes }
    }
}

fn refresh(
    binding: &mut Binding,
    now: UnixMilliseconds,
    reported: &ReportedDevices,
    devices: Vec<EmbeddedDevice>,
) -> Option<BindingChange> {
    let is_known = |device: &EmbeddedDevice| binding.devices.iter().any(|known| known.is_same_device(device));
    // Where the core's REGISTER told of no device, those that are there need not be new.
    let has_new = !binding.devices.is_empty() && !devices.iter().all(is_known);
    // The address in a REGISTER of the core's is the better one: it is who serves the user.
    let leads_elsewhere = binding.call_id.is_empty() && binding.contact_uri != reported.core_uri;
    let moved = has_new || leads_elsewhere;
    if !moved
        && !reported.is_news
        && binding.devices == devices
        && binding.expires_at >= reported.expires_at
        && !binding.doubtful
    {
        return None;
    }
    if leads_elsewhere {
        binding.contact_uri.clone_from(&reported.core_uri);
    }
    binding.devices = devices;
    binding.doubtful = false;
    binding.refreshed_at = now;
    binding.expires_at = binding.expires_at.max(reported.expires_at);
    Some(BindingChange { kind: ChangeKind::Refreshed { moved }, binding: binding.clone() })
}

fn new_binding(
    id: BindingId,
    now: UnixMilliseconds,
    reported: &ReportedDevices,
    devices: Vec<EmbeddedDevice>,
) -> Binding {
    Binding {
        id,
        kind: BindingKind::Core,
        contact_uri: reported.core_uri.clone(),
        contact_parameters: String::new(),
        instance: None,
        reg_id: None,
        methods: Vec::new(),
        path: Vec::new(),
        // No REGISTER has this one, so that none is taken for older than the report.
        call_id: String::new(),
        cseq_number: 0,
        registered_at: now,
        refreshed_at: now,
        expires_at: reported.expires_at,
        flow: None,
        user_agent: None,
        doubtful: false,
        devices,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(devices: &[&str], expires_at: UnixMilliseconds) -> ReportedDevices {
        let device =
            |user: &&str| EmbeddedDevice { contact: format!("<sip:{user}@ue>"), methods: Vec::new(), leaves: false };
        let devices = devices.iter().map(device).collect();
        ReportedDevices { core_uri: "sip:core".to_owned(), devices, expires_at, is_news: false }
    }

    fn kinds(outcome: &RegistrationOutcome) -> Vec<ChangeKind> {
        outcome.changes.iter().map(|change| change.kind).collect()
    }

    #[test]
    fn who_registered_again_is_news_though_nothing_else_is() {
        let mut bindings = Bindings::default();
        bindings.report(0, &report(&["a"], 100), 10);
        let again = ReportedDevices { is_news: true, ..report(&["a"], 100) };
        let outcome = bindings.report(1, &again, 10);
        assert_eq!(kinds(&outcome), [ChangeKind::Refreshed { moved: false }]);
        assert!(outcome.makes_available());
    }

    #[test]
    fn a_route_that_is_known_by_reports_alone_follows_them() {
        let mut bindings = Bindings::default();
        bindings.report(0, &report(&["a"], 100), 10);
        let elsewhere = ReportedDevices { core_uri: "sip:other".to_owned(), ..report(&["a"], 100) };
        assert_eq!(kinds(&bindings.report(1, &elsewhere, 10)), [ChangeKind::Refreshed { moved: true }]);
        assert_eq!(bindings.bindings[0].contact_uri, "sip:other");
        // That of a REGISTER stays.
        bindings.bindings[0].call_id = "c1".to_owned();
        assert_eq!(kinds(&bindings.report(2, &report(&["a"], 100), 10)), []);
        assert_eq!(bindings.bindings[0].contact_uri, "sip:other");
    }

    #[test]
    fn a_report_adds_refreshes_and_ends_the_route_through_the_core() {
        let mut bindings = Bindings::default();
        assert_eq!(kinds(&bindings.report(0, &report(&[], 100), 10)), []);
        assert_eq!(kinds(&bindings.report(0, &report(&["a"], 100), 10)), [ChangeKind::Added]);
        assert_eq!(kinds(&bindings.report(1, &report(&["a"], 100), 10)), [], "nothing new");
        let same = [ChangeKind::Refreshed { moved: false }];
        assert_eq!(kinds(&bindings.report(1, &report(&["a"], 200), 10)), same);
        let moved = [ChangeKind::Refreshed { moved: true }];
        assert_eq!(kinds(&bindings.report(2, &report(&["a", "b"], 150), 10)), moved);
        assert_eq!(bindings.bindings[0].expires_at, 200, "never shortened while somebody is there");
        assert_eq!(kinds(&bindings.report(3, &report(&["b"], 200), 10)), same);
        assert_eq!(bindings.bindings[0].devices.len(), 1);
        assert_eq!(kinds(&bindings.report(4, &report(&[], 200), 10)), [ChangeKind::Removed]);
        assert!(bindings.is_empty());
        assert_eq!(kinds(&bindings.report(5, &report(&["a"], 6), 10)), [ChangeKind::Added]);
        assert_eq!(kinds(&bindings.report(7, &report(&["a"], 9), 10)), [ChangeKind::Expired, ChangeKind::Added]);
    }
}
