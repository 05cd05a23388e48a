//! Commands whose other end goes away.

use std::os::unix::net::UnixListener;

use restante_tests::run;

/// Whether the command writes or reads when the end comes is chance.
const ATTEMPTS: usize = 20;

#[test]
fn a_server_that_closes_the_connection_is_no_success() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name).display().to_string();
    // More than a socket holds.
    std::fs::write(path("large.wasm"), vec![0_u8; 8 << 20]).expect("a file");
    let listener = UnixListener::bind(path("admin.sock")).expect("a socket");
    let server = std::thread::spawn(move || listener.incoming().take(ATTEMPTS).for_each(drop));
    let arguments = ["policy", "activate", "example", &path("large.wasm"), "--socket", &path("admin.sock")];
    for _ in 0..ATTEMPTS {
        let finished = run(&arguments);
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.starts_with("restante: "), "{finished:?}");
    }
    server.join().expect("the server ends");
}
