//! Large message sessions: the SIP dialog on one side, the MSRP task on the other.
//!
//! | kind | dialog | who connects | ends with |
//! |---|---|---|---|
//! | incoming | their INVITE | as negotiated, we prefer to wait | their BYE |
//! | push, hand-over | our INVITE | as negotiated, we offer either | our BYE after the last message is settled |
//! | pull | their INVITE | as negotiated, we prefer to wait | our BYE after the last message is settled |
//!
//! A session is forgotten when its task is over and its dialog is: after our BYE or theirs, or without an ACK. The
//! phases of the dialog are in `phase`.

mod admission;
mod answering;
mod ending;
mod offer;
mod phase;
mod preparing;
mod refreshing;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use restante_deferral::decision::Progress;
use restante_deferral::model::{Body, MessageId, Origin, RecipientKey, Sender};
use restante_deferral::participating_function::{AttemptId, Outcome as MessageOutcome, RequestFacts};
use restante_msrp::sdp::{self, Direction, Fingerprint, LocalMedia, MsrpDescription};
use restante_msrp::status::Status;
use restante_sip::message::SipMessage;
use restante_sip::session_timer;
use restante_sip::transaction::{ClientTransactionId, Flow, ServerTransactionId};
use restante_transport::msrp::HandedOver;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

pub(super) use self::admission::{Asked, SessionParts};
pub(super) use self::offer::Offer;
use self::phase::Phase;
pub(super) use self::refreshing::ALLOW_IN_SESSION;
use super::{Now, Shard};
use crate::server::listeners::{refuse_connection, refuse_guess};
use crate::server::media::{self, Command, Connection, MAX_COMMANDS, MediaEvent, MediaEventKind, MediaId, Start};
use crate::server::usage::Permit;

/// Content of one chunk where relays stand in between: what they have room for.
const RELAYED_CHUNK_BYTES: usize = 10 * 1024;
/// Reports among what a session carries go only to those that name the type.
const IMDN: &str = restante_cpim::imdn::CONTENT_TYPE;

/// A session and its dialog.
pub(super) struct MediaSession {
    pub(super) kind: MediaKind,
    pub(super) phase: Phase,
    pub(super) flow: Flow,
    /// Where the other side's signalling comes from: its MSRP path may lead there.
    signalled_from: IpAddr,
    local: LocalMedia,
    /// Their offer, until it is answered.
    offer: Option<MsrpDescription>,
    /// Their INVITE.
    pub(super) transaction: Option<ServerTransactionId>,
    /// Our INVITE.
    pub(super) client: Option<ClientTransactionId>,
    /// Its bytes, from which the dialog is made.
    pub(super) invite: bytes::Bytes,
    session_id: String,
    connection: PeerConnection,
    /// Its end of what leads to the relay, until its task begins.
    through_relay: Option<DuplexStream>,
    /// Said to whoever holds the other end.
    has_begun: Arc<AtomicBool>,
    /// Of the certificates that the peer may show, where it named some; known once its description is.
    fingerprints: Vec<Fingerprint>,
    /// The id of the URI that the peer's path begins with: of a client of our own relay it is that client's.
    relayed_by: Option<String>,
    commands: Option<mpsc::Sender<Command>>,
    /// What is to be sent once the ACK came or went.
    pub(super) outgoing: Vec<media::Outgoing>,
    /// How a task is to begin, until it does.
    start: Option<Start>,
    /// Something was said of everything that was to be sent.
    all_settled: bool,
    refreshing: refreshing::Refreshing,
    _parts: SessionParts,
}

/// A session's part of what its tenant may have; none for a tenant that was removed meanwhile.
pub(super) type SessionPermit = Option<Permit>;

/// The connection that the peer makes. A session has one; a second is refused with 506.
enum PeerConnection {
    Awaited,
    /// It came before its task began: a peer may connect before its 200 is here.
    Early(Box<HandedOver<String>>),
    Bound,
}

/// What a session is for.
pub(super) enum MediaKind {
    Incoming { key: RecipientKey, sender: Sender, request: Box<SipMessage>, beside: Box<RequestFacts> },
    Push(Delivery),
    Pull(Delivery),
}

