//! Components that are made to be hard to read or to compile.

use std::time::{Duration, Instant};

use restante_policy::record::typical_question;
use restante_policy::{Hook, LoadError, decide};

use crate::support::{HASTY, LOADER, abilities};

/// The stories use the others.
#[allow(dead_code)]
#[path = "../../../../tests/src/bytes_of_components.rs"]
mod bytes;

fn refusal(component: &[u8]) -> (LoadError, Duration) {
    let began = Instant::now();
    match LOADER.load(component, "{}", &abilities()) {
        Ok(_) => panic!("it was taken"),
        Err(error) => (error, began.elapsed()),
    }
}

#[test]
fn imports_of_what_no_policy_gets_are_refused_by_name() {
    for name in [
        "wasi:cli/environment@0.2.0",
        "wasi:clocks/wall-clock@0.2.0",
        "wasi:filesystem/types@0.2.3",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:random/random@0.2.0",
        "wasi:sockets/tcp@0.2.0",
        "restante:policy/store@0.1.0",
        "network",
    ] {
        let (error, _) = refusal(&bytes::importing(name));
        assert!(matches!(&error, LoadError::UnknownImport(import) if import == name), "{name}: {error}");
    }
    for name in ["restante:policy/log@0.1.1", "restante:policy/log@0.2.0", "restante:policy/types@1.0.0"] {
        let (error, _) = refusal(&bytes::importing(name));
        assert!(matches!(&error, LoadError::OtherVersion(version) if version == name), "{name}: {error}");
    }
}

#[test]
fn types_that_grow_with_each_line_are_refused_in_no_time() {
    for (name, component) in [("deep", bytes::deep_types(1_000)), ("wide", bytes::doubling_types(60))] {
        let (error, took) = refusal(&component);
        assert!(matches!(error, LoadError::Invalid(_)), "{name}: {error}");
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
    }
}

#[test]
fn deep_blocks_are_compiled_and_lead_nowhere() {
    let (error, took) = refusal(&bytes::with_module(&bytes::deep_blocks(50_000)));
    assert!(matches!(error, LoadError::MissingExports(_) | LoadError::Invalid(_)), "{error}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_component_cut_anywhere_is_refused_or_lacks_nothing_but_its_last_remarks() {
    let whole = crate::support::by_hand("harmless");
    let mut taken = Vec::new();
    for length in 0..whole.len() {
        match LOADER.load(&whole[..length], "{}", &abilities()) {
            Ok(loaded) => taken.push((length, loaded.generation.description().name.clone())),
            Err(LoadError::NotWebAssembly | LoadError::Invalid(_) | LoadError::MissingExports(_)) => {}
            Err(error) => panic!("{length}: {error}"),
        }
    }
    // Who made it is said behind everything else, in sections of their own: nothing but those may be missing.
    assert!(taken.iter().all(|(length, _)| is_all_remarks(&whole[*length..])), "{taken:?}");
    assert!(taken.iter().all(|(length, name)| *length > whole.len() / 2 && name == "by-hand"), "{taken:?}");
}

/// Whether these are whole custom sections, one after the other (id 0, size in LEB128), and nothing else.
fn is_all_remarks(mut rest: &[u8]) -> bool {
    while let [0, behind @ ..] = rest {
        let Some(last) = behind.iter().take(5).position(|byte| byte & 0x80 == 0) else { return false };
        let size = behind[..=last].iter().rev().fold(0_usize, |size, byte| (size << 7) | usize::from(byte & 0x7f));
        let Some(next) = behind.get(last + 1 + size..) else { return false };
        rest = next;
    }
    rest.is_empty()
}

#[test]
fn a_component_with_a_flipped_bit_is_refused_or_bounded_as_any_other() {
    let whole = crate::support::by_hand("harmless");
    let mut refused = 0;
    for at in (8..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        match HASTY.load(&damaged, "{}", &abilities()) {
            Ok(loaded) => {
                // Whatever it is now, it comes to an end.
                let _ = decide(&loaded.generation, typical_question(Hook::Incoming).unwrap());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 20, "{refused}");
}
