//! What is in a WebAssembly file, and making components.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde::Serialize;
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Encoding, KnownCustom, Parser, Payload};
use wit_component::ComponentEncoder;

/// The package that policies are built for.
const PACKAGE: &str = "restante:policy/";

/// What a file says of itself.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Contents {
    /// What it imports, by name, the instances and functions.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Who made it: languages, compilers, tools, each with its version.
    pub producers: BTreeMap<String, Vec<String>>,
    /// Largest initial linear memory of its modules, in bytes.
    pub initial_memory_bytes: u64,
}

impl Contents {
    /// Reads a component's outermost imports and exports, and the producers of all that is in it.
    ///
    /// # Errors
    /// The bytes are broken.
    pub fn read(bytes: &[u8]) -> Result<Contents> {
        let mut contents = Contents::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { .. } => depth = depth.saturating_add(1),
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        let import = import?;
                        // Types are no imports of anything: they are names for what is in the instances.
                        if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                            contents.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        let export = export?;
                        if matches!(export.kind, ComponentExternalKind::Func | ComponentExternalKind::Instance) {
                            contents.exports.push(export.name.name.to_owned());
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let bytes = memory?.initial.saturating_mul(65_536);
                        contents.initial_memory_bytes = contents.initial_memory_bytes.max(bytes);
                    }
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Producers(fields) = section.as_known() {
                        contents.add_producers(fields)?;
                    }
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    /// The versions of the contract that it was built for; more than one is a mistake.
    pub fn contract_versions(&self) -> Vec<String> {
        let version = |name: &String| name.strip_prefix(PACKAGE)?.split_once('@').map(|(_, it)| it.to_owned());
        let mut versions: Vec<String> = self.imports.iter().chain(&self.exports).filter_map(version).collect();
        versions.sort();
        versions.dedup();
        versions
    }

    fn add_producers(&mut self, fields: wasmparser::ProducersSectionReader<'_>) -> Result<()> {
        for field in fields {
            let field = field?;
            let known = self.producers.entry(field.name.to_owned()).or_default();
            for value in field.values {
                let value = value?;
                let text = format!("{} {}", value.name, value.version).trim_end().to_owned();
                if !known.contains(&text) {
                    known.push(text);
                }
            }
        }
        Ok(())
    }
}

/// Whether this is WebAssembly and no component yet.
pub fn is_core_module(bytes: &[u8]) -> bool {
    let first = Parser::new(0).parse_all(bytes).next();
    matches!(first, Some(Ok(Payload::Version { encoding: Encoding::Module, .. })))
}

/// Makes a component of a core module that has the contract's types in it, as the bindings of wit-bindgen put them there.
///
/// # Errors
/// What the module lacks or has too much.
pub fn component_of(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| anyhow!("the core module cannot be made a component: {error:#}"))
}
