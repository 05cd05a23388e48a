//! How a tenant's policy does, as the administration interface shows it.

use restante_deferral::model::{TenantName, Timestamp};
use restante_policy::{HookStatistics, Shadow, TenantStatistics};
use serde::{Deserialize, Serialize};

use super::library::{Kept, Recording, TenantState};
use super::recording::FileRecorder;
use crate::times::to_the_second;

/// One tenant's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TenantPolicyStatus {
    /// Whose.
    pub tenant: String,
    /// What decides.
    pub active: GenerationStatus,
    /// What decided before, the last one first.
    pub previous: Vec<GenerationStatus>,
    /// What looks on.
    pub candidate: Option<CandidateStatus>,
    /// How decisions are recorded.
    pub recording: Option<RecordingStatus>,
    /// What each hook did since the server started.
    pub hooks: Vec<HookStatus>,
}

/// What decides for a tenant, and how often that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activations {
    /// Whose.
    pub tenant: TenantName,
    /// The number of what decides.
    pub generation: u64,
    /// How often another generation came to decide.
    pub activated: u64,
    /// How often one was to, and something else goes on.
    pub refused: u64,
}

/// A generation, without its component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Counts the tenant's generations.
    pub number: u64,
    /// SHA-256 of the component.
    pub digest: String,
    /// The policy's own name and version.
    pub name: String,
    /// See `name`.
    pub version: String,
    /// The version of the contract that it speaks.
    pub contract: String,
    /// Its settings.
    pub settings: serde_json::Value,
    /// `configuration` or `upload`.
    pub origin: String,
    /// Whether a signature is kept with it.
    pub signed: bool,
    /// When it became active, or the candidate: RFC 3339.
    pub since: String,
}

/// A candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// It.
    pub generation: GenerationStatus,
    /// How many of a thousand decisions it sees.
    pub sample_permille: u32,
    /// Questions that it and the active generation answered.
    pub compared: u64,
    /// Those that both answered in the same way.
    pub agreed: u64,
}

/// How a tenant's decisions are recorded, as [`Recording`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingSettings {
    /// How many of a thousand decisions are recorded.
    pub sample_permille: u32,
    /// What the records may take on disk; the oldest go.
    pub max_bytes: u64,
    /// Addresses are written as they are, and not as pseudonyms.
    pub plain_addresses: bool,
}

/// A record that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingStatus {
    /// How.
    pub settings: RecordingSettings,
    /// Decisions that were recorded since the active generation decides.
    pub recorded: u64,
    /// Those that were to be recorded, and there was no time.
    pub left_out: u64,
    /// Nothing can be recorded: the log says why.
    #[serde(default)]
    pub is_broken: bool,
}

/// What one hook did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Which.
    pub hook: String,
    /// Questions.
    pub asked: u64,
    /// Those without an answer.
    pub undecided: u64,
    /// Time per question, in microseconds.
    pub mean_micros: u64,
    /// It failed too often and is not asked now.
    pub suspended: bool,
    /// It failed too often at what somebody outside asked, and is not asked that now.
    #[serde(default)]
    pub suspended_for_outsiders: bool,
}

impl TenantPolicyStatus {
    pub(super) fn new(
        tenant: &TenantName,
        state: &TenantState,
        candidate: Option<&Shadow>,
        recorder: Option<&FileRecorder>,
        statistics: Option<&TenantStatistics>,
    ) -> TenantPolicyStatus {
        TenantPolicyStatus {
            tenant: tenant.to_string(),
            active: GenerationStatus::from(&state.active),
            previous: state.previous.iter().map(GenerationStatus::from).collect(),
            candidate: state.candidate.as_ref().map(|kept| {
                let total = candidate.map(|shadow| shadow.comparison().total()).unwrap_or_default();
                CandidateStatus {
                    generation: GenerationStatus::from(&kept.generation),
                    sample_permille: kept.sample_permille,
                    compared: total.identical.saturating_add(total.changed),
                    agreed: total.identical,
                }
            }),
            recording: state.recording.map(|settings| {
                let (recorded, left_out) = recorder.map(FileRecorder::counts).unwrap_or_default();
                RecordingStatus { settings: settings.into(), recorded, left_out, is_broken: recorder.is_none() }
            }),
            hooks: statistics.map_or_else(Vec::new, |it| it.hooks.iter().map(HookStatus::from).collect()),
        }
    }
}

impl From<&Kept> for GenerationStatus {
    fn from(kept: &Kept) -> GenerationStatus {
        let origin = match kept.origin {
            super::library::Origin::Configuration => "configuration",
            super::library::Origin::Upload => "upload",
        };
        GenerationStatus {
            number: kept.number,
            digest: kept.digest.clone(),
            name: kept.name.clone(),
            version: kept.version.clone(),
            contract: kept.contract.clone(),
            settings: kept.settings.clone(),
            origin: origin.to_owned(),
            signed: kept.signature.is_some(),
            since: to_the_second(Timestamp(kept.since)),
        }
    }
}

impl From<Recording> for RecordingSettings {
    fn from(Recording { sample_permille, max_bytes, plain_addresses }: Recording) -> RecordingSettings {
        RecordingSettings { sample_permille, max_bytes, plain_addresses }
    }
}

impl From<RecordingSettings> for Recording {
    fn from(it: RecordingSettings) -> Recording {
        let RecordingSettings { sample_permille, max_bytes, plain_addresses } = it;
        Recording { sample_permille, max_bytes, plain_addresses }
    }
}

impl From<&HookStatistics> for HookStatus {
    fn from(it: &HookStatistics) -> HookStatus {
        let failures =
            [it.declined, it.trapped, it.timed_out, it.out_of_memory, it.overloaded, it.impossible, it.suspended];
        HookStatus {
            hook: it.hook.name().to_owned(),
            asked: it.asked,
            undecided: failures.into_iter().fold(0, u64::saturating_add),
            mean_micros: it.total_micros.checked_div(it.asked).unwrap_or(0),
            suspended: it.is_suspended,
            suspended_for_outsiders: it.is_suspended_for_outsiders,
        }
    }
}
