//! Passwords as an operator and a user handle them.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use restante_tests::{Finished, Program, binary, in_time, run, run_in, setting};

fn write(program: &Program, name: &str, text: &str) -> String {
    let path = program.configuration_file().with_file_name(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn succeed(finished: &Finished) {
    assert!(finished.status.success(), "{finished:?}");
}

#[tokio::test]
async fn a_password_is_given_used_and_taken_away_and_never_kept() {
    let program = Program::patient(
        "[tenants.t]\ndomains = [\"example.org\"]\nauthentication = \"digest\"\nnumbers = [\"+1555\"]",
    );
    let mut served = program.serve().await;
    let password = "correct horse battery staple";
    let (right, wrong) = (write(&program, "right", &format!("{password}\n")), write(&program, "wrong", "guess\n"));
    for address in ["sip:alice@example.org", "sip:bob@example.org"] {
        succeed(&program.ask(&["user", "add", address, "--password-file", &right]));
    }
    let shown = program.ask(&["user", "show", "sip:bob@example.org"]);
    assert!(shown.stdout.contains("password:   yes, for bob in example.org (MD5, SHA-256)"), "{shown:?}");
    let taken = program.ask(&["user", "add", "tel:+15550100", "--username", "bob", "--password-file", &right]);
    assert!(taken.stderr.contains("the username \"bob\" belongs to sip:bob@example.org"), "{taken:?}");
    let empty = write(&program, "empty", "\n");
    let empty = program.ask(&["user", "add", "tel:+15550100", "--password-file", &empty]);
    assert!(empty.stderr.contains("expected a password"), "{empty:?}");

    let server = program.sip().to_string();
    let send = |file: &[&str]| {
        let (from, to) = ("sip:alice@example.org", "sip:bob@example.org");
        run(&[&["client", "send", "--server", &server, "--from", from, "--to", to, "--text", "hello"], file].concat())
    };
    succeed(&send(&["--password-file", &right]));
    let refused = send(&["--password-file", &wrong]);
    assert!(!refused.status.success() && refused.stdout.contains("401"), "{refused:?}");
    assert!(!send(&[]).status.success());
    // From the environment; what a file says counts more.
    let in_environment = |password: &str, file: &[&str]| {
        let send =
            ["client", "send", "--server", &server, "--from", "sip:alice@example.org", "--to", "sip:carol@example.org"];
        run_in(&[("RESTANTE_PASSWORD", password)], &[&send[..], &["--text", "hello"], file].concat())
    };
    succeed(&in_environment(password, &[]));
    succeed(&in_environment("guess", &["--password-file", &right]));
    assert!(!in_environment("guess", &[]).status.success());
    let nameless = run(&[
        "client",
        "send",
        "--server",
        &server,
        "--from",
        "sip:a@example.org",
        "--to",
        "sip:b@example.org",
        "--text",
        "x",
        "--username",
        "a",
    ]);
    assert!(nameless.stderr.contains("RESTANTE_PASSWORD"), "{nameless:?}");
    let bob = ["--as", "sip:bob@example.org", "--password-file", &right, "--username", "bob"];
    let listening =
        run(&[&["client", "listen", "--server", &server, "--count", "1", "--for", "60"], &bob[..]].concat());
    assert!(listening.status.success() && listening.stdout.contains("hello"), "{listening:?}");
    succeed(&send(&["--password-file", &right]));
    let fetched = run(&[&["client", "fetch", "--server", &server], &bob[..]].concat());
    succeed(&fetched);

    succeed(&program.ask(&["user", "remove-credentials", "sip:alice@example.org"]));
    assert!(program.ask(&["user", "show", "sip:alice@example.org"]).stdout.contains("password:   none"));
    assert!(!send(&["--password-file", &right]).status.success());
    served.terminate();
    assert!(served.ended().await.success());
    for file in ["messages.sqlite", "messages.sqlite-wal"] {
        let bytes = std::fs::read(program.data().join(file)).unwrap_or_default();
        assert!(!bytes.windows(password.len()).any(|window| window == password.as_bytes()), "{file}");
    }
}

#[test]
fn hashes_of_another_realm_or_form_are_refused_and_none_is_shown() {
    setting().administered().demands_passwords().tell(async |world| {
        let hash = "0123456789abcdef0123456789abcdef";
        let body = |username: &str, realm: &str, algorithm: &str, hash: &str| {
            format!("{{\"username\":{username:?},\"realm\":{realm:?},\"hashes\":{{{algorithm:?}:{hash:?}}}}}")
        };
        let long = "x".repeat(300);
        for (body, expected) in [
            (body("bob", "elsewhere.example", "MD5", hash), 409),
            (body("", "example.org", "MD5", hash), 400),
            (body(&long, "example.org", "MD5", hash), 400),
            (body("bob", "example.org", "SHA-256", hash), 400),
            (body("bob", "example.org", "MD6", hash), 400),
            (body("bob", "example.org", "MD5", "my password"), 400),
            ("{\"username\":\"bob\",\"realm\":\"example.org\",\"hashes\":{}}".to_owned(), 400),
            (body("bob", "example.org", "MD5", hash), 200),
        ] {
            let path = "/users/sip:bob@example.org/credentials";
            let answer = world.administer("PUT", path, Some(("application/json", &body))).await;
            assert_eq!(answer.status, expected, "{body}: {}", answer.body);
            assert!(!answer.body.contains(hash) && !answer.body.contains("my password"), "{}", answer.body);
        }
        let shown = world.json(&["user", "show", "sip:bob@example.org"]).await;
        assert_eq!(shown["authentication"]["username"], "bob");
        assert_eq!(shown["authentication"]["hashed"], serde_json::json!(["MD5"]));
        let removed = world.administer("DELETE", "/users/sip:bob@example.org/credentials", None).await;
        assert_eq!(removed.status, 200);
        let shown = world.json(&["user", "show", "sip:bob@example.org"]).await;
        assert!(shown["authentication"]["username"].is_null());
    });
}

/// Types this at the first prompt of a command that runs at a terminal; what the terminal shows.
fn at_a_terminal(command: &str, typed: &[u8]) -> String {
    let mut script = Command::new("script");
    script.args(["-qec", command, "/dev/null"]).env("SHELL", "/bin/sh").env_remove("RESTANTE_PASSWORD");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) runs");
    let (mut keyboard, mut screen) = (child.stdin.take().expect("a keyboard"), child.stdout.take().expect("a screen"));
    let mut shown = Vec::new();
    let mut byte = [0];
    while !shown.ends_with(b": ") && screen.read(&mut byte).expect("a screen") > 0 {
        shown.push(byte[0]);
    }
    keyboard.write_all(typed).expect("a keyboard");
    screen.read_to_end(&mut shown).expect("a screen");
    child.wait().expect("it ends");
    String::from_utf8(shown).expect("text")
}

#[test]
fn a_terminal_shows_what_is_typed_again_after_a_password_and_after_ctrl_c_instead() {
    setting().administered().demands_passwords().tell(async |world| {
        let socket = world.configuration().data.join("admin.sock").display().to_string();
        let program = binary().display().to_string();
        let add =
            format!("trap : INT; {program} user add sip:bob@example.org --socket {socket}; echo $? is how; stty -a");
        for (typed, status) in [(&b"secret\n"[..], 0), (b"\x03", 130)] {
            let add = add.clone();
            let terminal = tokio::task::spawn_blocking(move || at_a_terminal(&add, typed));
            let shown = in_time("the command ends", terminal).await.expect("a terminal");
            assert!(shown.contains(&format!("{status} is how")) && !shown.contains("secret"), "{shown}");
            assert!(shown.split_whitespace().any(|word| word == "echo"), "{shown}");
        }
    });
}
