//! Where MSRP goes: by name, through middleboxes and relays.

mod middleboxes;
mod names;
mod relay_client;
mod support;
mod web_relay;
