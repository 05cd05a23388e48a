//! Stories told against the machine with a made-up clock: a day of retries runs in milliseconds.

mod simulator;

mod arrivals;
mod availability;
mod each;
mod expiry;
mod failures;
mod hand_over;
mod held_back;
mod operator;
mod progress;
mod properties;
mod pull;
mod relay;
mod restart;
mod times;
mod window;
