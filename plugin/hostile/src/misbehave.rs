//! What does not show in an answer.

use std::hint::black_box;

use crate::bindings::restante::policy::log::{Level, log};

/// Returns only from the behaviours that show in the answer, or nowhere.
pub fn misbehave(name: &str) {
    match name {
        "endless-loop" => loop {
            black_box(());
        },
        "burn-then-answer" => burn(),
        "memory-bomb" => memory_bomb(),
        "memory-touch" => memory_touch(),
        "trap" => core::arch::wasm32::unreachable(),
        "recursion" => {
            black_box(recurse(1));
        }
        "log-flood" => {
            for line in 0..10_000 {
                log(Level::Info, &format!("line {line}"));
            }
        }
        "log-long" => log(Level::Warning, &"x".repeat(60_000)),
        "log-control" => log(Level::Debug, "a\u{1b}[31m\r\nb\0c\u{202e}d"),
        _ => {}
    }
}

/// A few milliseconds of work.
fn burn() {
    let mut sum = 0_u64;
    for step in 0..10_000_000_u64 {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(step));
    }
}

/// Takes memory without using it.
fn memory_bomb() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
}

/// Takes as much memory as there is, and writes to all of it.
fn memory_touch() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1_u8; 1 << 16]));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth.wrapping_add(1)).wrapping_add(frame[depth as usize % 64])
}
