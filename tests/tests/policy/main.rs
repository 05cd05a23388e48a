//! What `restante policy` does without a server.

mod cases;
mod files;
mod replays;
mod support;
mod trying;
