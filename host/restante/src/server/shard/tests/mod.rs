//! Shards with a store in memory, made-up clocks and no sockets: SIP goes in as text, and what comes out is looked at.

mod clock;
mod deliveries;
mod names;
mod registrations;
mod sessions;
mod stopping;
mod tenants;
mod watches;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use restante_deferral::breaker::{Breaker, BreakerLimits};
use restante_deferral::model::{CanonicalAddress, MessageId, RecipientKey, StoredMessage, TenantName, Timestamp};
use restante_deferral::participating_function::ReportKey;
use restante_msrp::framing::FramingLimits;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::{Flow, OwnMark, Transport};
use restante_sip::writer::Builder;
use restante_store::memory::MemoryStore;
use restante_store::spool::Spool;
use restante_store::{Sink, Store};
use restante_transport::queue::{Lane, QueueLimits, QueueReceiver, channel};
use restante_transport::resolution::Names;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{Now, Shard, ToShard};
use crate::configuration::{Configuration, Tenant};
use crate::metrics::Metrics;
use crate::server::authentication::Authentication;
use crate::server::destinations::destinations;
use crate::server::directory::Directory;
use crate::server::rates::Rates;
use crate::server::{NO_PLACE, Shared, receiver};

const SHARDS: usize = 2;
/// Where everybody is who registers or sends here.
const PEER: &str = "127.0.0.1:6000";

/// Two shards and what is around them.
pub(super) struct House {
    pub(super) shared: Arc<Shared>,
    pub(super) shards: Vec<Shard>,
    pub(super) store: Arc<MemoryStore>,
    outboxes: Vec<QueueReceiver<ToShard>>,
    clock: Arc<AtomicU64>,
    /// The clock that only goes on stands still: however long a story takes, nothing is repeated or given up in it.
    began: Instant,
    /// What was sent and not looked at.
    sent: Vec<SipMessage>,
    requests: u32,
    tenants: BTreeMap<String, Tenant>,
    _directory: TempDir,
}

impl House {
    pub(super) fn new() -> House {
        House::with_aliases(&[])
    }

    /// Of a server whose configuration gives these names to these users.
    pub(super) fn with_aliases(aliases: &[(&str, &str)]) -> House {
        let aliases = aliases.iter().map(|(name, of)| ((*name).to_owned(), (*of).to_owned())).collect();
        House::configured(|configuration| {
            let tenant = configuration.tenants.get_mut("example").unwrap();
            tenant.numbers = vec!["+1555".to_owned()];
            tenant.aliases = aliases;
        })
    }