/// A delivery through a session.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) key: RecipientKey,
    /// None until the machine has given a pull its messages, and once it was told the end.
    pub(super) attempt: Option<AttemptId>,
    pub(super) is_device: bool,
    /// One message for a named target: what became of it is what became of the attempt.
    pub(super) is_hand_over: bool,
    /// A 2xx agreed on media: the session stands, or stood.
    pub(super) established: bool,
    /// Messages that nobody has said anything of.
    pub(super) open: usize,
    /// What was said of those that were not taken.
    pub(super) settled: Vec<(MessageId, MessageOutcome)>,
    /// Who broke a session off that stood.
    pub(super) broken_by: Option<Origin>,
    /// SIP status of a session that did not come about.
    pub(super) status: Option<u16>,
    /// Who said so.
    pub(super) origin: Origin,
    pub(super) retry_after_seconds: Option<u32>,
}

impl Delivery {
    pub(super) fn new(key: RecipientKey, attempt: Option<AttemptId>, is_device: bool) -> Delivery {
        Delivery {
            key,
            attempt,
            is_device,
            is_hand_over: false,
            established: false,
            open: 0,
            settled: Vec::new(),
            broken_by: None,
            status: None,
            origin: Origin::Transport,
            retry_after_seconds: None,
        }
    }

    /// Notes what became of a message that was not taken.
    fn failed(&mut self, message: MessageId, progress: Progress, status: Option<u16>) {
        if progress == Progress::Refused {
            self.open = self.open.saturating_sub(1);
        }
        self.settled.push((message, MessageOutcome::Failed { progress, status }));
    }
}

impl MediaSession {
    pub(super) fn delivery_mut(&mut self) -> Option<&mut Delivery> {
        match &mut self.kind {
            MediaKind::Push(delivery) | MediaKind::Pull(delivery) => Some(delivery),
            MediaKind::Incoming { .. } => None,
        }
    }

    /// Whether the peer may use this connection for the session: encrypted as was agreed on, and with the certificate
    /// that its description named (RFC 4975 §14.4, RFC 8122 §6.2). Who named none is known by the session's id alone.
    fn may_be_bound_to(&self, handed: &HandedOver<String>) -> bool {
        let certificate = handed.stream.peer_certificate();
        let is_named = |certificate: &[u8]| self.fingerprints.iter().any(|it| it.matches(certificate));
        let is_it = !self.local.uri.secure || self.fingerprints.is_empty() || certificate.is_some_and(is_named);
        // What came through our own relay never left this process, and its client showed who it is: that it is the peer
        // stands in the peer's path.
        let is_relayed = handed.stream.relayed_for().is_some_and(|client| self.relayed_by.as_deref() == Some(client));
        is_relayed || (handed.stream.is_encrypted() == self.local.uri.secure && is_it)
    }

    fn new(
        kind: MediaKind,
        flow: Flow,
        signalled_from: IpAddr,
        local: LocalMedia,
        parts: SessionParts,
    ) -> MediaSession {
        MediaSession {
            kind,
            phase: Phase::Invited { end_wanted: false },
            flow,
            signalled_from,
            session_id: local.uri.session_id.clone().unwrap_or_default(),
            local,
            offer: None,
            transaction: None,
            client: None,
            invite: bytes::Bytes::new(),
            connection: PeerConnection::Awaited,
            through_relay: None,
            has_begun: Arc::default(),
            relayed_by: None,
            fingerprints: Vec::new(),
            commands: None,
            outgoing: Vec::new(),
            start: None,
            all_settled: false,
            refreshing: refreshing::Refreshing::default(),
            _parts: parts,
        }
    }
}

