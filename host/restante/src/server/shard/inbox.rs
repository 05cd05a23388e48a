//! What comes to a shard, and from nowhere else than its queue.

use std::collections::HashSet;
use std::sync::Arc;

use restante_deferral::decision::{Answer, Undecided};
use restante_deferral::model::{MessageId, RecipientKey, TenantName, Timestamp};
use restante_deferral::participating_function::QuestionToken;
use restante_sip::message::SipMessage;
use restante_sip::registration::{Binding, ReportedDevices};
use restante_sip::transaction::Flow;
use restante_store::Completion;
use restante_transport::msrp::HandedOver;
use restante_transport::resolution::Wanted;
use restante_transport::{ConnectionId, SendFailure};
use tokio::sync::oneshot;

use super::{CredentialsOrder, ProfileOrder};
use crate::server::usage::Permit;

/// What comes to a shard.
pub enum ToShard {
    /// A SIP message that passed validation.
    Sip {
        /// The message.
        message: SipMessage,
        /// Where it came from.
        flow: Flow,
        /// Of the directory, before it was asked which shard's this is.
        directory_version: u64,
    },
    /// Something that was to be sent was not, and why.
    SendFailed(u64, SendFailure),
    /// A connection is gone.
    Closed(ConnectionId),
    /// The store is done with some orders.
    Stored(Vec<Completion>),
    /// A policy answered, or could not.
    Decided(DecisionTicket, Result<Answer, Undecided>),
    /// An MSRP connection for one of its sessions.
    Connection(HandedOver<String>),
    /// These recipients want to be looked at.
    Due(Vec<RecipientKey>),
    /// A recipient's queue was added to by another shard.
    Grew(RecipientKey),
    /// A user's names or preferences are to be others.
    ChangeProfile(Box<ProfileOrder>),
    /// A user is to authenticate with something else.
    ChangeCredentials(Box<CredentialsOrder>),
    /// This name belongs to another user: what is kept under it goes there.
    Release(RecipientKey),
    /// These bindings were another name's of the user.
    Inherit {
        /// The user.
        owner: RecipientKey,
        /// The name.
        from: RecipientKey,
        /// Its bindings.
        bindings: Vec<Binding>,
    },
    /// The operator drops messages.
    Discard {
        /// Whose.
        recipient: RecipientKey,
        /// Which; none: all.
        messages: Option<Vec<MessageId>>,
        /// Tell the senders.
        report: bool,
        /// Told how many.
        done: oneshot::Sender<usize>,
    },
    /// Something that this shard waited for is free for it.
    Granted(Permit),
    /// A name was asked about.
    Resolved(Wanted),
    /// These tenants were added, changed or removed.
    TenantsChanged(Arc<HashSet<TenantName>>),
    /// These recipients have messages, and their tenant is served again.
    ServedAgain(Vec<RecipientKey>),
    /// Something waits for these recipients: a core may be asked about them.
    Watch(Vec<RecipientKey>),
    /// All devices of a user behind a core, by an operator's word.
    Report(RecipientKey, Box<ReportedDevices>),
    /// Which contacts a user has.
    Contacts(RecipientKey, oneshot::Sender<Vec<(String, Timestamp)>>),
    /// Stop taking new work; end when what is in flight is done.
    Drain,
}

/// Finds the machine that asked.
pub type DecisionTicket = (usize, RecipientKey, QuestionToken);
