//! Kamailio keeps messages itself and asks a policy what is to become of them.

use std::time::{Duration, Instant};

use restante_sip::message::{Method, SipMessage};
use restante_tests::{Program, RawSip, Served, free_tcp_port, guest, http_request, metric_in};
use tempfile::TempDir;

use crate::kamailio::{Configuration, Kamailio, database};

const NAME: &str = "kamailio-decisions";
const BOB: &str = "sip:bob@example.org";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// As long as the policy would loop; nobody waits for it.
const LOOP_MILLISECONDS: u64 = 30_000;
/// How long Kamailio waits for a decision that has to come, and for one that does not, in seconds.
const PATIENT: u32 = 10;
const HASTY: u32 = 1;
/// Between messages while Kamailio spares the server: all of them are sent to Bob at once later, and have to fit into what the
/// system keeps of datagrams.
const PACE: Duration = Duration::from_millis(50);

/// A server that is asked, and Kamailio that asks.
struct Asking {
    program: Program,
    served: Option<Served>,
    kamailio: Kamailio,
    _directory: TempDir,
}

/// Tells a story where the policy `component` has these settings, and Kamailio waits so long for what it decides.
fn asking(component: &str, settings: &str, seconds: u32, tale: impl AsyncFnOnce(&mut Asking)) {
    let Some(configuration) = Configuration::of(NAME) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (place, path) = (free_tcp_port(), directory.path().display().to_string());
        std::fs::write(directory.path().join("token"), TOKEN).expect("a token");
        let define = database(directory.path(), &[]);
        let program = Program::new(&format!(
            "[admin]\nlisten = \"{place}\"\ntoken_file = \"{path}/token\"\n\
             [limits]\nmax_decision_milliseconds = {LOOP_MILLISECONDS}\n\
             [tenants.example]\ndomains = [\"example.org\"]\npolicy = \"{component}\"\n\
             [tenants.example.settings]\n{settings}\n"
        ));
        program.set_sip("");
        let served = Some(program.serve().await);
        let configuration = configuration
            .without_inside()
            .define(&define)
            .define(&format!("DECIDE_SECONDS={seconds}"))
            .define(&format!("DECIDE_TOKEN=\"{TOKEN}\""))
            .define(&format!("DECIDE_URL=\"http://{place}/tenants/example/decide/on-incoming\""));
        let kamailio = Kamailio::start(configuration, program.sip(), directory.path()).expect("Kamailio starts");
        tale(&mut Asking { program, served, kamailio, _directory: directory }).await;
    });
}

impl Asking {
    async fn socket(&self) -> RawSip {
        let place = self.kamailio.clients();
        RawSip::udp(place.ip(), place).await
    }

    /// What a message of Alice's to Bob is answered.
    async fn answer_to(&self, text: &str) -> Option<u16> {
        let mut alice = self.socket().await;
        let request = alice.request("MESSAGE", BOB).text(text);
        alice.ask(&request).await.status()
    }

    async fn decisions(&self) -> u64 {
        let metrics = http_request(&self.program.data().join("admin.sock"), "GET", "/metrics", None).await.body;
        metric_in(&metrics, "restante_policy_decisions_total", &["hook=\"on-incoming\""])
    }

    /// Registers Bob and takes so many messages.
    async fn bob_gets(&self, count: usize) -> Vec<String> {
        let mut bob = self.socket().await;
        let contact = format!("<sip:bob@{}>", bob.local());
        let register = bob.request("REGISTER", "sip:example.org");
        let register = register.set("From", &format!("<{BOB}>;tag=device")).set("To", &format!("<{BOB}>"));
        bob.send(&register.set("Contact", &contact).set("Expires", "600").bytes()).await;
        let mut came = Vec::new();
        let mut is_registered = false;
        while came.len() < count || !is_registered {
            let what = |it: &SipMessage| it.method() == Some(Method::Message) || it.status() == Some(200);
            let message = bob.expect("a message or the answer to REGISTER", what).await;
            if message.is_request() {
                bob.respond(&message, 200).await;
                came.push(String::from_utf8_lossy(&message.body()).into_owned());
            } else {
                is_registered = true;
            }
        }
        came.sort();
        came
    }
}

#[test]
fn kamailio_does_what_the_policy_says() {
    for (incoming, status) in [("reject:486", 486), ("discard", 202), ("keep", 202)] {
        asking(&guest("scripted"), &format!("incoming = {incoming:?}"), PATIENT, async |world| {
            assert_eq!(world.answer_to("the first").await, Some(status), "{incoming}");
            assert_eq!(world.decisions().await, 1, "{incoming}");
            let kept: &[&str] = if incoming == "keep" { &["the first"] } else { &[] };
            assert_eq!(world.bob_gets(kept.len()).await, kept, "{incoming}");
        });
    }
}

#[test]
fn the_standard_policy_sees_what_kamailio_knows_of_a_message() {
    asking("standard", "sender_quota = { bytes = 1 }\nquota_status = 480", PATIENT, async |world| {
        // As large as that is no quota: the message with its quotes is read, and refused.
        assert_eq!(world.answer_to("\"quoted\" \\ and more").await, Some(480));
    });
}

#[test]
fn what_no_policy_decides_is_kamailios_to_decide() {
    for behaviour in ["endless-loop", "trap"] {
        asking(restante_policy::hostile::PATH, &format!("behaviour = {behaviour:?}"), HASTY, async |world| {
            let asked = Instant::now();
            assert_eq!(world.answer_to("the first").await, Some(202), "{behaviour}");
            // Not asked about: Restante is spared for a while.
            assert_eq!(world.answer_to("the second").await, Some(202), "{behaviour}");
            let bound = Duration::from_millis(LOOP_MILLISECONDS) / 2;
            assert!(asked.elapsed() < bound, "{behaviour}: after {:?}", asked.elapsed());
            assert_eq!(world.bob_gets(2).await, ["the first", "the second"], "{behaviour}");
        });
    }
}

#[test]
fn decisions_come_again_after_either_was_away() {
    asking(&guest("scripted"), "incoming = \"reject:486\"", PATIENT, async |world| {
        assert_eq!(world.answer_to("refused").await, Some(486));
        world.served.take().expect("a server").kill();
        assert_eq!(world.answer_to("kept 1").await, Some(202), "nobody decides");
        assert_eq!(world.answer_to("kept 2").await, Some(202), "nobody is asked");
        world.served = Some(world.program.serve().await);
        let mut further = Vec::new();
        while world.answer_to(&format!("while it is spared {}", further.len())).await == Some(202) {
            further.push(format!("while it is spared {}", further.len()));
            assert!(further.len() < 1_000, "it is asked again");
            tokio::time::sleep(PACE).await;
        }
        world.kamailio.kill();
        world.kamailio.run().expect("Kamailio starts again");
        assert_eq!(world.answer_to("refused again").await, Some(486));
        let mut kept = vec!["kept 1".to_owned(), "kept 2".to_owned()];
        kept.extend(further);
        kept.sort();
        let came = world.bob_gets(kept.len()).await;
        eprintln!("{NAME}: kept {}, came {}", kept.len(), came.len());
        assert_eq!(came, kept);
    });
}
