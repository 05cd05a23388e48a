//! Large message sessions: the SIP dialog on one side, the MSRP task on the other.
//!
//! | kind | dialog | who connects | ends with |
//! |---|---|---|---|
//! | incoming | their INVITE | as negotiated, we prefer to wait | their BYE |
//! | push | our INVITE | as negotiated, we offer either | our BYE after the last message is settled |
//! | pull | their INVITE | as negotiated, we prefer to wait | our BYE after the last message is settled |

use std::time::Duration;

use restante_cpim::media_type::essence;
use restante_cpim::multipart;
use restante_deferral::decision::Progress;
use restante_deferral::model::{Body, MessageId, Origin, RecipientKey, Sender};
use restante_deferral::participating_function::{AttemptEnd, AttemptId, Input, Outcome as MessageOutcome, Reply};
use restante_msrp::sdp::{self, AcceptTypes, Direction, LocalMedia, MsrpDescription};
use restante_msrp::session::{Outcome, Role, SessionConfiguration, SessionLimits};
use restante_msrp::session_id::new_session_id;
use restante_msrp::uri::MsrpUri;
use restante_sip::dialog::{Dialog, establish};
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::{ClientTransactionId, Flow, ServerTransactionId};
use restante_transport::ConnectionId;
use restante_transport::msrp::HandedOver;
use tokio::sync::mpsc;

use super::responses::Purpose;
use super::{Now, Shard};
use crate::server::media::{self, Command, Connection, MediaId, Report, ReportKind, Start};

/// Orders that wait for a session's task.
const COMMANDS: usize = 64;

/// A session and its dialog.
pub(super) struct MediaSession {
    pub(super) kind: MediaKind,
    pub(super) dialog: Option<Dialog>,
    pub(super) flow: Flow,
    pub(super) local: LocalMedia,
    /// Their offer, until it is answered.
    pub(super) offer: Option<MsrpDescription>,
    /// Their INVITE, until it is answered.
    pub(super) transaction: Option<ServerTransactionId>,
    /// Our INVITE.
    pub(super) client: Option<ClientTransactionId>,
    /// Its bytes, from which the dialog is made.
    pub(super) invite: bytes::Bytes,
    session_id: String,
    commands: Option<mpsc::Sender<Command>>,
    /// What is to be sent once the ACK came or went.
    pub(super) outgoing: Vec<media::Outgoing>,
    /// How a task is to begin, until the ACK.
    start: Option<Start>,
    bye_sent: bool,
    /// The ACK for our 200 came, or our own ACK went out. No BYE of ours before that (RFC 3261 §15).
    pub(super) acknowledged: bool,
    /// BYE as soon as it may be sent.
    end_wanted: bool,
}

/// What a session is for.
pub(super) enum MediaKind {
    Incoming { key: RecipientKey, sender: Sender, request: Box<SipMessage> },
    Push(Delivery),
    Pull(Delivery),
}

/// A delivery through a session.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) key: RecipientKey,
    /// None until the machine has given a pull its messages.
    pub(super) attempt: Option<AttemptId>,
    pub(super) is_device: bool,
    pub(super) settled: Vec<(MessageId, MessageOutcome)>,
    /// SIP status of a session that did not come about.
    pub(super) status: Option<u16>,
    pub(super) origin: Origin,
    pub(super) retry_after_seconds: Option<u32>,
}

/// What an INVITE offers.
pub(super) struct Offer {
    pub(super) media: MsrpDescription,
    /// A part that selects deferred messages.
    pub(super) selection: Option<bytes::Bytes>,
}

