//! Clients that this project did not write register, are sent what waited for them, and show it; and a dissector that it did
//! not write reads what it sends.

mod baresip;
mod browser;
mod captures;
mod foreign;
mod linphone;
mod pjsua;
