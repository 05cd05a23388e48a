//! What `restante serve` says to a configuration that cannot be used, and `restante serve --check` of any.

use restante_tests::{Program, guest, run};

/// Runs `serve` with this configuration; what it said, the file's own path written as FILE. HERE in the
/// configuration is a data directory.
fn refusal(text: &str) -> String {
    refusal_with(text, &[])
}

/// The same with further arguments.
fn refusal_with(text: &str, further: &[&str]) -> String {
    let program = Program::new("");
    program.configure(&text.replace("HERE", &program.data().display().to_string()));
    let file = program.configuration_file().display().to_string();
    let finished = run(&[&["serve", "--config", &file], further].concat());
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(further.is_empty() || !program.data().exists(), "a check leaves nothing behind");
    assert_eq!(finished.stdout, "");
    finished.stderr.replace(&file, "FILE")
}

#[test]
fn what_is_wrong_is_said_with_line_and_column_and_what_was_expected() {
    let cases = [
        (
            "[sip]\nlissten = []\n",
            "restante: FILE: TOML parse error at line 2, column 1\n  |\n2 | lissten = []\n  | ^^^^^^^\nunknown field `lissten`, \
             expected one of `listen`, `advertise`, `outbound`, `name_servers`, `congestion_safe`, \
             `allow_targets`, `web_origins`, `upstream_failure_header`, `keep_headers`\n\n",
        ),
        (
            "[sip]\noutbound = \"udp:a b\"\n",
            "restante: FILE: TOML parse error at line 2, column 12\n  |\n2 | outbound = \"udp:a b\"\n  |            \
             ^^^^^^^^^\n\"udp:a b\": expected \"udp:HOST:PORT\", \"tcp:HOST:PORT\" or \"tls:HOST:PORT\" with an address or a name, such as \
             \"udp:192.0.2.1:5060\" or \"tls:proxy.example.org\"\n\n",
        ),
        (
            "[sip]\nlisten = [\"udp:example.org:5060\"]\n",
            "restante: FILE: TOML parse error at line 2, column 10\n  |\n2 | listen = [\"udp:example.org:5060\"]\n  |          \
             ^^^^^^^^^^^^^^^^^^^^^^^^\n\"udp:example.org:5060\": expected \"udp:HOST:PORT\", or the same with tcp, tls, ws or wss, and a numeric \
             host, such as \"udp:127.0.0.1:5060\" or \"tcp:[::1]:5060\"\n\n",
        ),
        (
            "data = 7\n",
            "restante: FILE: TOML parse error at line 1, column 8\n  |\n1 | data = 7\n  |        ^\ninvalid type: integer `7`, \
             expected path string\n\n",
        ),
        (
            "[limits]\nmax_sessions = -1\n",
            "restante: FILE: TOML parse error at line 2, column 16\n  |\n2 | max_sessions = -1\n  |                ^^\ninvalid \
             value: integer `-1`, expected a whole number\n\n",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn what_does_not_fit_together_is_said_with_its_place_and_key() {
    let tenant = "[tenants.example]\ndomains = [\"example.org\"]\n";
    let cases = [
        (
            "[msrp]\nlisten = [\"udp:127.0.0.1:1\"]\n".to_owned(),
            "line 2, column 10: msrp.listen: MSRP runs over TCP, expected \"tcp:HOST:PORT\" or \"tls:HOST:PORT\"",
        ),
        (
            format!("{tenant}[tenants.b]\ndomains = [\"EXAMPLE.org\"]\n"),
            "line 2, column 12: tenants.example: \"example.org\" already belongs to tenants.b",
        ),
        (
            "[tls]\ncertificate = \"/no/such.pem\"\nkey = \"/no/such.key\"\n".to_owned(),
            "line 1, column 1: [tls] cannot be used: /no/such.pem: No such file or directory (os error 2)",
        ),
        (
            "[limits]\nmax_sessions = 0\n".to_owned(),
            "line 2, column 16: limits.max_sessions = 0: expected a whole number from 1 to 9223372036854775",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(&text), format!("restante: FILE: {expected}\n"), "{text}");
    }
}

#[test]
fn settings_of_a_policy_are_checked_by_the_policy_and_have_their_place_too() {
    let tenant = "[tenants.example]\ndomains = [\"example.org\"]\n[tenants.example.settings]\n";
    let cases = [
        ("few = \"many\"\n", "line 5, column 7: tenants.example.settings.few: expected a whole number from 0 to 100"),
        ("fewer = 3\n", "line 5, column 9: tenants.example.settings.fewer: is not a setting; expected delivery"),
    ];
    for (setting, expected) in cases {
        let said = refusal(&format!("data = \"HERE\"\n{tenant}{setting}"));
        assert!(said.contains(expected), "{setting}: {said}");
    }
}

#[test]
fn a_check_says_what_a_start_would_and_touches_nothing() {
    const PORTS: &str = "[sip]\nlisten = [\"udp:127.0.0.1:0\"]\n[msrp]\nlisten = [\"tcp:127.0.0.1:0\"]\n";
    let tenant = "[tenants.example]\ndomains = [\"example.org\"]\n";
    let cases = [
        ("[sip]\nlissten = []\n".to_owned(), "unknown field `lissten`"),
        (format!("{tenant}numbers = [\"1555\"]\n"), "line 4, column 12: tenants.example.numbers"),
        ("[log]\nfilter = \"restante=loud\"\n".to_owned(), "log.filter"),
        ("[tls]\ncertificate = \"/no/such.pem\"\nkey = \"/no/such.key\"\n".to_owned(), "/no/such.pem"),
        (
            format!("{tenant}aliases = {{ \"tel:+1\" = \"nobody\" }}\n"),
            "tenants.example.aliases: \"nobody\" is not an address",
        ),
        ("[msrp]\nlisten = []\n".to_owned(), "msrp.listen is empty"),
        (format!("{tenant}policy = \"/proc/self/status\"\n"), "line 4, column 10: tenants.example: the policy"),
        (format!("{tenant}[tenants.example.settings]\nfew = 300\n"), "line 5, column 7: tenants.example.settings.few"),
        (
            format!(
                "{PORTS}{tenant}[msrp.relay]\nuri = \"msrps://a.org;tcp\"\nusername = \"a\"\npassword_file = \"/no/such\"\n"
            ),
            "msrp.relay.password_file: cannot read /no/such",
        ),
        (
            format!("{PORTS}{tenant}[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"/dev/null\"\n"),
            "/dev/null: expected a token of at least 16 characters",
        ),
    ];
    let said =
        |text: &str| text.lines().filter(|line| line.starts_with("restante: ")).map(str::to_owned).collect::<Vec<_>>();
    for (text, expected) in cases {
        let text = format!("data = \"HERE\"\n{text}");
        let (started, checked) = (refusal(&text), refusal_with(&text, &["--check"]));
        assert_eq!(said(&checked), said(&started), "{text}");
        assert!(checked.contains(expected), "{text}: {checked}");
    }
}

#[test]
fn what_can_be_used_passes_a_check_while_another_has_its_ports() {
    let program = Program::new("[tenants.example]\ndomains = [\"example.org\"]\n");
    let taken = std::net::UdpSocket::bind(program.sip()).expect("a free port");
    let file = program.configuration_file().display().to_string();
    let checked = run(&["serve", "--config", &file, "--check"]);
    assert_eq!((checked.status.code(), checked.stdout), (Some(0), format!("{file}: valid\n")), "{}", checked.stderr);
    assert!(!program.data().exists());
    drop(taken);
}

#[tokio::test]
async fn a_check_takes_what_the_server_compiled() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("policy.wasm");
    std::fs::copy(guest("scripted"), &file).expect("a policy");
    let program = Program::new(&format!("[tenants.example]\ndomains = [\"example.org\"]\npolicy = {file:?}\n"));
    let mut served = program.serve().await;
    // From now on there is too little memory to compile anything.
    let base = std::fs::read_to_string(program.configuration_file()).expect("the configuration");
    program.configure(&format!("{base}[limits]\nmax_compile_memory_bytes = 1048576\n"));
    let configuration = program.configuration_file().display().to_string();
    let check = || run(&["serve", "--config", &configuration, "--check"]);
    let checked = check();
    assert!(checked.status.success(), "{checked:?}");
    // While it serves it would take the other one and compile it, too.
    served.terminate();
    assert!(served.ended().await.success());
    std::fs::copy(guest("hostile"), &file).expect("another policy");
    let checked = check();
    assert!(!checked.status.success() && checked.stderr.contains("was not compiled"), "{checked:?}");
}

#[test]
fn what_is_missing_is_named() {
    let missing = run(&["serve", "--config", "/nowhere/restante.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    let expected =
        "restante: cannot read the configuration /nowhere/restante.toml: No such file or directory (os error 2)\n";
    assert_eq!(missing.stderr, expected);
    let policy = |path: &str| {
        refusal(&format!("data = \"HERE\"\n[tenants.example]\ndomains = [\"example.org\"]\npolicy = {path:?}\n"))
    };
    let said = policy("/nowhere/policy.wasm");
    let expected = "restante: FILE: line 4, column 10: tenants.example.policy: there is no file \"/nowhere/policy.wasm\": \
                    expected \"standard\" or the path of a component\n";
    assert_eq!(said, expected);
    let said = policy("/proc/self/status");
    assert!(said.contains("tenants.example") && said.contains("cannot be used"), "{said}");
}

#[tokio::test]
async fn what_another_process_has_is_said_so() {
    let program = Program::new("");
    let served = program.serve().await;
    let again = run(&["serve", "--config", &program.configuration_file().display().to_string()]);
    assert_eq!(again.status.code(), Some(1));
    let data = program.data().display().to_string();
    assert!(again.stderr.contains(&format!("cannot open the data directory {data}")), "{}", again.stderr);
    assert!(again.stderr.contains("is in use by another process"), "{}", again.stderr);
    drop(served);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_by_name() {
    let program = Program::new("");
    let mut served = program.serve().await;
    served.terminate();
    assert!(served.ended().await.success());
    let path = program.data().join("messages.sqlite");
    let mut database = std::fs::read(&path).unwrap();
    // The user version (SQLite file format §1.3).
    database[60..64].copy_from_slice(&9_999u32.to_be_bytes());
    std::fs::write(&path, &database).unwrap();
    let refused = run(&["serve", "--config", &program.configuration_file().display().to_string()]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let expected = format!("{} was written by a newer version of this program: its schema is 9999", path.display());
    assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), database, "nothing was changed");
}