impl Offer {
    /// Reads the SDP of an INVITE, alone or in a multipart body. The error is the status to answer with.
    pub(super) fn read(message: &SipMessage) -> Result<Offer, u16> {
        let body = message.body();
        let content_type = message.header(Name::ContentType).unwrap_or("");
        let (description, selection) = match essence(content_type).as_str() {
            "application/sdp" => (body, None),
            kind if kind.starts_with("multipart/") => {
                let parts = multipart::parse(content_type, &body).ok_or(400u16)?;
                let of_type = |wanted: &str| parts.iter().find(|part| essence(part.content_type()) == wanted);
                let description = of_type("application/sdp").ok_or(488u16)?.content.clone();
                let list = of_type(restante_cpim::resource_lists::CONTENT_TYPE).filter(|part| {
                    part.header("Content-Disposition")
                        .is_none_or(|value| essence(value) == restante_cpim::resource_lists::DISPOSITION)
                });
                (description, list.map(|part| part.content.clone()))
            }
            // An INVITE without an offer leaves that to us; there is nothing to say before we know what they take.
            "" if body.is_empty() => return Err(488),
            _ => return Err(415),
        };
        let media = MsrpDescription::parse(&description, false).map_err(|error| error.sip_status())?;
        Ok(Offer { media, selection })
    }

    /// Size in a file selector (RFC 5547 §6).
    pub(super) fn file_size_bytes(&self) -> Option<u64> {
        let selector = self.media.file_selector.as_deref()?;
        selector.split_ascii_whitespace().find_map(|part| part.strip_prefix("size:"))?.parse().ok()
    }
}

impl Shard {
    /// Makes the session for an INVITE of theirs; it is answered later.
    pub(super) fn new_media(
        &mut self,
        transaction: ServerTransactionId,
        _message: &SipMessage,
        offer: Offer,
        kind: MediaKind,
        flow: Flow,
    ) -> MediaId {
        let direction =
            if matches!(kind, MediaKind::Incoming { .. }) { Direction::ReceiveOnly } else { Direction::SendOnly };
        let (id, local) = self.local_media(direction);
        let session = MediaSession {
            kind,
            dialog: None,
            flow,
            session_id: local.uri.session_id.clone().unwrap_or_default(),
            local,
            offer: Some(offer.media),
            transaction: Some(transaction),
            client: None,
            invite: bytes::Bytes::new(),
            commands: None,
            outgoing: Vec::new(),
            start: None,
            bye_sent: false,
            acknowledged: false,
            end_wanted: false,
        };
        self.media.insert(id, session);
        self.shared.metrics.sessions.inc();
        id
    }

    /// Our side of a session: a URI that nobody can guess, at the address that is advertised.
    fn local_media(&mut self, direction: Direction) -> (MediaId, LocalMedia) {
        let random = self.endpoint.identifiers().random();
        let session_id = new_session_id(u16::try_from(self.index).unwrap_or(0), random.to_be_bytes());
        let place = &self.shared.msrp_place;
        let receives = direction.receives();
        let local = LocalMedia {
            uri: MsrpUri {
                secure: false,
                user_info: None,
                host: place.host.clone(),
                port: place.port,
                session_id: Some(session_id),
                transport: "tcp".to_owned(),
                parameters: Vec::new(),
            },
            accept_types: if receives {
                AcceptTypes::parse("message/cpim text/* application/* image/* audio/* video/* *")
            } else {
                AcceptTypes::any()
            },
            accept_wrapped_types: Some(AcceptTypes::any()),
            max_size_bytes: receives.then_some(self.shared.limits.max_large_body_bytes),
            direction,
            origin_session_id: u64::try_from(random >> 80).unwrap_or(1),
            origin_version: 1,
        };
        (MediaId(self.token()), local)
    }

    /// Makes the session for an INVITE of ours.
    pub(super) fn offer_media(
        &mut self,
        delivery: Delivery,
        flow: Flow,
        outgoing: Vec<media::Outgoing>,
    ) -> (MediaId, bytes::Bytes) {
        let (id, local) = self.local_media(Direction::SendOnly);
        let offer = sdp::make_offer(&local);
        let session = MediaSession {
            kind: MediaKind::Push(delivery),
            dialog: None,
            flow,
            session_id: local.uri.session_id.clone().unwrap_or_default(),
            local,
            offer: None,
            transaction: None,
            client: None,
            invite: bytes::Bytes::new(),
            commands: None,
            outgoing,
            start: None,
            bye_sent: false,
            acknowledged: false,
            end_wanted: false,
        };
        // A peer may connect before its answer is here.
        self.session_ids.insert(session.session_id.clone(), id);
        self.media.insert(id, session);
        self.shared.metrics.sessions.inc();
        (id, offer)
    }

