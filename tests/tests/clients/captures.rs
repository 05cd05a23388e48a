//! What crosses the wire in the demo, read by a dissector that is not ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::foreign::{command, libraries, root, skipped};

/// Captures all that the demo sends, in a network of its own, so that nothing else is there.
const CAPTURE: &str = r#"
    ip link set lo up || exit 9
    LD_LIBRARY_PATH=$1 "$2" -q -i lo -B 64 -w "$3" &
    until [ -s "$3" ] || ! kill -0 $!; do sleep 0.05; done
    "$4" demo; result=$?
    sleep 0.5; kill $!; wait $!
    exit $result
"#;
/// The demo's frames; none, loudly, where they cannot be captured.
fn capture(root: &Path, directory: &Path) -> Option<PathBuf> {
    let file = directory.join("demo.pcapng");
    for options in [&["--net"][..], &["--map-root-user", "--net"]] {
        let mut capture = command(root, "unshare");
        capture.env_remove("LD_LIBRARY_PATH").args(options).args(["sh", "-c", CAPTURE, "capture", &libraries(root)]);
        capture.arg(root.join("usr/bin/dumpcap")).arg(&file).arg(restante_tests::binary()).current_dir(directory);
        let ended = capture.output().expect("setpriv runs");
        if ended.status.success() {
            return Some(file);
        }
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(!said.contains("lost"), "the demo failed: {said}");
    }
    skipped("this machine does not let a test have a network of its own");
    None
}

struct Dissector {
    root: PathBuf,
    file: PathBuf,
}

impl Dissector {
    /// A line for each frame that a filter shows, with these fields.
    fn frames(&self, filter: &str, fields: &[&str]) -> Vec<String> {
        let mut tshark: Command = command(&self.root, self.root.join("usr/bin/tshark"));
        tshark.env("WIRESHARK_DATA_DIR", self.root.join("usr/share/wireshark")).arg("-r").arg(&self.file);
        tshark.args(["-Y", filter, "-T", "fields", "-e", "frame.number"]);
        fields.iter().for_each(|field| _ = tshark.args(["-e", *field]));
        let ended = tshark.output().expect("tshark runs");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8_lossy(&ended.stdout).lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_dissector_of_others_reads_every_frame_of_the_demo() {
    let Some(root) = root() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let Some(file) = capture(&root, directory.path()) else { return };
    let dissector = Dissector { root, file };
    let count = |filter: &str| dissector.frames(filter, &[]).len();
    let (sip, sdp, msrp) = (count("sip"), count("sdp"), count("msrp"));
    assert!(sip > 100 && sdp > 10 && msrp > 100, "{sip} frames of SIP, {sdp} with SDP, {msrp} of MSRP");
    // Marks of TCP, a window that is full for example, are about this machine.
    let marked = "_ws.malformed || (_ws.expert.severity >= 0x800000)";
    let told = ["_ws.col.Info", "_ws.expert.message"];
    assert_eq!(dissector.frames(&format!("(sip || sdp || msrp) && ({marked})"), &told), [""; 0]);
    // Frames that no dissector knew would not be marked.
    assert_eq!(dissector.frames("udp && !sip", &told), [""; 0]);
}
