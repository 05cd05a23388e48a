//! The command line.

pub(crate) mod admin_client;
mod client;
mod demo;
pub mod output;
mod password;
mod policy;
mod progress;
mod queue;
mod serve;
pub(crate) mod table;
mod tenant;
mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Keeps SIP messages for people who are away and delivers them when they are back.
#[derive(Debug, Parser)]
#[command(name = "restante", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What [`Command::CompilePolicy`] is called on the command line.
pub const COMPILE_POLICY: &str = "compile-policy";

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile a policy from stdin to stdout, for a server that started this.
    #[command(name = COMPILE_POLICY, hide = true)]
    CompilePolicy {
        #[arg(num_args = 5, required = true)]
        bounds: Vec<u64>,
    },
    /// Run the server.
    Serve(serve::Arguments),
    /// Demonstrate deferred delivery with a server and clients on loopback, and show their messages.
    Demo(demo::Arguments),
    /// Send and receive messages by hand.
    Client {
        #[command(subcommand)]
        command: client::Command,
    },
    /// List, show and discard waiting messages.
    Queue {
        #[command(subcommand)]
        command: queue::Command,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Create, test, compare and activate policies.
    Policy {
        #[command(subcommand)]
        command: policy::Command,
    },
    /// List, show, add, change and remove tenants.
    Tenant {
        #[command(subcommand)]
        command: tenant::Command,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Show and change users' preferences and passwords.
    User {
        #[command(subcommand)]
        command: user::Command,
        #[command(flatten)]
        server: RunningServer,
    },
}

/// Names the socket of the server that commands ask.
const SOCKET_VARIABLE: &str = "RESTANTE_SOCKET";
/// Where it is otherwise: in the default data directory.
const DEFAULT_SOCKET: &str = "restante-data/admin.sock";

/// Which running server to ask.
#[derive(Args, Debug)]
pub struct RunningServer {
    /// Unix socket of the server; by default that of the environment variable RESTANTE_SOCKET, else
    /// restante-data/admin.sock.
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// Ask over TCP instead: http://HOST:PORT
    #[arg(long, value_name = "URL", global = true, requires = "token_file")]
    url: Option<String>,
    /// File with the bearer token for `--url`.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

impl RunningServer {
    /// The one with this Unix socket.
    pub(crate) fn at(socket: &Path) -> RunningServer {
        RunningServer { socket: Some(socket.to_owned()), url: None, token_file: None, json: false }
    }

    /// Where it is asked, unless over TCP. The environment is read here, and not by clap, for which `--url` would
    /// conflict with it.
    fn socket(&self) -> PathBuf {
        let of_environment = || std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        self.socket.clone().or_else(of_environment).unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
    }
}

fn compile_policy(bounds: &[u64]) -> anyhow::Result<ExitCode> {
    let bounds = <&[u64; 5]>::try_from(bounds)?;
    let code = restante_policy::compile_for_parent(bounds);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::CompilePolicy { bounds } => compile_policy(&bounds),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Client { command } => client::run(command),
        Command::Queue { command, server } => queue::run(command, &server),
        Command::Policy { command } => policy::run(command),
        Command::Tenant { command, server } => tenant::run(command, &server),
        Command::User { command, server } => user::run(command, &server),
    };
    match result {
        Ok(code) => code,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("restante: {error:#}");
            ExitCode::FAILURE
        }
    }
}
