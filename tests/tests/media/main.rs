//! Where MSRP goes: by name, through middleboxes and relays.

mod middleboxes;
mod names;
mod relay_client;
mod web_auth;
mod web_relay;
