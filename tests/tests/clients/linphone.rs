//! Linphone: takes CPIM and plain text, asks for nothing and reports everything, compressed.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use flate2::read::ZlibDecoder;
use restante_cpim::imdn::{Disposition, Imdn};
use restante_sip::message::Name;
use restante_tests::{RawSip, World, free_tcp_port, setting, until};

use crate::foreign::{Foreign, command, root, skipped};

/// What a tenant trusts here; Linphone is somewhere else.
const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// Linphone looks for its grammars where it would be installed, and nowhere else.
const IN_ITS_PLACE: &str = "mount -t overlay overlay -o lowerdir=\"$0\":/usr/share /usr/share && exec \"$@\"";

/// `unshare`, so that what it mounts is there for itself alone; none where that is not allowed.
fn its_own_mounts(root: &Path) -> Option<Vec<String>> {
    let share = root.join("usr/share").display().to_string();
    for options in [&["--mount"][..], &["--map-root-user", "--mount"]] {
        let begin: Vec<String> = ["unshare"]
            .iter()
            .chain(options)
            .chain(&["sh", "-c", IN_ITS_PLACE, &share])
            .map(|it| (*it).to_owned())
            .collect();
        let (program, arguments) = begin.split_first()?;
        let tried = Command::new(program).args(arguments).arg("true").output();
        if tried.is_ok_and(|tried| tried.status.success()) {
            return Some(begin);
        }
    }
    None
}

fn start(root: &Path, world: &World, directory: &Path) -> Option<Foreign> {
    let Some(begin) = its_own_mounts(root) else {
        skipped("this machine does not let Linphone have mounts of its own");
        return None;
    };
    let (server, port) = (world.sip(), free_tcp_port().port());
    let configuration = format!(
        "[sip]\nsip_port=0\nsip_tcp_port={port}\nguess_hostname=0\nregister_only_when_network_is_up=0\ndefault_proxy=0\n\
         [auth_info_0]\nusername=carol\npasswd=lorac\nrealm=example.org\n\
         [proxy_0]\nreg_proxy=<sip:{server};transport=tcp>\nreg_route=<sip:{server};transport=tcp;lr>\n\
         reg_identity=<sip:carol@example.org>\nreg_expires=600\nreg_sendregister=1\npublish=0\n"
    );
    std::fs::write(directory.join("linphonerc"), configuration).expect("a configuration");
    std::fs::create_dir_all(directory.join(".local/share/linphone")).expect("a directory");
    let (program, arguments) = begin.split_first()?;
    let mut command = command(root, program);
    command.args(arguments).arg(root.join("usr/bin/linphonec")).arg("-c").arg(directory.join("linphonerc"));
    command.env("HOME", directory).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
    Some(Foreign::start(command))
}

fn opened(body: &[u8], encoding: Option<&str>) -> Vec<u8> {
    let mut xml = Vec::new();
    match encoding {
        None => xml.extend_from_slice(body),
        Some(encoding) => {
            assert_eq!(encoding, "deflate");
            ZlibDecoder::new(body).read_to_end(&mut xml).expect("what it says to be");
        }
    }
    xml
}

#[test]
fn linphone_shows_what_waited_for_its_user_and_its_reports_and_answers_arrive() {
    let Some(root) = root() else { return };
    let trust = |tenant: &mut restante::configuration::Tenant| {
        tenant.trust = vec!["127.0.0.3".parse().expect("an address")];
    };
    setting().demands_passwords().tenant(trust).settings("few = 100").tell(async |world| {
        world.give_password("carol").await;
        let mut alice = RawSip::udp(TRUSTED, world.sip()).await;
        let plain = alice.request("MESSAGE", "sip:carol@example.org").text("plain");
        let cpim = "From: <sip:alice@example.org>\r\nTo: <sip:carol@example.org>\r\nDateTime: 2026-11-26T10:00:00Z\r\n\
                    NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 34jk324j\r\n\
                    imdn.Disposition-Notification: positive-delivery\r\n\r\nContent-Type: text/plain\r\n\r\nwrapped";
        let wrapped = alice.request("MESSAGE", "sip:carol@example.org").body("message/cpim", cpim.as_bytes().to_vec());
        for request in [plain, wrapped] {
            assert_eq!(alice.ask(&request).await.status(), Some(202));
        }
        let directory = tempfile::tempdir().expect("a directory");
        let Some(mut linphone) = start(&root, world, directory.path()) else { return };
        for text in ["plain", "wrapped"] {
            linphone.line_with(&format!("Message received from sip:alice@example.org: {text}")).await;
        }
        linphone.type_line("chat sip:alice@example.org back again");
        // Alice was away for all of it.
        until("a report and an answer wait", || world.queue().len() >= 2).await;
        let register = alice
            .request("REGISTER", "sip:example.org")
            .set("To", "<sip:alice@example.org>")
            .with("Contact", &format!("<sip:alice@{}>;expires=600", alice.local()));
        assert_eq!(alice.ask(&register).await.status(), Some(200));
        // Reports that are long enough come compressed.
        let (mut reports, mut compressed, mut answered) = (0, 0, false);
        while reports < 2 || !answered {
            let came = alice.expect("a MESSAGE", |message| message.status().is_none()).await;
            let encoding = came.header(Name::ContentEncoding);
            match came.header(Name::ContentType) {
                Some("message/imdn+xml") => {
                    let xml = opened(&came.body(), encoding);
                    let report = Imdn::parse(&xml).expect("a report");
                    assert!(matches!(report.disposition, Disposition::Delivered), "{report:?}");
                    reports += 1;
                    compressed += usize::from(encoding.is_some());
                }
                _ => answered |= String::from_utf8_lossy(&came.body()).contains("back again"),
            }
            alice.respond(&came, 200).await;
        }
        assert!(compressed > 0);
        world.until_settled().await;
    });
}
