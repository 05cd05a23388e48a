//! TLS and WebSocket: what is encrypted, who is believed, what happens when certificates change, and clients that can be
//! reached on their own connections alone. `docs/attacks.md` has the table.

mod certificates;
mod flows;
mod media;
mod signalling;
mod web_sockets;
