//! What a session is made with: our side of it, and where its connection comes from.

use std::net::IpAddr;
use std::time::Duration;

use restante_msrp::sdp::{AcceptTypes, Direction, Fingerprint, LocalMedia, MsrpDescription};
use restante_msrp::session::{Role, SessionConfiguration, SessionLimits};
use restante_msrp::session_id::new_session_id;
use restante_msrp::uri::{MsrpPath, MsrpUri};

use super::super::{Shard, size};
use super::{MediaKind, MediaSession, RELAYED_CHUNK_BYTES};
use crate::server::ThroughRelay;
use crate::server::media::{Connection, Encryption, MediaId, NoPlace, Place, Quota, Start};

/// How long bad news of a message may take behind relays where no news is good news.
const BAD_NEWS_TIMEOUT: Duration = Duration::from_secs(10);

impl Shard {
    /// Gives a session its stream to the relay, before anybody is told to use it.
    pub(super) fn attach_to_relay(&self, session: &mut MediaSession) {
        if !session.local.relays.is_empty() {
            session.through_relay =
                self.shared.relay.get().and_then(|link| link.attach(&session.session_id, session.has_begun.clone()));
        }
    }

    /// Whether sessions have to wait for the relay that they should go through.
    pub(in crate::server::shard) fn relay_is_missing(&self, is_encrypted: bool) -> bool {
        matches!(self.shared.relay(is_encrypted), ThroughRelay::Missing)
    }

    /// Our side of a session: a URI that nobody can guess, at the address that is advertised.
    pub(super) fn local_media(
        &mut self,
        direction: Direction,
        peer: IpAddr,
        is_encrypted: bool,
    ) -> (MediaId, LocalMedia) {
        let random = self.endpoint.identifiers().random();
        let session_id = new_session_id(u16::try_from(self.index).unwrap_or(0), random.to_be_bytes());
        let place = self.shared.msrp_place(peer, is_encrypted);
        let relays = match self.shared.relay(is_encrypted) {
            ThroughRelay::Granted(use_path) => use_path,
            ThroughRelay::Nothing | ThroughRelay::Missing => Vec::new(),
        };
        // Behind a relay peers see its certificate, and not ours.
        let own = self
            .shared
            .sender()
            .filter(|_| is_encrypted && relays.is_empty())
            .map(|sender| sender.tls().media_certificates())
            .unwrap_or_default();
        let receives = direction.receives();
        let all = AcceptTypes::parse("message/cpim text/* application/* image/* audio/* video/* *");
        let local = LocalMedia {
            uri: MsrpUri {
                secure: is_encrypted,
                user_info: None,
                host: place.host.clone(),
                port: place.port,
                session_id: Some(session_id),
                transport: "tcp".to_owned(),
                parameters: Vec::new(),
            },
            relays,
            accept_types: if receives { all } else { AcceptTypes::any() },
            accept_wrapped_types: Some(AcceptTypes::any()),
            max_size_bytes: receives.then_some(self.shared.limits.max_large_body_bytes),
            direction,
            fingerprints: own.iter().map(|certificate| Fingerprint::sha256(certificate)).collect(),
            origin_session_id: u64::try_from(random >> 80).unwrap_or(1),
            origin_version: 1,
        };
        (MediaId(self.token()), local)
    }

    /// What the task needs.
    pub(in crate::server::shard) fn prepare(
        &mut self,
        media: MediaId,
        role: Role,
        theirs: &MsrpDescription,
        sends: bool,
        receives: bool,
    ) -> Result<Start, NoPlace> {
        let shared = self.shared.clone();
        let encryption = self.encryption(theirs);
        let session = self.media.get_mut(&media).ok_or(NoPlace::Unusable)?;
        let limits = &shared.limits;
        if sends && !theirs.accept_types.accepts(restante_cpim::cpim::CONTENT_TYPE) {
            return Err(NoPlace::Unusable);
        }
        // What listens for nothing in the clear speaks nothing in the clear, whoever connects.
        let has_relays = !session.local.relays.is_empty();
        if !has_relays && !shared.takes_msrp(session.local.uri.secure) {
            return Err(NoPlace::Unusable);
        }
        let connection = match role {
            // Whoever connects to whom, we have our connection to the relay (RFC 6135 §4.5).
            _ if has_relays => Connection::Here(session.through_relay.take().ok_or(NoPlace::RelayBusy)?),
            Role::Passive => Connection::FromPeer,
            Role::Active => match shared.msrp_relay.connect(theirs.path.first()) {
                Some(stream) => Connection::Here(stream),
                None => {
                    let asker = match &session.kind {
                        MediaKind::Incoming { key, sender, .. } => {
                            shared.msrp_names.asker((&key.tenant, &sender.address))
                        }
                        MediaKind::Push(delivery) | MediaKind::Pull(delivery) => {
                            shared.msrp_names.asker((&delivery.key.tenant, &delivery.key.address))
                        }
                    };
                    let from = (session.signalled_from, asker);
                    Connection::To(Box::new(Place::of(theirs, shared.clone(), from, encryption)?))
                }
            },
        };
        let quota = match &session.kind {
            MediaKind::Incoming { key, .. } => shared.directory.tenant(&key.tenant),
            MediaKind::Push(_) | MediaKind::Pull(_) => None,
        };
        let quota = quota.map(|tenant| Quota::of(shared.clone(), tenant));
        let mut session_limits = SessionLimits {
            framing: shared.msrp_limits.clone(),
            max_incoming_message_bytes: limits.max_large_body_bytes,
            max_incoming_messages: size(limits.max_incoming_messages_per_session),
            max_ranges_per_message: size(limits.max_pieces_per_message),
            connection_timeout: Duration::from_secs(limits.max_session_setup_seconds),
            idle_timeout: Duration::from_secs(limits.max_session_idle_seconds),
            min_bytes_per_second: limits.min_msrp_bytes_per_second,
            slow_period: Duration::from_secs(limits.slow_msrp_seconds),
            max_outgoing_messages: 4,
            ..SessionLimits::default()
        };
        let towards_us = session.local.relays.iter().rev();
        let remote_path = MsrpPath::new(towards_us.chain(theirs.path.iter()).cloned()).ok_or(NoPlace::Unusable)?;
        if remote_path.has_relays() {
            session_limits.max_chunk_bytes = RELAYED_CHUNK_BYTES;
            // What is not reported counts as delivered then: only bad news is waited for.
            if shared.count_unreported_as_delivered {
                session_limits.report_timeout = BAD_NEWS_TIMEOUT;
            }
        }
        let configuration = SessionConfiguration {
            sends,
            receives,
            remote_max_bytes: theirs.max_size_bytes,
            count_unreported_as_delivered: shared.count_unreported_as_delivered,
            limits: session_limits,
            ..SessionConfiguration::new(role, session.local.uri.clone(), remote_path)
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| NoPlace::Unusable)?;
        let fingerprints = theirs.fingerprints.clone();
        Ok(Start { media, configuration, random, connection, fingerprints, quota })
    }

    /// How the place of a path is encrypted, and by what it is believed.
    fn encryption(&self, theirs: &MsrpDescription) -> Option<Encryption> {
        let sender = self.shared.sender().filter(|_| theirs.secure)?;
        let (name, fingerprints) = (theirs.believed_host(), theirs.fingerprints.clone());
        Some(Encryption { tls: sender.tls().clone(), name, fingerprints })
    }
}