impl Shard {
    /// Makes the session for an INVITE of theirs; it is answered later.
    pub(super) fn new_media(
        &mut self,
        transaction: ServerTransactionId,
        offer: Offer,
        kind: MediaKind,
        flow: Flow,
        parts: SessionParts,
    ) -> MediaId {
        let incoming = matches!(kind, MediaKind::Incoming { .. });
        let direction = if incoming { Direction::ReceiveOnly } else { Direction::SendOnly };
        let (id, local) = self.local_media(direction, flow.remote.ip(), offer.media.secure);
        let mut session = MediaSession::new(kind, flow, flow.remote.ip(), local, parts);
        session.offer = Some(offer.media);
        self.attach_to_relay(&mut session);
        session.transaction = Some(transaction);
        self.media_of_invites.insert(transaction, id);
        self.media.insert(id, session);
        self.shared.metrics.sessions.inc();
        id
    }

    /// Makes the session for an INVITE of ours.
    pub(super) fn offer_media(
        &mut self,
        mut delivery: Delivery,
        flow: Flow,
        signalled_from: IpAddr,
        outgoing: Vec<media::Outgoing>,
        permit: SessionPermit,
    ) -> (MediaId, bytes::Bytes) {
        let is_encrypted = self.shared.offers_tls();
        let (id, local) = self.local_media(Direction::SendOnly, flow.remote.ip(), is_encrypted);
        let offer = sdp::make_offer(&local);
        delivery.open = outgoing.len();
        let parts = SessionParts { _permit: permit, _opening: None };
        let mut session = MediaSession::new(MediaKind::Push(delivery), flow, signalled_from, local, parts);
        session.outgoing = outgoing;
        self.attach_to_relay(&mut session);
        // A peer may connect before its answer is here.
        self.session_ids.insert(session.session_id.clone(), id);
        self.media.insert(id, session);
        self.shared.metrics.sessions.inc();
        (id, offer)
    }

    /// The other side took our offer.
    pub(super) fn session_agreed(
        &mut self,
        now: Now,
        media: MediaId,
        start: Start,
        theirs: &MsrpDescription,
        response: &SipMessage,
    ) {
        if let Some(session) = self.media.get_mut(&media) {
            session.refreshing.agreed(theirs.clone(), start.configuration.role, response);
            session.start = Some(start);
        }
        self.set_session_timer(now, media, session_timer::answered(response));
    }

