//! Components that are made so that compiling them takes for ever, or all memory, or more stack than there is: a process of
//! its own has them, and is ended.

use std::time::{Duration, Instant};

use restante_deferral::decision::HostAbilities;
use restante_policy::{ChildCompiler, LoadError, Loader, PolicyEngine, PolicyLimits};
use restante_tests::{Program, binary, bytes_of_components as bytes, guest, run, until};

/// For what ends by its time.
const SECONDS: u64 = 3;
/// For what ends some other way, also on a busy machine.
const PATIENT_SECONDS: u64 = 60;
/// What is said of a compiler whose time is up: by who watches it, or where it used up its time of a core before.
const TOO_LATE: [&str; 2] = ["it takes longer than", "it takes more memory or time than it may"];
const MEBIBYTES: u64 = 1 << 20;

fn loader(seconds: u64, max_memory_bytes: u64) -> Loader {
    let compiler = ChildCompiler {
        program: binary(),
        arguments: vec![restante::cli::COMPILE_POLICY.into()],
        deadline: Duration::from_secs(seconds),
        max_memory_bytes,
    };
    let engine = PolicyEngine::new(PolicyLimits::default()).expect("an engine");
    Loader::new(engine, None).expect("a loader").compiling_in(compiler)
}

/// What it says, and how long that took.
fn refusal(loader: &Loader, component: &[u8]) -> (LoadError, Duration) {
    let host = HostAbilities { max_page_bytes: 1_300, max_message_bytes: 1 << 30, hand_over_targets: Vec::new() };
    let began = Instant::now();
    match loader.load(component, "{}", &host) {
        Ok(_) => panic!("it was taken"),
        Err(error) => (error, began.elapsed()),
    }
}

/// As large as a component may be.
fn slow() -> Vec<u8> {
    let slow = bytes::with_module(&bytes::slow_to_compile(110));
    let limits = PolicyLimits::default();
    assert!((limits.max_component_bytes * 3 / 4..limits.max_component_bytes).contains(&slow.len()), "{}", slow.len());
    slow
}

#[test]
fn what_compiles_for_minutes_is_stopped_when_its_time_is_up() {
    let (error, took) = refusal(&loader(SECONDS, 2048 * MEBIBYTES), &slow());
    assert!(matches!(error, LoadError::CompilerStopped(_)), "{error}");
    assert!(TOO_LATE.iter().any(|said| error.to_string().contains(*said)), "{error}");
    assert!(took >= Duration::from_secs(SECONDS), "not before: {took:?}");
    assert!(took < Duration::from_secs(SECONDS + 30), "not minutes: {took:?}");
}

#[test]
fn what_needs_more_memory_than_a_compiler_may_have_is_stopped() {
    let (error, _) = refusal(&loader(PATIENT_SECONDS, 48 * MEBIBYTES), &slow());
    assert!(matches!(error, LoadError::CompilerStopped(_)), "{error}");
    assert!(error.to_string().contains("more memory or time than it may"), "{error}");
}

#[test]
fn deep_nesting_ends_nobody_but_the_compiler() {
    let loader = loader(SECONDS, 2048 * MEBIBYTES);
    for (name, component) in [
        ("components in components", bytes::nested_components(5_000)),
        ("blocks in blocks", bytes::with_module(&bytes::deep_blocks(1_000_000))),
        ("lists of lists", bytes::deep_types(100_000)),
        ("pairs of pairs", bytes::doubling_types(100_000)),
    ] {
        let (error, _) = refusal(&loader, &component);
        let expected =
            matches!(error, LoadError::Invalid(_) | LoadError::CompilerStopped(_) | LoadError::MissingExports(_));
        assert!(expected, "{name}: {error}");
    }
}

#[test]
fn what_begins_with_more_than_a_policy_may_have_is_told_so() {
    let loader = loader(PATIENT_SECONDS, 2048 * MEBIBYTES);
    for name in ["vast-memory", "vast-table"] {
        let (error, _) = refusal(&loader, &std::fs::read(guest(name)).expect("a component"));
        assert!(matches!(&error, LoadError::Invalid(why) if why.contains("exceeds the limit")), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_running_server_refuses_both_and_serves_on() {
    // What it begins with takes its time on a busy machine, and is compiled before there is so little of it.
    let program = Program::new("");
    let mut first = program.serve().await;
    first.terminate();
    assert!(first.ended().await.success());
    let base = std::fs::read_to_string(program.configuration_file()).expect("the configuration");
    program.configure(&format!("{base}[limits]\nmax_compile_seconds = {SECONDS}\n"));
    let served = program.serve().await;
    let before = served.peak_memory_bytes();
    let place = tempfile::tempdir().expect("a directory");
    let slow_file = place.path().join("slow.wasm");
    std::fs::write(&slow_file, slow()).expect("a file");
    let huge_file = place.path().join("huge.wasm");
    let huge = std::fs::File::create(&huge_file).expect("a file");
    huge.set_len(200 * MEBIBYTES).expect("a file with a hole");
    let huge_answers = ["at most 10485760 bytes", "may be larger than it takes", "at most 67108864 are read"];
    for (file, expected) in [(&slow_file, &TOO_LATE[..]), (&huge_file, &huge_answers)] {
        let finished = program.ask(&["policy", "activate", "example", &file.display().to_string()]);
        let said = |text: &&str| finished.stderr.contains(*text);
        assert!(!finished.status.success() && expected.iter().any(said), "{finished:?}");
    }
    // A client that does not look at the size before it sends.
    let socket = program.data().join("admin.sock").display().to_string();
    let posted = post(&socket, 200 * MEBIBYTES);
    assert_eq!(posted.unwrap_or(413), 413);
    let more = served.peak_memory_bytes() - before;
    assert!(more < 64 * MEBIBYTES, "{more} bytes more");
    let status = program.ask(&["policy", "status", "example"]);
    assert!(status.status.success(), "{status:?}");
    assert!(run(&["policy", "inspect", &huge_file.display().to_string()]).status.code().is_some_and(|code| code != 0));
}

#[tokio::test]
async fn a_server_that_compiles_for_minutes_ends_when_it_is_asked_to() {
    let program = Program::new("[limits]\nmax_compile_seconds = 600\n");
    let place = tempfile::tempdir().expect("a directory");
    let slow_file = place.path().join("slow.wasm");
    std::fs::write(&slow_file, slow()).expect("a file");
    let mut served = program.serve().await;
    let base = std::fs::read_to_string(program.configuration_file()).expect("the configuration");
    program.configure(&format!("{base}[tenants.slow]\ndomains = [\"slow.example\"]\npolicy = {slow_file:?}\n"));
    served.hang_up();
    until("it reads its configuration again", || served.compiles()).await;
    served.terminate();
    assert_eq!(served.ended().await.code(), Some(0));
    // With the policy that is compiled already it would serve long since.
    let mut starting = program.begin();
    until("it starts", || starting.compiles()).await;
    starting.terminate();
    starting.line_with("stopped during startup").await;
    assert_eq!(starting.ended().await.code(), Some(0));
}

/// Uploads so many bytes; the status, if there was one before the connection was closed.
fn post(socket: &str, size: u64) -> Option<u16> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("a connection");
    let head = "POST /components HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("a request begins");
    let block = [b'x'; 1 << 16];
    for _ in 0..size / block.len() as u64 {
        let chunk = [format!("{:x}\r\n", block.len()).as_bytes(), &block, b"\r\n"].concat();
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok())
}
