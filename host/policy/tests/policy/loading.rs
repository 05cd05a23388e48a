//! What is no policy is refused, and the refusal says what was expected.

use restante_policy::{LoadError, Loader, PolicyEngine, PolicyLimits};

use crate::support::{CORE_MODULE, HOSTILE, LOADER, abilities};

fn refusal(component: &[u8]) -> LoadError {
    match LOADER.load(component, "{}", &abilities()) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

/// A component of nothing but an import of an instance with this name and no content.
fn importing(name: &str) -> Vec<u8> {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    // Type section: one type, an instance type (0x42) of no declarations.
    component.extend([7, 3, 1, 0x42, 0]);
    let length = u8::try_from(name.len()).expect("a short name");
    // Import section: one import of this name, an instance (5) of type 0.
    component.extend([10, length + 5, 1, 0, length]);
    component.extend(name.as_bytes());
    component.extend([5, 0]);
    component
}

#[test]
fn an_unknown_import_is_refused_by_its_name() {
    let error = refusal(&importing("wasi:clocks/wall-clock@0.2.0"));
    assert!(matches!(&error, LoadError::UnknownImport(name) if name == "wasi:clocks/wall-clock@0.2.0"), "{error}");
    assert!(error.to_string().contains("restante:policy/log@0.1.0"));
}

#[test]
fn another_version_of_the_contract_is_named() {
    let error = refusal(&importing("restante:policy/log@0.2.0"));
    assert!(matches!(&error, LoadError::OtherVersion(name) if name == "restante:policy/log@0.2.0"), "{error}");
}

#[test]
fn a_component_of_another_world_is_told_what_it_lacks() {
    let error = refusal(b"\0asm\x0d\0\x01\0");
    assert!(matches!(&error, LoadError::MissingExports(names) if names.len() == 7), "{error}");
    assert!(error.to_string().contains("on-incoming"), "{error}");
}

#[test]
fn a_core_module_is_told_from_a_component() {
    assert!(matches!(refusal(CORE_MODULE), LoadError::CoreModule));
}

#[test]
fn what_is_no_webassembly_is_refused() {
    for bytes in [&b""[..], b"\0as", b"#!/bin/sh\n", b"(component)"] {
        assert!(matches!(refusal(bytes), LoadError::NotWebAssembly), "{bytes:?}");
    }
    assert!(matches!(refusal(b"\0asm\x0e\0\x01\0"), LoadError::Invalid(_)));
    assert!(matches!(refusal(b"\0asm"), LoadError::Invalid(_)));
}

#[test]
fn a_truncated_or_damaged_component_is_refused() {
    for length in [9, 100, HOSTILE.len() / 2, HOSTILE.len() - 1] {
        let error = refusal(&HOSTILE[..length]);
        assert!(matches!(error, LoadError::Invalid(_) | LoadError::MissingExports(_)), "{length}: {error}");
    }
}

#[test]
fn a_file_beyond_its_size_is_refused_before_it_is_read() {
    let huge = vec![0; (10 << 20) + 1];
    assert!(matches!(refusal(&huge), LoadError::TooLarge { size_bytes: 10_485_761, max_bytes: 10_485_760 }));
}

#[test]
fn more_memory_than_a_policy_may_have_is_refused() {
    let engine = PolicyEngine::new(PolicyLimits { max_memory_bytes: 64 << 10, ..PolicyLimits::default() }).unwrap();
    let loaded = Loader::new(engine, None).unwrap().load(HOSTILE, "{}", &abilities());
    assert!(matches!(loaded, Err(LoadError::OtherWorld(_) | LoadError::Invalid(_) | LoadError::CheckFailed(_))));
}

#[test]
fn tenants_share_the_code_of_one_component_and_not_their_settings() {
    let load = |settings| LOADER.load(HOSTILE, settings, &abilities()).unwrap().generation;
    let one = load(r#"{"behaviour": "good"}"#);
    let other = load(r#"{"behaviour": "err"}"#);
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.digest().len(), 64);
    assert_ne!(
        one.digest(),
        LOADER.load(restante_policy::standard::COMPONENT, "{}", &abilities()).unwrap().generation.digest()
    );
}

#[test]
fn the_standard_policy_describes_itself_and_its_settings() {
    let loaded = LOADER.load(restante_policy::standard::COMPONENT, "{}", &abilities()).unwrap();
    let description = loaded.generation.description();
    assert_eq!((description.name.as_str(), description.version.as_str()), ("standard", env!("CARGO_PKG_VERSION")));
    let schema = description.settings_schema.as_deref().expect("a schema");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    assert_eq!(schema["properties"]["few"]["default"], 3);
}

#[test]
fn the_standard_policy_imports_nothing_but_the_log() {
    // Every name in a component is there as it is written: a second look at what `load` checks.
    let text = String::from_utf8_lossy(restante_policy::standard::COMPONENT);
    assert!(!text.contains("wasi:"));
    assert!(text.contains("restante:policy/"));
}
