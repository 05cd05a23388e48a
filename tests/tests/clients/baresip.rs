//! Baresip: takes `text/plain` and nothing else, knows MD5 alone, and will not use loopback.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use restante::configuration::DigestAlgorithm;
use restante_sip::authentication::Algorithm;
use restante_tests::{World, setting};

use crate::foreign::{Foreign, command, root, skipped};

/// An address of this machine that is not loopback. Nothing is sent to find it; what is sent to it stays on the machine.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.99:9").ok()?;
    socket.local_addr().ok().map(|local| local.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn start(root: &Path, world: &World, directory: &Path) -> Foreign {
    let modules = root.join("usr/lib/baresip/modules");
    let configuration = format!(
        "poll_method epoll\nmodule_path {}\nmodule stdio.so\nmodule g711.so\nmodule_tmp account.so\nmodule_app menu.so\n",
        modules.display()
    );
    let account = format!("<sip:bob@example.org>;outbound=\"sip:{}\";regint=60;auth_pass=bob\n", world.sip());
    for (name, text) in [("config", configuration), ("accounts", account), ("contacts", String::new())] {
        std::fs::write(directory.join(name), text).expect("a configuration");
    }
    let mut command = command(root, root.join("usr/bin/baresip"));
    command.arg("-f").arg(directory);
    Foreign::start(command)
}

#[test]
fn baresip_shows_what_waited_for_its_user() {
    let Some(root) = root() else { return };
    if own_address().is_none() {
        return skipped("baresip needs an address that is not loopback");
    }
    let md5 = |tenant: &mut restante::configuration::Tenant| {
        tenant.digest.algorithms = vec![DigestAlgorithm(Algorithm::Md5.into())]
    };
    setting().demands_passwords().tenant(md5).settings("few = 100").tell(async |world| {
        world.give_password("bob").await;
        let mut socket = world.udp().await;
        for text in ["one", "two"] {
            let request = socket.request("MESSAGE", "sip:bob@example.org").text(text);
            assert_eq!(socket.ask(&request).await.status(), Some(202));
        }
        let alice = world.person("alice").await;
        alice.send("sip:bob@example.org", "three").await;
        let directory = tempfile::tempdir().expect("a directory");
        let mut baresip = start(&root, world, directory.path());
        baresip.line_with("200 OK").await;
        // The last came as CPIM, which it refuses, and goes without.
        for text in ["one", "two", "three"] {
            let line = baresip.line_with(&format!("\"{text}\"")).await;
            assert!(line.contains("alice"), "{line}");
        }
        world.until_settled().await;
    });
}
