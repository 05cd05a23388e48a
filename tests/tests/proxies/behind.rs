//! The server as a process of its own, Kamailio in front of it, and clients that know of Kamailio alone. Both can be ended
//! and started again while the clients go on.

use std::net::SocketAddr;
use std::sync::Arc;

use restante_client::{Client, ClientConfiguration};
use restante_tests::{HttpAnswer, Person, Program, RawSip, Recorder, Served, http_request, in_time, metric_in};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::kamailio::{Configuration, Kamailio};

const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
/// Nobody waits for long, and a busy machine is no reason for refusals.
const USUAL: &str = "[limits]\nregistration_delay_milliseconds = 100\nmax_decision_milliseconds = 10000\n\
                     max_commit_wait_milliseconds = 30000\n[tenants.example]\ndomains = [\"example.org\"]\n\
                     numbers = [\"+1555\"]\ntrust = [\"127.0.0.1\"]\n";

/// A server behind Kamailio.
pub struct Behind {
    pub program: Program,
    pub kamailio: Kamailio,
    served: Option<Served>,
    clients: Vec<Client>,
    _directory: TempDir,
}

/// Tells a story of a server behind Kamailio, whose settings of the policy are these; nothing, loudly, where Kamailio was not
/// fetched.
pub fn behind(configuration: Option<Configuration>, settings: &str, tale: impl AsyncFnOnce(&mut Behind)) {
    behind_with(configuration, settings, |_| String::new(), tale);
}

/// The same with further tables of the server's configuration, which may name where Kamailio is.
pub fn behind_with(
    configuration: Option<Configuration>,
    settings: &str,
    further: impl FnOnce(&Kamailio) -> String,
    tale: impl AsyncFnOnce(&mut Behind),
) {
    let Some(configuration) = configuration else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut behind = Behind::start(configuration, settings, further).await;
        tale(&mut behind).await;
        behind.end();
    });
}

impl Behind {
    async fn start(configuration: Configuration, settings: &str, further: impl FnOnce(&Kamailio) -> String) -> Behind {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let registrar = if configuration.is_registrar() { "registrar = false\n" } else { "" };
        let program = Program::new(&format!("{USUAL}{registrar}[tenants.example.settings]\n{settings}\n"));
        let kamailio = Kamailio::start(configuration, program.sip(), directory.path()).expect("Kamailio starts");
        // What follows the lines of `[sip]` are tables of their own.
        let further = further(&kamailio);
        program.set_sip(&format!("outbound = \"udp:{}\"\n{further}", kamailio.inside()));
        let served = Some(program.serve().await);
        Behind { program, kamailio, served, clients: Vec::new(), _directory: directory }
    }

    /// Somebody at Kamailio.
    pub async fn person(&mut self, name: &str) -> Person {
        self.person_with(name, |_| {}).await
    }

    /// Somebody at Kamailio whose client is different from usual.
    pub async fn person_with(&mut self, name: &str, change: impl FnOnce(&mut ClientConfiguration)) -> Person {
        let wire = Arc::<Recorder>::default();
        let mut configuration = ClientConfiguration::new(&format!("sip:{name}@example.org"), self.kamailio.clients());
        configuration.observer = Some(wire.clone());
        change(&mut configuration);
        let (client, events) = Client::start(configuration).await.expect("sockets for a client");
        self.clients.push(client.clone());
        Person::new(client, events, wire)
    }

    /// A bare socket towards Kamailio.
    pub async fn udp(&self) -> RawSip {
        let place: SocketAddr = self.kamailio.clients();
        RawSip::udp(place.ip(), place).await
    }

    /// Kills the server.
    pub fn kill_restante(&mut self) {
        self.served.take().expect("a server that runs").kill();
    }

    /// Starts it again on the same data.
    pub async fn start_restante(&mut self) {
        self.served = Some(self.program.serve().await);
    }

    /// Starts it again, and has it send everything there.
    pub async fn restart_restante_towards(&mut self, outbound: SocketAddr) {
        self.kill_restante();
        self.program.set_sip(&format!("outbound = \"udp:{outbound}\"\n"));
        self.start_restante().await;
    }

    /// Waits until the server knows that somebody is there.
    pub async fn until_registered(&self, address: &str) {
        let looked = async {
            while self.administration(&format!("/users/{address}")).await.body.contains("\"contacts\":[]") {
                sleep(LOOK_EVERY).await;
            }
        };
        in_time(&format!("{address} is registered"), looked).await;
    }

    /// Waits until the server knows that somebody is gone.
    pub async fn until_gone(&self, address: &str) {
        let looked = async {
            while !self.administration(&format!("/users/{address}")).await.body.contains("\"contacts\":[]") {
                sleep(LOOK_EVERY).await;
            }
        };
        in_time(&format!("{address} is gone"), looked).await;
    }

    /// Kills Kamailio and starts it again.
    pub fn restart_kamailio(&mut self) {
        self.kamailio.kill();
        self.kamailio.run().expect("Kamailio starts again");
    }

    /// Asks the administration.
    pub async fn administration(&self, path: &str) -> HttpAnswer {
        http_request(&self.program.data().join("admin.sock"), "GET", path, None).await
    }

    /// The queue, of at most a thousand messages.
    pub async fn queue(&self) -> Vec<Value> {
        let answer = self.administration("/queue?limit=1000").await;
        let queue: Value = serde_json::from_str(&answer.body).expect("JSON");
        queue["messages"].as_array().cloned().expect("messages")
    }

    /// Waits until at least, or exactly, so many messages wait.
    pub async fn until_waiting(&self, what: &str, is_so: impl Fn(usize) -> bool) {
        let looked = async {
            while !is_so(self.queue().await.len()) {
                sleep(LOOK_EVERY).await;
            }
        };
        in_time(what, looked).await;
    }

    /// The sum of a metric since the server was started.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        metric_in(&self.administration("/metrics").await.body, name, labels)
    }

    /// Waits until a metric is at least this.
    pub async fn until_metric(&self, name: &str, labels: &[&str], least: u64) {
        let began = Instant::now();
        let looked = async {
            while self.metric(name, labels).await < least {
                sleep(LOOK_EVERY).await;
            }
        };
        in_time(&format!("{name} {labels:?} of {least} since {began:?}"), looked).await;
    }

    /// What waits and what failed, for who waits in vain.
    pub async fn state(&self) -> String {
        let queue = self.queue().await;
        let metrics = self.administration("/metrics").await.body;
        let attempts: Vec<&str> = metrics.lines().filter(|line| line.starts_with("restante_attempts")).collect();
        format!("{} wait, first {:?}; {attempts:#?}", queue.len(), queue.first())
    }

    /// Ends everything; whoever objected to what came is heard.
    fn end(self) {
        let objections: Vec<String> = self.clients.iter().flat_map(Client::violations).collect();
        assert_eq!(objections, [""; 0], "clients objected");
    }
}
