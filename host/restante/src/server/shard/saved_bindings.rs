//! Bindings as the store keeps them.

use restante_sip::registration::{Binding, BindingId, BindingKind, Bindings, EmbeddedDevice};
use serde::{Deserialize, Serialize};

use crate::server::flow;

/// Bindings as they are stored.
#[derive(Debug, Deserialize, Serialize)]
pub struct SavedBindings {
    last_id: u64,
    bindings: Vec<SavedBinding>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedBinding {
    id: u64,
    core: bool,
    contact_uri: String,
    contact_parameters: String,
    instance: Option<String>,
    reg_id: Option<u32>,
    methods: Vec<String>,
    path: Vec<String>,
    call_id: String,
    cseq_number: u32,
    registered_at: u64,
    refreshed_at: u64,
    expires_at: u64,
    flow: Option<String>,
    user_agent: Option<String>,
    doubtful: bool,
    devices: Vec<SavedDevice>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedDevice {
    contact: String,
    methods: Vec<String>,
    leaves: bool,
}

impl SavedBindings {
    /// For the store.
    #[must_use]
    pub fn write(bindings: &Bindings) -> Vec<u8> {
        let saved = SavedBindings {
            last_id: bindings.last_id,
            bindings: bindings.bindings.iter().cloned().map(SavedBinding::from).collect(),
        };
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    /// From the store.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Bindings> {
        let saved: SavedBindings = serde_json::from_slice(bytes).ok()?;
        let mut bindings = Bindings::default();
        bindings.last_id = saved.last_id;
        bindings.bindings = saved.bindings.into_iter().map(Binding::from).collect();
        Some(bindings)
    }
}

impl From<Binding> for SavedBinding {
    fn from(it: Binding) -> SavedBinding {
        SavedBinding {
            id: it.id.0,
            core: it.kind == BindingKind::Core,
            contact_uri: it.contact_uri,
            contact_parameters: it.contact_parameters,
            instance: it.instance,
            reg_id: it.reg_id,
            methods: it.methods,
            path: it.path,
            call_id: it.call_id,
            cseq_number: it.cseq_number,
            registered_at: it.registered_at,
            refreshed_at: it.refreshed_at,
            expires_at: it.expires_at,
            flow: it.flow,
            user_agent: it.user_agent,
            doubtful: it.doubtful,
            devices: it
                .devices
                .into_iter()
                .map(|device| SavedDevice { contact: device.contact, methods: device.methods, leaves: device.leaves })
                .collect(),
        }
    }
}

impl From<SavedBinding> for Binding {
    fn from(it: SavedBinding) -> Binding {
        Binding {
            id: BindingId(it.id),
            kind: if it.core { BindingKind::Core } else { BindingKind::Device },
            contact_uri: it.contact_uri,
            contact_parameters: it.contact_parameters,
            instance: it.instance,
            reg_id: it.reg_id,
            methods: it.methods,
            path: it.path,
            call_id: it.call_id,
            cseq_number: it.cseq_number,
            registered_at: it.registered_at,
            refreshed_at: it.refreshed_at,
            expires_at: it.expires_at,
            // A connection does not outlive the process that had it.
            flow: it
                .flow
                .as_deref()
                .and_then(|text| flow::read(text, false))
                .map(|(flow, relayed)| flow::write(&flow, relayed)),
            user_agent: it.user_agent,
            doubtful: it.doubtful,
            devices: it
                .devices
                .into_iter()
                .map(|device| EmbeddedDevice {
                    contact: device.contact,
                    methods: device.methods,
                    leaves: device.leaves,
                })
                .collect(),
        }
    }
}