    /// Of a server that is configured otherwise than usual.
    pub(super) fn configured(change: impl FnOnce(&mut Configuration)) -> House {
        let mut configuration = Configuration::default();
        configuration.limits.registration_delay_milliseconds = 100;
        change(&mut configuration);
        let directory = tempfile::tempdir().unwrap();
        let limits = QueueLimits::default();
        let (inboxes, outboxes): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| channel::<ToShard>(limits)).unzip();
        let inboxes = Arc::new(inboxes);
        let completions = inboxes.clone();
        let sink: Sink = Arc::new(move |shard, done| {
            let _ = completions[shard].try_push(Lane::Ordered, ToShard::Stored(done), 64);
        });
        let store = Arc::new(MemoryStore::new(sink));
        let (clock, began) = (Arc::new(AtomicU64::new(1_700_000_000_000)), Instant::now());
        let time = clock.clone();
        let known = Directory::new(&configuration, ReportKey::default(), Arc::downgrade(&inboxes)).unwrap();
        let shared = Arc::new(Shared {
            directory: known,
            authentication: Authentication::new(&[3; 32], 1, &configuration.limits, began),
            offenders: crate::server::offenders::Offenders::new(&configuration.limits),
            open_sessions: crate::server::openings::Openings::new(8, 8),
            open_calls: crate::server::openings::Openings::new(8, 8),
            metrics: Metrics::new(),
            store: store.clone(),
            spool: Spool::open(directory.path()).unwrap(),
            clock: Arc::new(move || Timestamp(time.load(Ordering::Relaxed))),
            run: 1,
            own_mark: OwnMark::new([1; 32], "example.org"),
            rates: Rates::default(),
            hops: Mutex::new(Breaker::new(BreakerLimits::default())),
            destinations: destinations(&configuration).unwrap(),
            outbound: configuration.sip.outbound.clone(),
            names: Names::none(),
            msrp_names: Names::none(),
            failed_msrp_places: crate::server::media::FailedPlaces::default(),
            congestion_safe: false,
            count_unreported_as_delivered: false,
            upstream_failure_header: String::new(),
            keep_headers: Vec::new(),
            msrp_places: vec![NO_PLACE.clone()],
            msrp_offers_tls: false,
            msrp_limits: FramingLimits::default(),
            msrp_relay: crate::server::msrp_relay::Clients::new(8),
            relay: std::sync::OnceLock::new(),
            sender: OnceLock::new(),
            policies: OnceLock::new(),
            inboxes,
            limits: configuration.limits.clone(),
            elsewhere: crate::server::served::Elsewhere::default(),
        });
        let shard = |index| {
            let (media_events, _) = mpsc::channel(1);
            Shard::new(index, shared.clone(), [7; 32], Default::default(), media_events)
        };
        let shards = (0..SHARDS).map(shard).collect();
        let (tenants, sent) = (configuration.tenants, Vec::new());
        House { shards, shared, store, outboxes, clock, began, sent, requests: 0, tenants, _directory: directory }
    }

    /// The tenants are others from now on; these were added, changed or removed.
    pub(super) fn change_tenants(&mut self, names: &[&str], change: impl FnOnce(&mut BTreeMap<String, Tenant>)) {
        change(&mut self.tenants);
        let directory = &self.shared.directory;
        directory.replace(directory.prepare(&self.tenants).unwrap());
        let names = Arc::new(names.iter().map(|name| TenantName((*name).into())).collect());
        self.shared.to_all_shards(|| ToShard::TenantsChanged(Arc::clone(&names)));
        self.run();
    }

    /// Lets everything happen that can happen now.
    pub(super) fn run(&mut self) {
        loop {
            let (now, mut is_quiet) = (self.now(), true);
            for (shard, outbox) in self.shards.iter_mut().zip(&mut self.outboxes) {
                let mut items = Vec::new();
                is_quiet &= !outbox.try_pop_batch(&mut items, 256);
                items.into_iter().for_each(|item| shard.take(now, item));
                shard.handle_wakes(now);
                while let Some(transmit) = shard.endpoint.poll_transmit() {
                    is_quiet = false;
                    self.sent.push(message_of(&transmit.bytes));
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    /// Time passes in small steps; whoever is due is looked at.
    pub(super) fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds.div_ceil(100) {
            self.clock.fetch_add(100, Ordering::Relaxed);
            let now = (self.shared.clock)();
            for key in self.store.due(now, 100).unwrap() {
                self.shared.to_recipient(&key.clone(), ToShard::Due(vec![key]));
            }
            self.run();
        }
    }

    /// Somebody sends this; returns its Call-ID.
    pub(super) fn send(&mut self, method: &str, to: &str, call_id: Option<&str>, fields: &str, body: &str) -> String {
        let call_id = self.bring(method, to, call_id, fields, body);
        self.run();
        call_id
    }

    /// The same, and nobody looks at it yet.
    fn bring(&mut self, method: &str, to: &str, call_id: Option<&str>, fields: &str, body: &str) -> String {
        self.requests += 1;
        let call_id = call_id.map_or_else(|| format!("call-{}", self.requests), str::to_owned);
        let uri = if method == "REGISTER" { "sip:example.org" } else { to };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bK{}\r\nTo: <{to}>\r\nCall-ID: {call_id}\r\n\
             Max-Forwards: 70\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            self.requests,
            body.len()
        );
        receiver::received(&self.shared, message_of(text.as_bytes()), &flow());
        call_id
    }

    /// Alice sends a text.
    pub(super) fn message(&mut self, to: &str, text: &str) -> String {
        self.message_from("sip:alice@example.org", to, text, "")
    }

    /// Somebody sends a text, with further CPIM header fields.
    pub(super) fn message_from(&mut self, from: &str, to: &str, text: &str, headers: &str) -> String {
        let fields = format!("From: <{from}>;tag=1\r\nCSeq: 1 MESSAGE\r\nContent-Type: message/cpim\r\n");
        let body = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: {text}\r\n{headers}\r\n\
             Content-Type: text/plain\r\n\r\n{text}"
        );
        self.send("MESSAGE", to, None, &fields, &body)
    }

    /// A client registers itself.
    pub(super) fn register(&mut self, user: &str, contact: &str) -> String {
        let fields = format!("From: <{user}>;tag=1\r\nCSeq: {} REGISTER\r\nContact: {contact}\r\n", self.requests + 1);
        self.send("REGISTER", user, None, &fields, "")
    }

    /// A core registers a user, who has these names.
    pub(super) fn register_by_core(&mut self, user: &str, names: &[&str]) -> String {
        let names: String = names.iter().map(|name| format!("P-Associated-URI: <{name}>\r\n")).collect();
        let fields = format!(
            "From: <sip:scscf@{PEER}>;tag=1\r\nCSeq: {} REGISTER\r\nContact: <sip:scscf@{PEER}>;expires=600\r\n{names}",
            self.requests + 1
        );
        self.send("REGISTER", user, None, &fields, "")
    }

    /// Final statuses that were sent with a Call-ID.
    pub(super) fn statuses(&self, call_id: &str) -> Vec<u16> {
        let of_call = self.sent.iter().filter(|it| !it.is_request() && it.call_id() == Some(call_id));
        of_call.filter_map(SipMessage::status).filter(|status| *status >= 200).collect()
    }

    /// The last answer with a Call-ID.
    pub(super) fn answer(&self, call_id: &str) -> &SipMessage {
        let of_call = |it: &&SipMessage| !it.is_request() && it.call_id() == Some(call_id);
        self.sent.iter().rev().find(of_call).expect("an answer")
    }

    /// Texts of the MESSAGEs that were sent and not answered, with where they went. Each is answered with `status`.
    pub(super) fn delivered(&mut self, status: u16) -> Vec<String> {
        let (deliveries, rest): (Vec<_>, Vec<_>) =
            self.sent.drain(..).partition(|it| it.is_request() && it.method() == Some(Method::Message));
        self.sent = rest;
        let mut texts = Vec::new();
        for message in deliveries {
            let body = message.body();
            texts.push(std::str::from_utf8(&body).unwrap().lines().last().unwrap_or("").to_owned());
            let answer = Builder::response(&message, status, "Said So", message.header(Name::Via), Some("t"));
            receiver::received(&self.shared, message_of(&answer.finish().unwrap()), &flow());
        }
        self.run();
        texts
    }

    /// What is stored, oldest first: for whom, and under which name it came.
    pub(super) fn stored(&self) -> Vec<(String, MessageId)> {
        let of = |message: StoredMessage| (message.message.recipient.address.to_string(), message.id);
        self.store.messages().into_iter().map(of).collect()
    }

    /// For whom something is stored.
    pub(super) fn owners(&self) -> Vec<String> {
        let mut owners: Vec<String> = self.stored().into_iter().map(|(owner, _)| owner).collect();
        owners.dedup();
        owners
    }

    pub(super) fn shard_of(&self, address: &str) -> usize {
        receiver::shard_of(&user(address), SHARDS)
    }

    /// The shard of a user.
    pub(super) fn shard(&mut self, address: &str) -> &mut Shard {
        let index = self.shard_of(address);
        &mut self.shards[index]
    }

    /// Two numbers: one that lies with this user, and one that does not.
    pub(super) fn numbers(&self, address: &str) -> [String; 2] {
        let shard = self.shard_of(address);
        [true, false].map(|same| {
            let number = (0..99).map(|index| format!("tel:+1555{index:04}"));
            number.into_iter().find(|number| (self.shard_of(number) == shard) == same).expect("a number")
        })
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: self.began, wall: (self.shared.clock)() }
    }
}

pub(super) fn user(address: &str) -> RecipientKey {
    RecipientKey { tenant: TenantName("example".into()), address: CanonicalAddress(address.into()) }
}

fn flow() -> Flow {
    let remote: SocketAddr = PEER.parse().unwrap();
    Flow { transport: Transport::Udp, local: "127.0.0.1:5060".parse().unwrap(), remote, connection: None, name: None }
}

fn message_of(bytes: &[u8]) -> SipMessage {
    SipMessage::parse(bytes::Bytes::copy_from_slice(bytes), &Default::default()).unwrap()
}
