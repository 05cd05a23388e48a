//! Compiling in a process of its own.
//!
//! A component may be made so that compiling it takes minutes, or all memory; and even an honest one takes some hundred
//! milliseconds of a core that serves somebody. So a server has itself started again for it: with the lowest priority,
//! with bounds that the kernel enforces, and killed when its time is up.
//!
//! ```text
//! server ──component──▶ stdin  [child: limits itself, compiles]  stdout ──machine code──▶ server
//! ```
//!
//! The child is the same program, so what it returns is as trustworthy as what this process would have compiled.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine::{PolicyEngine, compiler_configuration};
use crate::limits::PolicyLimits;
use crate::load::LoadError;
use crate::log::harmless;

/// The largest machine code that is taken. A component of 10 MiB makes some 40 MiB of it.
const MAX_CODE_BYTES: u64 = 256 << 20;
/// The longest complaint of a child.
const MAX_COMPLAINT_BYTES: u64 = 4096;
/// The least that a process can ask for.
const LOWEST_PRIORITY: i32 = 19;

/// How a server compiles.
#[derive(Clone, Debug)]
pub struct ChildCompiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments: they must lead to [`compile_for_parent`].
    pub arguments: Vec<OsString>,
    /// How long compiling may take.
    pub deadline: Duration,
    /// How much memory it may take, in bytes of address space.
    pub max_memory_bytes: u64,
}

impl ChildCompiler {
    /// Compiles a component.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] with what is wrong with it, [`LoadError::CompilerStopped`] when it takes too much.
    pub(crate) fn compile(&self, component: &[u8], engine: &PolicyEngine) -> Result<Vec<u8>, LoadError> {
        let stopped = |why: String| LoadError::CompilerStopped(why);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(self.max_memory_bytes.to_string());
        command.args([engine.reserved_bytes().to_string(), engine.limits().max_stack_bytes.to_string()]);
        command.arg(self.deadline.as_secs().saturating_add(1).to_string());
        command.arg(u8::from(engine.is_metering()).to_string()).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| stopped(format!("the compiler cannot be started: {error}")))?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(stopped("the compiler has no pipes".to_owned()));
        };
        let (ended, is_ended) = channel::<()>();
        let (code, complaint, timed_out) = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A child that ended early says itself why.
                let _ = stdin.write_all(component);
            });
            let complaint = scope.spawn(|| bounded(stderr, MAX_COMPLAINT_BYTES));
            let watched = &mut child;
            let watch = scope.spawn(move || match is_ended.recv_timeout(self.deadline) {
                Err(RecvTimeoutError::Timeout) => kill(watched),
                _ => false,
            });
            let code = bounded(stdout, MAX_CODE_BYTES);
            drop(ended);
            (code, complaint.join(), watch.join().unwrap_or(false))
        });
        let status = child.wait().map_err(|error| stopped(error.to_string()))?;
        if timed_out {
            return Err(stopped(format!("it takes longer than {} s", self.deadline.as_secs())));
        }
        let complaint = complaint.ok().and_then(Result::ok).unwrap_or_default();
        let complaint = harmless(String::from_utf8_lossy(&complaint).trim(), 400);
        match (status.code(), code) {
            (Some(0), Ok(code)) => Ok(code),
            (Some(REFUSED), _) => Err(LoadError::Invalid(complaint)),
            (_, Err(error)) => Err(stopped(error.to_string())),
            _ => Err(stopped(format!("it takes more memory or time than it may ({status}) {complaint}"))),
        }
    }
}

/// What a child of this program compiled, ready to run; an error when this engine has no room for it, which the child, that
/// runs nothing, does not see.
#[allow(unsafe_code)]
pub(crate) fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: these bytes must be what `Engine::precompile_component` gave. They came through a pipe from this very program,
    // which writes nothing else.
    unsafe { Component::deserialize(engine, code) }
}

/// The component cannot be compiled; stderr says why.
const REFUSED: i32 = 3;

/// What the child does: bounds itself, reads a component from stdin, writes its compiled form to stdout. Returns the exit
/// code.
///
/// `arguments` are those that [`ChildCompiler`] adds.
#[must_use]
pub fn compile_for_parent(arguments: &[u64; 5]) -> i32 {
    let [max_memory_bytes, reserved_bytes, max_stack_bytes, max_seconds, is_metering] = *arguments;
    match bound_this_process(max_memory_bytes, max_seconds).and_then(|()| read_all(io::stdin())) {
        Err(error) => complain(2, &error.to_string()),
        Ok(component) => {
            let limits = PolicyLimits {
                max_stack_bytes: usize::try_from(max_stack_bytes).unwrap_or(usize::MAX),
                ..PolicyLimits::default()
            };
            let mut configuration = compiler_configuration(&limits, reserved_bytes);
            configuration.consume_fuel(is_metering != 0);
            let compiled = Engine::new(&configuration).and_then(|engine| engine.precompile_component(&component));
            match compiled {
                Ok(code) => match io::stdout().write_all(&code) {
                    Ok(()) => 0,
                    Err(error) => complain(2, &error.to_string()),
                },
                Err(error) => complain(REFUSED, &format!("{error:#}")),
            }
        }
    }
}

/// Nothing that is compiled here takes what the server needs, nor outlives it.
fn bound_this_process(max_memory_bytes: u64, max_seconds: u64) -> io::Result<()> {
    let both = |bound| Rlimit { current: Some(bound), maximum: Some(bound) };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    rustix::process::setpriority_process(None, LOWEST_PRIORITY)?;
    rustix::process::setrlimit(Resource::As, both(max_memory_bytes))?;
    rustix::process::setrlimit(Resource::Cpu, both(max_seconds))?;
    rustix::process::setrlimit(Resource::Core, both(0))?;
    rustix::process::setrlimit(Resource::Fsize, both(0))?;
    Ok(())
}

fn read_all(mut from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).map(|_| bytes)
}

fn complain(code: i32, text: &str) -> i32 {
    let _ = writeln!(io::stderr(), "{text}");
    code
}

fn bounded(from: impl io::Read, max_bytes: u64) -> io::Result<Vec<u8>> {
    let bytes = read_all(from.take(max_bytes.saturating_add(1)))?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::other("it makes more machine code than a policy may have"));
    }
    Ok(bytes)
}

fn kill(child: &mut Child) -> bool {
    child.kill().is_ok()
}
