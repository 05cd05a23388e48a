//! Commands whose other end goes away.

use std::io::Read as _;
use std::net::Shutdown;
use std::os::unix::net::UnixListener;

use restante_tests::run;

#[test]
fn a_server_that_stops_reading_is_no_success() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name).display().to_string();
    // More than a socket holds.
    std::fs::write(path("large.wasm"), vec![0_u8; 8 << 20]).expect("a file");
    let listener = UnixListener::bind(path("admin.sock")).expect("a socket");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.shutdown(Shutdown::Read).expect("a connection");
        stream.read_to_end(&mut Vec::new()).expect("what came before");
        stream
    });
    let arguments = ["policy", "activate", "example", &path("large.wasm"), "--socket", &path("admin.sock")];
    let finished = run(&arguments);
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.starts_with("restante: "), "{finished:?}");
    drop(server.join().expect("the server ends"));
}
