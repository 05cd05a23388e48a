//! RFC 3261 §16 and §17 as SIPp sees them from the other end: the scenarios of `tests/conformance`, played all at once, each
//! with a user and ports of its own. Time is what it is there, because it is what is tested; no scenario takes longer than
//! Timer H and a look at what comes after it.

use std::path::Path;

use restante::configuration::Tenant;
use restante_client::{LargeMessage, Source};
use restante_tests::{Person, RawSip, Setting, World, free_tcp_port, pattern, setting, until};

use crate::kamailio::root_with;
use crate::scenario::Sipp;

/// Timer C: what rings may do so for so long.
const RINGING_MILLISECONDS: u64 = 4_000;
/// A user whose MESSAGEs are passed on.
const RELAYED: &str = "sip:relayed@relayed.example";
/// On a busy machine something comes too late for a scenario, or it reads at once what came apart. Not each time.
const ATTEMPTS: usize = 3;

/// What is played: who calls, who is called, what is sent to them, and over what.
struct Act {
    caller: Option<&'static str>,
    devices: &'static [Device],
    sent: Sent,
    is_over_tcp: bool,
}

/// How a device of a user is reached.
enum Device {
    /// SIPp, at the address that its Contact names.
    Named(&'static str),
    /// SIPp, where its registration came from, because nobody gets to what its Contact names.
    Seen(&'static str),
    /// A socket that says nothing.
    Silent,
}

/// What is sent to a user while its devices wait.
enum Sent {
    Nothing,
    Page,
    Large,
}

const fn caller(caller: &'static str) -> Act {
    call(caller, &[])
}

const fn call(caller: &'static str, devices: &'static [Device]) -> Act {
    Act { caller: Some(caller), devices, sent: Sent::Nothing, is_over_tcp: false }
}

const fn page(devices: &'static [Device]) -> Act {
    Act { caller: None, devices, sent: Sent::Page, is_over_tcp: false }
}

const fn large(devices: &'static [Device]) -> Act {
    Act { caller: None, devices, sent: Sent::Large, is_over_tcp: false }
}

impl Act {
    const fn over_tcp(mut self) -> Act {
        self.is_over_tcp = true;
        self
    }
}

#[test]
fn transactions_are_those_of_section_17() {
    const ACTS: [Act; 13] = [
        caller("server-invite-refusal"),
        caller("server-invite-without-ack"),
        caller("server-invite-accepted"),
        caller("server-invite-accepted-without-ack"),
        caller("server-non-invite"),
        caller("cancel-of-nothing"),
        page(&[Device::Named("client-non-invite")]),
        page(&[Device::Named("client-non-invite-provisional")]),
        page(&[Device::Named("client-non-invite-silence")]),
        large(&[Device::Seen("client-invite-refusal")]),
        large(&[Device::Seen("client-invite-silence")]),
        large(&[Device::Seen("client-invite-accepted")]),
        caller("response-to-nothing"),
    ];
    played(&ACTS, async |world, _| {
        let repeated = world.recipient("sip:server-non-invite@example.org");
        let kept = world.queue().iter().filter(|it| it.message.recipient == repeated).count();
        assert_eq!(kept, 1, "one message, however often its request came");
        let dropped = world.metric("restante_dropped_total", &["response-to-nothing"]);
        assert!(dropped > 0, "a response to nothing is counted");
    });
}

/// Timers A, E and G do not run there, and D, I, J and K are 0.
#[test]
fn transactions_over_tcp_repeat_nothing_and_end_at_once() {
    const ACTS: [Act; 4] = [
        caller("server-non-invite-over-tcp").over_tcp(),
        caller("server-invite-refusal-over-tcp").over_tcp(),
        page(&[Device::Named("client-non-invite-over-tcp")]).over_tcp(),
        large(&[Device::Named("client-invite-refusal-over-tcp")]).over_tcp(),
    ];
    played(&ACTS, async |world, _| {
        let repeated = world.recipient("sip:server-non-invite-over-tcp@example.org");
        let kept = world.queue().iter().filter(|it| it.message.recipient == repeated).count();
        assert_eq!(kept, 1, "one message in two transactions");
    });
}

#[test]
fn what_is_passed_on_is_passed_on_as_section_16_says() {
    const ACTS: [Act; 10] = [
        call("caller-of-a-call", &[Device::Named("device-of-a-call")]),
        call("caller-of-a-recorded-call", &[Device::Seen("device-of-a-recorded-call")]),
        call("sender-of-a-relayed-message", &[Device::Named("device-of-a-relayed-message")]),
        call("caller-of-the-busy", &[Device::Named("device-that-is-busy"), Device::Named("device-that-is-picky")]),
        call("caller-who-gives-up", &[Device::Named("device-that-rings-on"), Device::Named("device-that-rings-on")]),
        call("caller-who-is-declined", &[Device::Named("device-that-declines"), Device::Named("device-that-rings-on")]),
        call("caller-whose-callee-rings-on", &[Device::Named("device-that-rings-on")]),
        call("caller-of-nobody", &[Device::Silent]),
        call("caller-of-a-loop", &[Device::Named("device-that-loops")]),
        call("no-more-hops", &[Device::Silent]),
    ];
    played(&ACTS, async |_, stage| {
        let branch = |number: usize| {
            let log = stage.join(format!("caller-of-the-busy-{number}/said.log"));
            std::fs::read_to_string(log).expect("what a scenario said").trim().to_owned()
        };
        let (busy, picky) = (branch(0), branch(1));
        assert!(!busy.is_empty() && busy != picky, "each branch has its own name: {busy:?}, {picky:?}");
    });
}

/// Plays all acts at once; then looks at what was left, the directories of the scenarios among it.
fn played(acts: &[Act], look: impl AsyncFn(&World, &Path)) {
    if root_with("usr/bin/sipp").is_none() {
        return;
    }
    for attempt in 1..=ATTEMPTS {
        let mut failed = Vec::new();
        place().tell(async |world| {
            let stage = tempfile::tempdir().expect("a temporary directory");
            failed = play(acts, world, stage.path()).await;
            if failed.is_empty() {
                look(world, stage.path()).await;
            }
        });
        if failed.is_empty() {
            return;
        }
        assert!(attempt < ATTEMPTS, "{}", failed.join("\n"));
        eprintln!("played again: {}", failed.join("\n"));
    }
}

fn place() -> Setting {
    setting().configure(|configuration| {
        configuration.limits.max_ringing_milliseconds = RINGING_MILLISECONDS;
        let example = configuration.tenants.get("example").expect("the tenant of every story").clone();
        let settings = "relay_milliseconds = 3000".parse().expect("settings");
        let relayed = Tenant { domains: vec!["relayed.example".to_owned()], settings, ..example };
        configuration.tenants.insert("relayed".to_owned(), relayed);
    })
}

/// Plays all acts at once; the scenarios that went otherwise, with what they objected to.
async fn play(acts: &[Act], world: &mut World, stage: &Path) -> Vec<String> {
    let sender = world.person("sender").await;
    let mut silent = Vec::new();
    let mut playing = Vec::new();
    for act in acts {
        begin(act, world, stage, &sender, (&mut silent, &mut playing)).await;
    }
    let mut failed = Vec::new();
    for (scenario, sipp) in &mut playing {
        if !sipp.succeeds().await {
            failed.push(format!("{scenario}: {}", sipp.complaints()));
        }
    }
    failed
}

type Playing = Vec<(&'static str, Sipp)>;

/// Registers the devices of an act, starts SIPp for each, and then its caller, or sends its message.
async fn begin(
    act: &Act,
    world: &World,
    stage: &Path,
    sender: &Person,
    (silent, playing): (&mut Vec<RawSip>, &mut Playing),
) {
    let first = act.devices.first().and_then(Device::scenario);
    let name = act.caller.or(first).expect("somebody");
    let address = match name {
        "sender-of-a-relayed-message" => RELAYED.to_owned(),
        name => format!("sip:{name}@example.org"),
    };
    let user = address.trim_start_matches("sip:").split('@').next().unwrap_or_default().to_owned();
    let start = |scenario: &str, directory: String, further: &[&str]| {
        let transport = if act.is_over_tcp { "t1" } else { "u1" };
        let usual = ["-nr", "-m", "1", "-default_behaviors", "all,-bye", "-t", transport, "-s", &user];
        let scenario = format!("conformance/{scenario}.xml");
        Sipp::start(world.sip(), &stage.join(directory), &scenario, &[&usual, further].concat())
    };
    for (number, device) in act.devices.iter().enumerate() {
        let socket = registered(world, &address, &user, device, act.is_over_tcp).await;
        let Some(scenario) = device.scenario() else {
            silent.push(socket);
            continue;
        };
        let port = socket.local().port();
        drop(socket);
        playing.push((scenario, start(scenario, format!("{name}-{number}"), &["-p", &port.to_string()])));
        until("SIPp listens", || is_bound(port, act.is_over_tcp)).await;
    }
    if let Some(caller) = act.caller {
        // Over TCP SIPp looks for no other port when the first is taken.
        let port = free_tcp_port().port().to_string();
        let own_port = ["-p", port.as_str()];
        let further = if act.is_over_tcp { own_port.as_slice() } else { &[] };
        playing.push((caller, start(caller, name.to_owned(), further)));
    }
    match act.sent {
        Sent::Nothing => {}
        Sent::Page => _ = sender.send(&address, "over UDP").await,
        Sent::Large => {
            let message = LargeMessage::new(&address, "application/zip", Source::Bytes(pattern(3_000)));
            let outcome = sender.client.send_large(message).await.expect("a client that runs");
            assert!(outcome.accepted, "{outcome:?}");
        }
    }
}

impl Device {
    fn scenario(&self) -> Option<&'static str> {
        match self {
            Device::Named(scenario) | Device::Seen(scenario) => Some(scenario),
            Device::Silent => None,
        }
    }
}

/// A socket that registered as a device of a user.
async fn registered(world: &World, address: &str, user: &str, device: &Device, is_over_tcp: bool) -> RawSip {
    let mut socket = world.udp().await;
    let contact = match device {
        Device::Seen(_) => format!("<sip:{user}@192.0.2.77:5060>"),
        Device::Named(_) | Device::Silent => format!("<sip:{user}@{}>", socket.local()),
    };
    let domain = address.split('@').nth(1).unwrap_or_default();
    let register = socket.request("REGISTER", &format!("sip:{domain}"));
    let register = register.set("From", &format!("<{address}>;tag=device")).set("To", &format!("<{address}>"));
    let register = register.set("Contact", &contact).set("Expires", "600");
    let register = match is_over_tcp {
        true => {
            let path = format!("<sip:{};transport=tcp;lr>", socket.local());
            register.with("Supported", "path").with("Path", &path)
        }
        false => register,
    };
    assert_eq!(socket.ask(&register).await.status(), Some(200), "{address}");
    socket
}

/// Whether somebody has this port, without taking it.
fn is_bound(port: u16, is_tcp: bool) -> bool {
    let sockets = if is_tcp { "/proc/net/tcp" } else { "/proc/net/udp" };
    let sockets = std::fs::read_to_string(sockets).unwrap_or_default();
    let port = format!(":{port:04X}");
    sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).any(|local| local.ends_with(&port))
}
