//! PJSIP's PJSUA2, in a script of its own.

use std::path::Path;
use std::process::Command;

use restante_tests::{OUTSIDE, setting};

use crate::foreign::{Foreign, skipped, unpacked};

const ERIN: &str = "sip:erin@example.org";

fn start(place: &Path, server: &str) -> Foreign {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/pjsua.py");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "python3"]).arg(script).args([server, "erin", "nire", &OUTSIDE.to_string()]);
    command.env("PYTHONPATH", place.join("root")).env("PYTHONDONTWRITEBYTECODE", "1");
    Foreign::start(command)
}

#[test]
fn pjsua_shows_what_waited_for_its_user_and_answers_it() {
    let Some(place) = unpacked("pjsua") else { return skipped("see tests/clients/pjsua.sh") };
    setting().demands_passwords().settings("few = 100").tell(async |world| {
        world.give_password("erin").await;
        let mut alice = world.person("alice").await;
        alice.register().await;
        let mut socket = world.udp().await;
        for text in ["one", "two"] {
            let request = socket.request("MESSAGE", ERIN).text(text);
            assert_eq!(socket.ask(&request).await.status(), Some(202));
        }
        alice.send(ERIN, "three").await;
        let mut pjsua = start(&place, &world.sip().to_string());
        pjsua.line_with("registered: 200").await;
        for text in ["one", "two"] {
            let line = pjsua.line_with(&format!("'{text}'")).await;
            assert!(line.contains("alice") && line.contains("text/plain"), "{line}");
        }
        let line = pjsua.line_with("three").await;
        assert!(line.contains("message/cpim"), "{line}");
        assert_eq!(alice.texts(2).await, ["answer to one", "answer to two"]);
        world.until_settled().await;
    });
}