    /// Answers an INVITE of theirs with 200 and waits for the ACK.
    pub(super) fn accept_invitation(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let (Some(offer), Some(transaction)) = (session.offer.take(), session.transaction) else { return };
        let flow = session.flow;
        let answer = match sdp::answer(&offer, &session.local) {
            Ok(answer) => answer,
            Err(error) => {
                let status = error.sip_status();
                self.answer(now, transaction, status);
                return self.forget_media(media);
            }
        };
        let sends = answer.direction.sends();
        let receives = answer.direction.receives();
        let role = answer.role;
        let Some(start) = self.prepare(media, role, &offer, sends, receives) else {
            self.answer(now, transaction, 488);
            return self.forget_media(media);
        };
        let tag = self.endpoint.identifiers().tag();
        let contact = self.contact_uri(&flow);
        let Some(request) = self.endpoint.request(transaction).cloned() else { return self.forget_media(media) };
        let Ok(dialog) = Dialog::as_server(&request, &tag) else {
            self.answer(now, transaction, 400);
            return self.forget_media(media);
        };
        let Some(builder) = self.endpoint.response(transaction, 200, Some(&tag)) else {
            return self.forget_media(media);
        };
        let built = establish(builder, &request, &contact)
            .field("Content-Type", "application/sdp")
            .finish_with_body(&answer.sdp);
        let Ok(bytes) = built else { return self.forget_media(media) };
        if let Some(session) = self.media.get_mut(&media) {
            self.session_ids.insert(session.session_id.clone(), media);
            self.dialogs.insert(dialog.id(), media);
            session.dialog = Some(dialog);
            session.start = Some(start);
        }
        self.endpoint.respond(now.monotonic, transaction, 200, bytes);
        // A passive side may be connected to before the ACK is here.
        if role == Role::Passive {
            self.begin_media(media);
        }
    }

