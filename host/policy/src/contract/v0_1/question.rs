//! What a policy is asked.

use restante_deferral::decision as native;
use restante_deferral::model;

use super::bindings::restante::policy::types;
use crate::generation::Generation;

pub(crate) fn context(context: native::Context, generation: &Generation) -> types::Context {
    types::Context {
        now: context.now.0,
        tenant: context.tenant.0.as_ref().to_owned(),
        settings: generation.settings().to_vec(),
        recipient: types::Recipient {
            address: context.recipient.address.0.as_ref().to_owned(),
            aliases: context.recipient.aliases,
            subscriber_class: context.recipient.subscriber_class,
            delivery: context.recipient.delivery.map(delivery),
            utc_offset_minutes: context.recipient.utc_offset_minutes,
        },
        queue: types::QueueTotals {
            messages: context.queue.messages,
            size_bytes: context.queue.size_bytes,
            oldest_received_at: context.queue.oldest_received_at.map(timestamp),
        },
        host: host_abilities(generation.host()),
        fields: context.fields.into_iter().map(|field| types::Field { name: field.name, value: field.value }).collect(),
    }
}

pub(crate) fn host_abilities(host: &native::HostAbilities) -> types::HostAbilities {
    types::HostAbilities {
        max_page_bytes: host.max_page_bytes,
        max_message_bytes: host.max_message_bytes,
        hand_over_targets: host.hand_over_targets.clone(),
    }
}

pub(crate) fn incoming(incoming: native::Incoming) -> types::Incoming {
    types::Incoming {
        phase: match incoming.phase {
            native::IncomingPhase::Invitation => types::IncomingPhase::Invitation,
            native::IncomingPhase::Complete => types::IncomingPhase::Complete,
        },
        kind: kind(incoming.kind),
        mode: mode(incoming.mode),
        service: incoming.service,
        sender: types::Sender {
            address: incoming.sender.address,
            verification: verification(incoming.sender.verification),
            private: incoming.sender.private,
        },
        size_bytes: incoming.size_bytes,
        content_type: incoming.content_type,
        wrapped_type: incoming.wrapped_type,
        dispositions: dispositions(incoming.dispositions),
        expires_at: incoming.expires_at.map(timestamp),
        registration: match incoming.registration {
            model::RegistrationState::Unknown => types::RegistrationState::Unknown,
            model::RegistrationState::Registered => types::RegistrationState::Registered,
            model::RegistrationState::Unregistered => types::RegistrationState::Unregistered,
        },
        contacts: incoming.contacts.into_iter().map(contact).collect(),
        recipient_counts: counts(incoming.recipient_counts),
        sender_counts: counts(incoming.sender_counts),
        tenant_counts: counts(incoming.tenant_counts),
        upstream_failure: incoming.upstream_failure,
    }
}

pub(crate) fn availability(availability: native::Availability) -> types::Availability {
    types::Availability {
        trigger: match availability.trigger {
            native::Trigger::Registered => types::Trigger::Registered,
            native::Trigger::Refreshed => types::Trigger::Refreshed,
            native::Trigger::Reported => types::Trigger::Reported,
            native::Trigger::MessageArrived => types::Trigger::MessageArrived,
            native::Trigger::Timer => types::Trigger::Timer,
            native::Trigger::FetchDeadline => types::Trigger::FetchDeadline,
            native::Trigger::Operator => types::Trigger::Operator,
            native::Trigger::PlanDone => types::Trigger::PlanDone,
        },
        contacts: availability.contacts.into_iter().map(contact).collect(),
        messages: availability.messages.into_iter().map(waiting_message).collect(),
        not_shown: availability.not_shown,
        can_notify: availability.can_notify,
    }
}

pub(crate) fn pull(pull: native::Pull) -> types::Pull {
    types::Pull {
        contact: pull.contact.map(contact),
        verification: verification(pull.verification),
        selection: match pull.selection {
            native::Selection::All => types::Selection::All,
            native::Selection::Listed(ids) => types::Selection::Listed(ids.into_iter().map(|id| id.0).collect()),
        },
        accept_types: pull.accept_types,
        accept_wrapped_types: pull.accept_wrapped_types,
        max_size_bytes: pull.max_size_bytes,
        direction: match pull.direction {
            native::MediaDirection::ReceiveOnly => types::MediaDirection::ReceiveOnly,
            native::MediaDirection::SendAndReceive => types::MediaDirection::SendAndReceive,
        },
        messages: pull.messages.into_iter().map(waiting_message).collect(),
        not_shown: pull.not_shown,
    }
}

pub(crate) fn failure(failure: native::Failure) -> types::Failure {
    types::Failure {
        attempt: match failure.attempt {
            native::AttemptKind::Page => types::AttemptKind::Page,
            native::AttemptKind::Session => types::AttemptKind::Session,
            native::AttemptKind::Notification => types::AttemptKind::Notification,
            native::AttemptKind::Relay => types::AttemptKind::Relay,
            native::AttemptKind::Pull => types::AttemptKind::Pull,
            native::AttemptKind::HandOver => types::AttemptKind::HandOver,
        },
        contact: failure.contact.map(|id| id.0),
        status: failure.status,
        origin: origin(failure.origin),
        retry_after_seconds: failure.retry_after_seconds,
        messages: failure.messages.into_iter().map(failed_message).collect(),
        other_contacts: failure.other_contacts.into_iter().map(contact).collect(),
    }
}

