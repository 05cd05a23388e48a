//! As an application server behind an S-CSCF.

mod deliveries;
mod registrations;
mod scscf;
mod served_users;