    /// What the task needs; none when the peer's path is none that may be connected to.
    pub(super) fn prepare(
        &self,
        media: MediaId,
        role: Role,
        theirs: &MsrpDescription,
        sends: bool,
        receives: bool,
    ) -> Option<Start> {
        let session = self.media.get(&media)?;
        let limits = &self.shared.limits;
        let connection = match role {
            Role::Passive => Connection::FromPeer,
            Role::Active => {
                let (host, port) = theirs.connect_to();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let remote = std::net::SocketAddr::new(host.parse().ok()?, port);
                if let Err(error) = self.shared.destinations.check(remote, session.flow.remote.ip()) {
                    tracing::warn!(%remote, %error, "an MSRP path leads where we may not connect to");
                    return None;
                }
                Connection::To(remote)
            }
        };
        let configuration = SessionConfiguration {
            sends,
            receives,
            remote_max_bytes: theirs.max_size_bytes,
            count_unreported_as_delivered: self.shared.count_unreported_as_delivered,
            limits: SessionLimits {
                max_incoming_message_bytes: limits.max_large_body_bytes,
                connection_timeout: Duration::from_secs(limits.max_session_setup_seconds),
                idle_timeout: Duration::from_secs(limits.max_session_idle_seconds),
                max_outgoing_messages: 4,
                ..SessionLimits::default()
            },
            ..SessionConfiguration::new(role, session.local.uri.clone(), theirs.path.clone())
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        Some(Start { media, configuration, random, connection })
    }

    /// Starts the task; messages that wait go to it.
    pub(super) fn begin_media(&mut self, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let Some(start) = session.start.take() else { return };
        let (sender, commands) = mpsc::channel(COMMANDS);
        tokio::task::spawn_local(media::run(start, commands, self.reports.clone(), self.shared.spool.clone()));
        session.commands = Some(sender);
        self.send_outgoing(media);
    }

    pub(super) fn set_start(&mut self, media: MediaId, start: Start) {
        if let Some(session) = self.media.get_mut(&media) {
            session.start = Some(start);
        }
    }

    /// Gives the task what is to be sent, if both are there.
    pub(super) fn send_outgoing(&mut self, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        if session.outgoing.is_empty() || session.commands.is_none() {
            return;
        }
        let outgoing = std::mem::take(&mut session.outgoing);
        self.command(media, Command::Send(outgoing));
    }

    pub(super) fn command(&mut self, media: MediaId, command: Command) {
        let Some(commands) = self.media.get(&media).and_then(|session| session.commands.as_ref()) else { return };
        if commands.try_send(command).is_err() {
            // The task does not keep up, or is gone: its end is reported in any case.
            tracing::debug!("a session's task takes no more orders");
        }
    }

    /// An MSRP connection whose first request names a session of this shard.
    pub(super) fn connection_came(&mut self, handed: HandedOver<String>) {
        match self.session_ids.remove(&handed.session) {
            Some(media) => self.command(media, Command::Connected(handed)),
            None => super::super::refuse_connection(handed, &self.shared.msrp_limits),
        }
    }

    pub(super) fn media_report(&mut self, now: Now, report: Report) {
        let Report { media, kind } = report;
        match kind {
            ReportKind::Received { incoming, message_id, content_type, prefix, body } => {
                if self.media.get(&media).is_some_and(|session| matches!(session.kind, MediaKind::Incoming { .. })) {
                    self.large_message_came(now, media, incoming, &message_id, &content_type, &prefix, body);
                } else {
                    self.drop_body(&body);
                    self.command(media, Command::Reject(incoming, 403));
                }
            }
            ReportKind::Settled(message, outcome) => self.message_settled(now, media, message, &outcome),
            ReportKind::AllSettled => self.end_session(now, media),
            ReportKind::Ended(reason) => {
                if let Some(reason) = reason {
                    tracing::debug!(%reason, "session over");
                }
                self.end_session(now, media);
                self.finish_delivery(now, media);
                self.forget_media(media);
            }
        }
    }

    fn message_settled(&mut self, now: Now, media: MediaId, message: MessageId, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Acknowledged => MessageOutcome::Acknowledged,
            Outcome::Unreported if self.shared.count_unreported_as_delivered => MessageOutcome::Acknowledged,
            Outcome::Rejected { status, .. } => {
                MessageOutcome::Failed { progress: Progress::Refused, status: Some(status.code()) }
            }
            Outcome::Unsent => MessageOutcome::Failed { progress: Progress::Unsent, status: None },
            Outcome::Unreported | Outcome::Partial { .. } | Outcome::Aborted => {
                MessageOutcome::Failed { progress: Progress::Partial, status: None }
            }
        };
        let Some(session) = self.media.get_mut(&media) else { return };
        let (MediaKind::Push(delivery) | MediaKind::Pull(delivery)) = &mut session.kind else { return };
        let Some(attempt) = delivery.attempt else { return };
        let key = delivery.key.clone();
        match outcome {
            MessageOutcome::Acknowledged => self.tell(now, &key, Input::Delivered(attempt, message)),
            failed => delivery.settled.push((message, failed)),
        }
    }

    /// Tells the machine how the whole attempt ended, once.
    pub(super) fn finish_delivery(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let (MediaKind::Push(delivery) | MediaKind::Pull(delivery)) = &mut session.kind else { return };
        let Some(attempt) = delivery.attempt.take() else { return };
        let end = AttemptEnd {
            status: delivery.status,
            origin: delivery.origin,
            retry_after_seconds: delivery.retry_after_seconds,
            outcomes: std::mem::take(&mut delivery.settled),
        };
        let key = delivery.key.clone();
        self.attempt_ended(now, &key, attempt, end);
    }