    /// Settles what the other side says that it does not take, without sending it.
    pub(super) fn leave_out_unacceptable(&mut self, media: MediaId, theirs: &MsrpDescription) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let takes = |wrapped: &str| match &theirs.accept_wrapped_types {
            // What may be the outermost may be inside, too, and need not be said again (RFC 4975 §8.6).
            Some(types) => types.accepts(wrapped) || theirs.accept_types.accepts(wrapped),
            // Deployed clients that say nothing take messages, and no reports.
            None => wrapped != IMDN || theirs.accept_types.accepts(IMDN),
        };
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut session.outgoing).into_iter().partition(|outgoing| takes(&outgoing.wrapped_type));
        session.outgoing = taken;
        if let Some(delivery) = session.delivery_mut() {
            for outgoing in left {
                delivery.failed(outgoing.id, Progress::Refused, Some(Status::UNSUPPORTED_MEDIA_TYPE.code()));
            }
        }
    }

    /// Starts the task; messages that wait go to it.
    pub(super) fn begin_media(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let Some(start) = session.start.take() else { return };
        let waits_for_peer = matches!(start.connection, Connection::FromPeer);
        session.fingerprints.clone_from(&start.fingerprints);
        session.relayed_by.clone_from(&start.configuration.remote_path.first().session_id);
        session.has_begun.store(true, Ordering::Release);
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let (events, spool) = (self.media_events.clone(), self.shared.spool.clone());
        let task = tokio::task::spawn_local(media::run(start, commands, self.media_events.clone(), spool));
        // A task that is gone without a word would keep its messages for ever.
        tokio::task::spawn_local(async move {
            if task.await.is_err() {
                let _ = events.send(MediaEvent { media, kind: MediaEventKind::Ended(None) }).await;
            }
        });
        session.commands = Some(sender);
        let early = if waits_for_peer {
            std::mem::replace(&mut session.connection, PeerConnection::Awaited)
        } else {
            std::mem::replace(&mut session.connection, PeerConnection::Bound)
        };
        match (early, waits_for_peer) {
            (PeerConnection::Early(handed), true) if session.may_be_bound_to(&handed) => {
                session.connection = PeerConnection::Bound;
                self.command(media, Command::Connected(*handed));
            }
            (PeerConnection::Early(handed), true) => {
                self.shared.metrics.count_dropped("forbidden-msrp-connection");
                refuse_connection(*handed, &self.shared.msrp_limits, Status::FORBIDDEN);
            }
            _ => {}
        }
        self.send_outgoing(now, media);
    }

    /// Gives the task what is to be sent. Where nothing is left to be sent the session is over.
    fn send_outgoing(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let outgoing = std::mem::take(&mut session.outgoing);
        let is_delivery = session.delivery_mut().is_some_and(|delivery| delivery.attempt.is_some());
        if !outgoing.is_empty() {
            self.command(media, Command::Send(outgoing));
        } else if is_delivery {
            self.end_session(now, media);
        }
    }

    /// Orders never are more than the queue holds: see [`MAX_COMMANDS`].
    pub(super) fn command(&mut self, media: MediaId, command: Command) {
        let Some(commands) = self.media.get(&media).and_then(|session| session.commands.as_ref()) else { return };
        if let Err(error) = commands.try_send(command) {
            let full = matches!(error, mpsc::error::TrySendError::Full(_));
            if full {
                self.shared.metrics.count_dropped("session-order");
            }
            // A task that is gone told its end already.
            tracing::debug!(full, "a session takes no more orders");
        }
    }

    /// An MSRP connection whose first request names a session of this shard.
    pub(super) fn connection_came(&mut self, handed: HandedOver<String>) {
        let media = self.session_ids.get(&handed.session).copied();
        let Some((media, session)) = media.and_then(|media| Some((media, self.media.get_mut(&media)?))) else {
            return refuse_guess(&self.shared, handed);
        };
        match (&session.connection, session.commands.is_some()) {
            (PeerConnection::Awaited, true) if !session.may_be_bound_to(&handed) => {
                self.shared.metrics.count_dropped("forbidden-msrp-connection");
                refuse_connection(handed, &self.shared.msrp_limits, Status::FORBIDDEN);
            }
            (PeerConnection::Awaited, true) => {
                session.connection = PeerConnection::Bound;
                self.command(media, Command::Connected(handed));
            }
            (PeerConnection::Awaited, false) => session.connection = PeerConnection::Early(Box::new(handed)),
            _ => {
                self.shared.metrics.count_dropped("second-msrp-connection");
                refuse_connection(handed, &self.shared.msrp_limits, Status::BOUND_TO_ANOTHER_CONNECTION);
            }
        }
    }

    pub(super) fn media_event(&mut self, now: Now, event: MediaEvent) {
        let MediaEvent { media, kind } = event;
        match kind {
            MediaEventKind::Received(received) => {
                if self.media.get(&media).is_some_and(|session| matches!(session.kind, MediaKind::Incoming { .. })) {
                    self.large_message_came(now, media, received);
                } else {
                    self.drop_body(&received.body);
                    self.command(media, Command::Reject(received.incoming, 403));
                }
            }
            MediaEventKind::Settled(message, outcome) => self.message_settled(now, media, message, &outcome),
            MediaEventKind::AllSettled => self.all_settled(now, media),
            MediaEventKind::Ended(reason) => self.task_ended(now, media, reason.as_ref()),
        }
    }

    /// A body that nobody wants: its file is removed by the store's own thread for that.
    pub(super) fn drop_body(&self, body: &Body) {
        if let Body::Spooled { id, .. } = body {
            let (spool, id) = (self.shared.spool.clone(), *id);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = spool.remove(id) {
                    tracing::warn!(%error, "a body file could not be removed");
                }
            });
        }
    }

    pub(super) fn media_of_invite(&self, transaction: ServerTransactionId) -> Option<MediaId> {
        self.media_of_invites.get(&transaction).copied()
    }
}

/// How long the answers to our INVITE may come: Timer M (RFC 6026 §8.4), 64·T1.
pub(super) const ANSWERS_MAY_COME: Duration = Duration::from_secs(32);

/// When that is over.
pub(super) fn answers_until(now: Instant) -> Instant {
    now + ANSWERS_MAY_COME
}
