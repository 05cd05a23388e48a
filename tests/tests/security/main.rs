//! Who may do what, and what those meet who may not. `docs/attacks.md` has the table.

mod client;
mod commands;
mod crowding;
mod digest;
mod garbage;
mod identities;
mod passwords;
mod variants;
