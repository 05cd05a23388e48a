//! What crosses the wire in the demo, read by a dissector that is not ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::foreign::{command, libraries, root, skipped};

/// Captures all that a story of the demo sends, in a network of its own, so that nothing else is there.
const CAPTURE: &str = r#"
    ip link set lo up || exit 9
    LD_LIBRARY_PATH=$1 "$2" -q -i lo -B 64 -w "$3" &
    until [ -s "$3" ] || ! kill -0 $!; do sleep 0.05; done
    "$4" demo --story "$5"; result=$?
    sleep 0.5; kill $!; wait $!
    exit $result
"#;

/// A story's frames; none, loudly, where they cannot be captured.
fn capture(root: &Path, directory: &Path, story: &str) -> Option<PathBuf> {
    let file = directory.join(format!("{story}.pcapng"));
    for options in [&["--net"][..], &["--map-root-user", "--net"]] {
        let mut capture = command(root, "unshare");
        capture.env_remove("LD_LIBRARY_PATH").args(options).args(["sh", "-c", CAPTURE, "capture", &libraries(root)]);
        capture.arg(root.join("usr/bin/dumpcap")).arg(&file).arg(restante_tests::binary()).arg(story);
        let ended = capture.current_dir(directory).output().expect("setpriv runs");
        if ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(
                said.contains("/0 (pcap:0/dumpcap:0/flushed:0/ps_ifdrop:0)"),
                "{story}: frames are missing: {said}"
            );
            return Some(file);
        }
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(!said.contains("lost"), "the demo failed: {said}");
    }
    skipped("this machine does not let a test have a network of its own");
    None
}

/// The names of the stories.
fn stories() -> Vec<String> {
    let listed = Command::new(restante_tests::binary()).args(["demo", "--list"]).output().expect("the program runs");
    let text = String::from_utf8(listed.stdout).expect("text");
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
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

/// The stream and the first line of a piece of TCP that no dissector knew, where it is a message. Others are none: MSRP's
/// dissector loses its place amid a large chunk, and has it again where the next request begins.
fn unknown_beginning(line: &str) -> Option<String> {
    let mut fields = line.split('\t').skip(1);
    let (stream, payload) = (fields.next().expect("a stream"), fields.next().expect("a payload"));
    let bytes: Vec<u8> = payload
        .as_bytes()
        .chunks(2)
        .filter_map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    let start = String::from_utf8_lossy(bytes.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let is_start = start.starts_with("MSRP ") || start.starts_with("SIP/2.0 ") || start.ends_with(" SIP/2.0");
    is_start.then(|| format!("{stream}: {start}"))
}

#[test]
fn a_dissector_of_others_reads_every_frame_of_the_demo() {
    let Some(root) = root() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let stories = stories();
    assert!(stories.len() >= 9, "{stories:?}");
    let (mut sip, mut sdp, mut msrp) = (0, 0, 0);
    for story in &stories {
        let Some(file) = capture(&root, directory.path(), story) else { return };
        let dissector = Dissector { root: root.clone(), file };
        let known = dissector.frames("sip || msrp", &["frame.protocols", "tcp.stream"]);
        let count = |protocol: &str| {
            let is_in = |line: &&String| line.split(['\t', ':']).any(|layer| layer == protocol);
            known.iter().filter(is_in).count()
        };
        assert!(count("sip") > 0, "{story} sends no SIP: {known:?}");
        (sip, sdp, msrp) = (sip + count("sip"), sdp + count("sdp"), msrp + count("msrp"));
        // Marks of TCP, a window that is full for example, are about this machine.
        let marked = "_ws.malformed || (_ws.expert.severity >= 0x800000)";
        let told = ["_ws.col.Info", "_ws.expert.message"];
        assert_eq!(dissector.frames(&format!("(sip || sdp || msrp) && ({marked})"), &told), [""; 0], "{story}");
        // Frames that no dissector knew would not be marked.
        assert_eq!(dissector.frames("udp && !sip", &told), [""; 0], "{story}");
        let streams: BTreeSet<&str> = known.iter().filter_map(|line| line.split('\t').nth(2)).collect();
        let undissected = "tcp.len > 0 && !sip && !msrp && !tcp.segment_data";
        for line in dissector.frames(undissected, &["tcp.stream", "tcp.payload"]) {
            let stream = line.split('\t').nth(1).unwrap_or_default();
            assert!(streams.contains(stream), "{story}: neither SIP nor MSRP on the connection {stream}");
            assert_eq!(unknown_beginning(&line), None, "{story}: a message that was not known for one");
        }
    }
    assert!(sip > 100 && sdp > 10 && msrp > 100, "{sip} frames of SIP, {sdp} with SDP, {msrp} of MSRP");
}
