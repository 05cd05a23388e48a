//! `restante policy`

pub mod live;
mod source;
