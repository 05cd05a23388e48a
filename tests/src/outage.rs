//! A core that refuses everything for a while, in front of the server in a process of its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use restante_client::proxy::{Passage, Proxy, ProxyConfiguration};
use restante_client::{Client, ClientConfiguration, ClientEvent, LargeMessage, PageMessage, Source};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use tokio::time::{Instant, sleep};

use crate::http::http_request;
use crate::world::metric_in;
use crate::{Person, Program, Recorder, Served, pattern};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a machine that does other things may take longer.
const BUSY: Duration = Duration::from_secs(60);
/// A busy machine is no reason for refusals.
const USUAL: &str = "[limits]\nregistration_delay_milliseconds = 100\nmax_decision_milliseconds = 10000\n\
                     max_commit_wait_milliseconds = 30000\n[tenants.example]\ndomains = [\"example.org\"]\n\
                     trust = [\"127.0.0.1\"]\n";
const LARGE_BYTES: usize = 200_000;
const EXPIRED: &str = "restante_messages_expired_total";
const DISBELIEVED: &str = "restante_next_hops_disbelieved";
const WAITING: &str = "restante_messages_waiting";

/// How long the core refuses everything, and what the server is told to do meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Outage<'a> {
    /// From the first refusal to the last; half of it with 403, half with 404.
    pub lasts: Duration,
    /// Settings of the standard policy, as TOML.
    pub settings: &'a str,
    /// The longest of its waits between attempts that may be under way when the core recovers.
    pub longest_wait: Duration,
    /// Recipients of each kind.
    pub recipients: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Messages that the server accepted.
    pub accepted: usize,
    /// Those of them that expired while the core refused.
    pub expired: usize,
    /// Those of these whose sender asked to be told, and was.
    pub reported: usize,
    /// Those of these whose sender asked.
    pub to_be_reported: usize,
    /// Messages that came to who they were for.
    pub delivered: usize,
    /// Accepted, not expired, and not delivered.
    pub lost: usize,
    /// Delivered once too often, or although they had expired.
    pub too_many: usize,
    /// Delivered after one that was sent later.
    pub overtaken: usize,
    /// Requests that the core refused, repetitions apart.
    pub refused: usize,
    /// How long the core refused.
    pub lasted: Duration,
    /// From its recovery to the last delivery.
    pub settled_after: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.0} s of refusals ({} requests), one kill: accepted {}, delivered {}, expired {}, reported {} of {}, \
             lost {}, too many {}, overtaken {}; settled {:.1} s after the recovery",
            self.lasted.as_secs_f64(),
            self.refused,
            self.accepted,
            self.delivered,
            self.expired,
            self.reported,
            self.to_be_reported,
            self.lost,
            self.too_many,
            self.overtaken,
            self.settled_after.as_secs_f64(),
        )
    }
}

impl Outage<'_> {
    /// Lets it happen. Everybody is registered at the core. Some recipients' registrations come after the server was killed
    /// in the middle, and are refreshed when the core has recovered; for all others the server has to come back by itself.
    ///
    /// # Panics
    /// Something that has to happen does not.
    pub async fn happens(self) -> Figures {
        let mut scene = Scene::begin(self).await;
        let began = Instant::now();
        scene.core.answer_all(Some(403));
        scene.register("early").await;
        scene.send(Half::First).await;
        scene.until_metric("the breaker opens", DISBELIEVED, |hops| hops == 1).await;
        let brief = scene.brief_of(Half::First);
        scene.until_metric("what was brief expires", EXPIRED, |expired| expired == brief).await;
        scene.until(began + self.lasts / 2).await;
        scene.core.answer_all(Some(404));
        scene.restart().await;
        scene.register("late").await;
        scene.send(Half::Second).await;
        scene.until_metric("the breaker opens again", DISBELIEVED, |hops| hops == 1).await;
        let brief = scene.brief_of(Half::Second);
        scene.until_metric("what was brief expires, too", EXPIRED, |expired| expired == brief).await;
        scene.until(began + self.lasts).await;
        assert_eq!(scene.deliveries(), 0, "nothing gets through meanwhile");
        let lasted = began.elapsed();
        scene.core.answer_all(None);
        let recovered = Instant::now();
        scene.register("late").await;
        scene.register("sender").await;
        scene.until_metric("everything is delivered", WAITING, |waiting| waiting == 0).await;
        let settled_after = recovered.elapsed();
        scene.until_metric("the breaker closes", DISBELIEVED, |hops| hops == 0).await;
        scene.figures(lasted, settled_after).await
    }

    fn brief_seconds(self) -> u32 {
        u32::try_from(self.lasts.as_secs() / 4).unwrap_or(u32::MAX).max(4)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    First,
    Second,
}

