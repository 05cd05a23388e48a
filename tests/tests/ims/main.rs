//! As an application server behind an S-CSCF.

mod contract;
mod deliveries;
mod registration_events;
mod registrations;
mod scscf;
mod served_users;