    /// Ends the dialog from our side.
    pub(super) fn end_session(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        if let (Some(client), None) = (session.client, &session.dialog) {
            return self.endpoint.cancel(now.monotonic, client);
        }
        if !session.acknowledged {
            session.end_wanted = true;
            return;
        }
        let (Some(dialog), false) = (session.dialog.as_mut(), session.bye_sent) else { return };
        session.bye_sent = true;
        let mut dialog = dialog.clone();
        let flow = session.flow;
        let sent_by = self.sent_by(&flow);
        let sent = self
            .endpoint
            .send_request(now.monotonic, Method::Bye, flow, &sent_by, |via| dialog.request(&Method::Bye, via).finish());
        if let Ok(client) = sent {
            self.purposes.insert(client, Purpose::Bye);
        }
        self.command(media, Command::Drain);
        self.without_task(now, media);
    }

    /// They ended the dialog.
    pub(super) fn dialog_ended(&mut self, now: Now, media: MediaId) {
        if let Some(session) = self.media.get_mut(&media) {
            session.bye_sent = true;
        }
        self.command(media, Command::Drain);
        self.without_task(now, media);
    }

    /// A session whose task never began has nobody to report its end.
    fn without_task(&mut self, now: Now, media: MediaId) {
        if self.media.get(&media).is_some_and(|session| session.commands.is_none()) {
            self.finish_delivery(now, media);
            self.forget_media(media);
        }
    }

    pub(super) fn forget_media(&mut self, media: MediaId) {
        let Some(session) = self.media.remove(&media) else { return };
        self.session_ids.remove(&session.session_id);
        if let Some(dialog) = &session.dialog {
            self.dialogs.remove(&dialog.id());
        }
        self.shared.metrics.sessions.dec();
    }

    pub(super) fn acknowledged(&mut self, now: Now, message: &SipMessage) {
        let media = restante_sip::dialog::DialogId::of_request(message).and_then(|id| self.dialogs.get(&id).copied());
        if let Some(media) = media {
            self.confirm(now, media);
        }
    }

    /// The session stands: the media may begin, and end.
    pub(super) fn confirm(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        session.acknowledged = true;
        let end_wanted = session.end_wanted;
        if end_wanted {
            return self.end_session(now, media);
        }
        self.begin_media(media);
    }

    /// The caller gave up before we answered: whatever the machine says later finds nobody.
    pub(super) fn cancelled(&mut self, now: Now, transaction: ServerTransactionId) {
        self.answer(now, transaction, 487);
        let media = self.media.iter().find(|(_, session)| session.transaction == Some(transaction)).map(|(id, _)| *id);
        if let Some(media) = media {
            self.finish_delivery(now, media);
            self.forget_media(media);
        }
    }

    pub(super) fn ack_missing(&mut self, now: Now, transaction: ServerTransactionId) {
        let media = self.media.iter().find(|(_, session)| session.transaction == Some(transaction)).map(|(id, _)| *id);
        if let Some(media) = media {
            if let Some(session) = self.media.get_mut(&media) {
                session.acknowledged = true;
            }
            self.end_session(now, media);
        }
    }

    pub(super) fn reply_to_invitation(&mut self, now: Now, media: MediaId, reply: Reply) {
        let Some(transaction) = self.media.get(&media).and_then(|session| session.transaction) else { return };
        match reply {
            Reply::Invite | Reply::Accepted => self.accept_invitation(now, media),
            Reply::Refused { status, reason, retry_after_seconds } => {
                self.refuse(now, transaction, status, &reason, retry_after_seconds);
                self.forget_media(media);
            }
            _ => {
                self.refuse(now, transaction, 503, "Not Now", Some(5));
                self.forget_media(media);
            }
        }
    }

    pub(super) fn connection_closed(&mut self, connection: ConnectionId) {
        // Registrations keep the address; what goes there next makes a new connection or fails.
        let _ = connection;
    }

    pub(super) fn drop_body(&self, body: &Body) {
        if let Body::Spooled { id, .. } = body
            && let Err(error) = self.shared.spool.remove(*id)
        {
            tracing::warn!(%error, "a body file could not be removed");
        }
    }
}