/// What was accepted.
struct Accepted {
    half: Half,
    message_id: String,
    sha256: String,
    to: usize,
    is_brief: bool,
    wants_report: bool,
}

struct Scene<'a> {
    outage: Outage<'a>,
    program: Program,
    served: Option<Served>,
    core: Proxy,
    sender: Person,
    recipients: Vec<(String, Person)>,
    accepted: Vec<Accepted>,
}

impl<'a> Scene<'a> {
    async fn begin(outage: Outage<'a>) -> Scene<'a> {
        let program = Program::new(&format!("{USUAL}[tenants.example.settings]\n{}\n", outage.settings));
        let core = Proxy::start(ProxyConfiguration::new(program.sip())).await.expect("sockets for a core");
        program.set_sip(&format!("outbound = \"udp:{}\"\n", core.sip_address()));
        let served = Some(program.serve().await);
        let sender = person(&core, "sender").await;
        core.register(sender.address(), 3_600).await.expect("an answer to REGISTER");
        let mut recipients = Vec::new();
        for number in 0..outage.recipients {
            for when in ["early", "late"] {
                for what in ["pages", "many", "large", "brief"] {
                    let name = format!("{when}-{what}-{number}");
                    let person = person(&core, &name).await;
                    recipients.push((name, person));
                }
            }
        }
        Scene { outage, program, served, core, sender, recipients, accepted: Vec::new() }
    }

    /// Tells the server that those are there whose names begin so.
    async fn register(&self, beginning: &str) {
        let recipients = self.recipients.iter().filter(|(name, _)| name.starts_with(beginning));
        let people = recipients.map(|(_, person)| person).chain((beginning == "sender").then_some(&self.sender));
        for person in people {
            let answer = self.core.register(person.address(), 3_600).await.expect("an answer to REGISTER");
            assert_eq!(answer.status, 200, "{}", person.address());
        }
    }

    /// Kills the server and starts it again.
    async fn restart(&mut self) {
        self.served.take().expect("a server that runs").kill();
        self.served = Some(self.program.serve().await);
    }

    async fn send(&mut self, half: Half) {
        for to in 0..self.recipients.len() {
            let name = self.recipients.get(to).map(|(name, _)| name.clone()).unwrap_or_default();
            if name.contains("large") && half == Half::First {
                self.send_large(to).await;
            }
            let pages = if name.contains("many") { 3 } else { 1 };
            for number in 0..pages {
                self.send_page(half, to, &format!("{name} {number}"), false, false).await;
            }
            if name.contains("brief") {
                self.send_page(half, to, "too late, and to be told", true, true).await;
                self.send_page(half, to, "too late", true, false).await;
            }
        }
    }

    async fn send_page(&mut self, half: Half, to: usize, text: &str, is_brief: bool, wants_report: bool) {
        let notifications = DispositionNotification { negative_delivery: wants_report, ..Default::default() };
        // Without a Date: counted from when it comes.
        let brief = is_brief.then(|| ("Expires".to_owned(), self.outage.brief_seconds().to_string()));
        let address = self.address(to);
        let fields = brief.into_iter().collect();
        let message = PageMessage { notifications, fields, ..PageMessage::text(&address, text) };
        let outcome = self.sender.send_message(message).await;
        let (message_id, sha256) = (outcome.message_id, outcome.sha256);
        self.accepted.push(Accepted { half, message_id, sha256, to, is_brief, wants_report });
    }

    async fn send_large(&mut self, to: usize) {
        let source = Source::Bytes(pattern(LARGE_BYTES + to));
        let message = LargeMessage::new(&self.address(to), "application/zip", source);
        let outcome = self.sender.client.send_large(message).await.expect("a client that runs");
        assert!(outcome.accepted, "{outcome:?}");
        let (message_id, sha256) = (outcome.message_id, outcome.sha256);
        let (half, is_brief, wants_report) = (Half::First, false, false);
        self.accepted.push(Accepted { half, message_id, sha256, to, is_brief, wants_report });
    }

    fn address(&self, to: usize) -> String {
        self.recipients.get(to).map(|(_, person)| person.address().to_owned()).unwrap_or_default()
    }

    fn brief_of(&self, half: Half) -> u64 {
        self.accepted.iter().filter(|message| message.half == half && message.is_brief).count() as u64
    }

    /// What went through the core to a recipient, and is no BYE.
    fn deliveries(&self) -> usize {
        let is_delivery = |method: &str| matches!(method, "MESSAGE" | "INVITE");
        let passed = self.core.passed();
        passed.iter().filter(|it| it.passage == Passage::ToUser && is_delivery(&it.method)).count()
    }

    async fn until(&self, deadline: Instant) {
        while Instant::now() < deadline {
            sleep(LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }

    async fn until_metric(&self, what: &str, name: &str, is_so: impl Fn(u64) -> bool) {
        let patience = self.outage.lasts + self.outage.longest_wait + BUSY;
        let deadline = Instant::now() + patience;
        let socket = self.program.data().join("admin.sock");
        loop {
            let metrics = http_request(&socket, "GET", "/metrics", None).await.body;
            if is_so(metric_in(&metrics, name, &[])) {
                return;
            }
            assert!(Instant::now() < deadline, "not within {patience:?}: {what}: {metrics}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Ends everything and counts.
    async fn figures(mut self, lasted: Duration, settled_after: Duration) -> Figures {
        let mut figures = Figures { accepted: self.accepted.len(), lasted, settled_after, ..Figures::default() };
        let wanted = self.accepted.iter().filter(|message| message.wants_report).count();
        figures.to_be_reported = wanted;
        let mut told = Vec::new();
        while told.len() < wanted {
            told.push(self.sender.disposition().await);
        }
        let failed: Vec<&String> =
            told.iter().filter(|(_, what)| *what == Disposition::DeliveryFailed).map(|(about, _)| about).collect();
        let refused = |it: &&restante_client::proxy::Passed| matches!(it.passage, Passage::Answered(403 | 404));
        figures.refused = self.core.passed().iter().filter(refused).count();
        let mut came: HashMap<String, usize> = HashMap::new();
        for (to, (_, person)) in self.recipients.iter_mut().enumerate() {
            let sent: Vec<&Accepted> = self.accepted.iter().filter(|message| message.to == to).collect();
            let mut last = 0;
            for event in person.unread() {
                let ClientEvent::Received(received) = event else { continue };
                let id = received.message_id.clone().unwrap_or_default();
                let at = sent.iter().position(|it| it.message_id == id && it.sha256 == received.sha256);
                let at = at.unwrap_or_else(|| panic!("{} was not sent this: {received:?}", person.address()));
                figures.overtaken += usize::from(at < last);
                last = at;
                figures.delivered += 1;
                *came.entry(id).or_default() += 1;
            }
        }
        for message in &self.accepted {
            let times = came.get(&message.message_id).copied().unwrap_or(0);
            let due = usize::from(!message.is_brief);
            figures.expired += usize::from(message.is_brief && times == 0);
            figures.lost += due.saturating_sub(times);
            figures.too_many += times.saturating_sub(due);
            figures.reported += usize::from(message.wants_report && failed.contains(&&message.message_id));
        }
        figures
    }
}

async fn person(core: &Proxy, name: &str) -> Person {
    let wire = Arc::<Recorder>::default();
    let address = format!("sip:{name}@example.org");
    let mut configuration = ClientConfiguration::new(&address, core.sip_address());
    configuration.observer = Some(wire.clone());
    let (client, events) = Client::start(configuration).await.expect("sockets for a client");
    core.route(&address, &format!("sip:{}", client.sip_address()));
    Person::new(client, events, wire)
}