fn failed_message(failed: native::FailedMessage) -> types::FailedMessage {
    types::FailedMessage {
        message: waiting_message(failed.message),
        progress: match failed.progress {
            native::Progress::Refused => types::Progress::Refused,
            native::Progress::Partial => types::Progress::Partial,
            native::Progress::Unsent => types::Progress::Unsent,
        },
        status: failed.status,
    }
}

pub(crate) fn expiring_message(expiring: native::ExpiringMessage) -> types::ExpiringMessage {
    types::ExpiringMessage {
        message: waiting_message(expiring.message),
        source: match expiring.source {
            model::ExpirySource::Sender => types::ExpirySource::Sender,
            model::ExpirySource::Operator => types::ExpirySource::Operator,
        },
        dispositions: dispositions(expiring.dispositions),
    }
}

fn waiting_message(message: native::WaitingMessage) -> types::WaitingMessage {
    types::WaitingMessage {
        id: message.id.0,
        sender: message.sender,
        kind: kind(message.kind),
        page_bytes: message.page_bytes,
        size_bytes: message.size_bytes,
        content_type: message.content_type,
        received_at: message.received_at.0,
        expires_at: message.expires_at.0,
        priority: message.priority,
        attempts: message.attempts,
        not_before: message.not_before.map(timestamp),
        last_failure: message.last_failure.map(last_result),
        page_refused: message.page_refused,
        large_refused: message.large_refused,
        notified_at: message.notified_at.map(timestamp),
        fetch_deadline: message.fetch_deadline.map(timestamp),
        devices: message.devices.into_iter().map(device_state).collect(),
    }
}

fn device_state(state: model::DeviceState) -> types::DeviceState {
    types::DeviceState { device: state.device, delivered_at: state.delivered_at.map(timestamp) }
}

fn contact(contact: native::ContactView) -> types::Contact {
    types::Contact {
        id: contact.id.0,
        instance: contact.instance,
        q_permille: contact.q_permille,
        abilities: abilities(contact.abilities),
        tags: contact.tags,
        last_failure: contact.last_failure.map(last_result),
    }
}

fn abilities(abilities: model::Abilities) -> types::Abilities {
    let model::Abilities {
        page_mode,
        large_message_mode,
        cpm_deferred,
        cpm_messaging,
        reliable_transport,
        through_proxy,
        subscribed,
        takes_summaries,
    } = abilities;
    let flags = [
        (page_mode, types::Abilities::PAGE_MODE),
        (large_message_mode, types::Abilities::LARGE_MESSAGE_MODE),
        (cpm_deferred, types::Abilities::CPM_DEFERRED),
        (cpm_messaging, types::Abilities::CPM_MESSAGING),
        (reliable_transport, types::Abilities::RELIABLE_TRANSPORT),
        (through_proxy, types::Abilities::THROUGH_PROXY),
        (subscribed, types::Abilities::SUBSCRIBED),
        (takes_summaries, types::Abilities::TAKES_SUMMARIES),
    ];
    flags.into_iter().filter(|(set, _)| *set).fold(types::Abilities::empty(), |all, (_, flag)| all | flag)
}

fn dispositions(dispositions: model::Dispositions) -> types::Dispositions {
    let model::Dispositions { positive_delivery, negative_delivery, processing, display } = dispositions;
    let flags = [
        (positive_delivery, types::Dispositions::POSITIVE_DELIVERY),
        (negative_delivery, types::Dispositions::NEGATIVE_DELIVERY),
        (processing, types::Dispositions::PROCESSING),
        (display, types::Dispositions::DISPLAY),
    ];
    flags.into_iter().filter(|(set, _)| *set).fold(types::Dispositions::empty(), |all, (_, flag)| all | flag)
}

fn delivery(delivery: model::Delivery) -> types::Delivery {
    match delivery {
        model::Delivery::Push => types::Delivery::Push,
        model::Delivery::Pull => types::Delivery::Pull,
        model::Delivery::Hold => types::Delivery::Hold,
    }
}

fn kind(kind: model::MessageKind) -> types::MessageKind {
    match kind {
        model::MessageKind::Message => types::MessageKind::Message,
        model::MessageKind::Disposition => types::MessageKind::Disposition,
    }
}

fn mode(mode: model::Mode) -> types::Mode {
    match mode {
        model::Mode::Page => types::Mode::Page,
        model::Mode::Large => types::Mode::Large,
    }
}

fn verification(verification: model::Verification) -> types::Verification {
    match verification {
        model::Verification::None => types::Verification::None,
        model::Verification::TrustedPeer => types::Verification::TrustedPeer,
        model::Verification::Authenticated => types::Verification::Authenticated,
    }
}

fn last_result(result: model::LastResult) -> types::LastResult {
    types::LastResult { at: result.at.0, status: result.status, origin: origin(result.origin) }
}

fn origin(origin: model::Origin) -> types::Origin {
    match origin {
        model::Origin::Device => types::Origin::Device,
        model::Origin::Core => types::Origin::Core,
        model::Origin::Timeout => types::Origin::Timeout,
        model::Origin::Transport => types::Origin::Transport,
    }
}

fn counts(counts: model::Counts) -> types::Counts {
    types::Counts {
        stored_messages: counts.stored_messages,
        stored_bytes: counts.stored_bytes,
        last_minute: counts.last_minute,
        last_hour: counts.last_hour,
    }
}

fn timestamp(timestamp: model::Timestamp) -> u64 {
    timestamp.0
}
