//! Components of `plugin/hostile/by-hand/policy.wat`, which says what its variants are.

use std::error::Error;
use std::fs;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, WorldId};

/// The text.
pub const SOURCE: &str = "hostile/by-hand/policy.wat";
/// Pages of memory and elements of the table where a variant is about something else.
const USUAL: (u32, u32) = (16, 1);

/// Files, with the number of the variant.
const VARIANTS: [(&str, u32); 20] = [
    ("harmless", 0),
    ("loop-in-start", 1),
    ("slow-start", 2),
    ("loop-in-allocation", 3),
    ("loop-in-late-allocation", 4),
    ("wild-allocation", 5),
    ("one-place-for-all", 6),
    ("table-bomb", 7),
    ("wild-log-line", 8),
    ("unknown-log-level", 9),
    ("not-a-number", 10),
    ("negative", 11),
    ("endless-log", 12),
    ("answer-outside", 13),
    ("answer-askew", 14),
    ("answer-unknown-case", 15),
    ("answer-long-text", 16),
    ("answer-not-text", 17),
    ("answer-long-list", 18),
    ("loop-after-answer", 19),
];
/// Files of the harmless variant, with pages of memory and elements of the table.
const SIZES: [(&str, (u32, u32)); 3] =
    [("vast-memory", (65_536, 1)), ("too-much-memory", (257, 1)), ("vast-table", (16, 10_000_000))];

/// Writes them all.
pub fn build(plugin: &Path, wit: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(plugin.join(SOURCE))?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("policy"))?;
    let variants = VARIANTS.map(|(name, variant)| (name, variant, USUAL));
    let sizes = SIZES.map(|(name, sizes)| (name, 0, sizes));
    for (name, variant, (pages, elements)) in variants.into_iter().chain(sizes) {
        let code = text.find("(module").and_then(|at| text.get(at..)).ok_or("no module")?;
        let module = code
            .replace("VARIANT", &variant.to_string())
            .replace("PAGES", &pages.to_string())
            .replace("ELEMENTS", &elements.to_string());
        let component = component(&module, &resolve, world).map_err(|error| format!("{SOURCE}, {name}: {error}"))?;
        fs::write(out.join(format!("{name}.wasm")), component)?;
    }
    Ok(())
}

fn component(module: &str, resolve: &Resolve, world: WorldId) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut module = wat::parse_str(module)?;
    wit_component::embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)?;
    Ok(ComponentEncoder::default().module(&module)?.validate(true).encode()?)
}
