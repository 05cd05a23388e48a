//! TLS: what is encrypted, who is believed, and what happens when certificates change. `docs/attacks.md` has the table.

mod certificates;
mod media;
mod signalling;
