//! Whatever is counted as dropped has its reason in the operator's table, and is counted from the start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use restante::metrics::DROP_REASONS;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(std::fs::read_to_string(&path).expect("text"));
        }
    }
}

/// The texts between quotes up to the end of a call that begins there.
fn quoted(call: &str) -> Vec<&str> {
    let mut depth = 0i32;
    let end = call.find(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth < 0
    });
    call[..end.unwrap_or(call.len())].split('"').skip(1).step_by(2).collect()
}

#[test]
fn every_reason_for_dropping_something_is_in_the_operators_table() {
    let mut files = Vec::new();
    sources(&root().join("host/restante/src"), &mut files);
    let mut reasons = BTreeSet::new();
    for text in &files {
        for call in ["count_dropped(", "turn_away("] {
            text.split(call).skip(1).for_each(|rest| reasons.extend(quoted(rest)));
        }
    }
    assert!(
        reasons.len() > 15 && reasons.contains("shard-busy") && reasons.contains("too-many-recipients"),
        "{reasons:?}"
    );
    assert_eq!(reasons, DROP_REASONS.into_iter().collect(), "what is counted, and what begins at zero");
    let guide = std::fs::read_to_string(root().join("docs/operating.md")).expect("the guide");
    let (_, table) = guide.split_once("The `reason` of dropped input").expect("the table");
    let (table, _) = table.split_once("What the sockets count").expect("what follows the table");
    let told: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.split('`'))
        .filter(|part| part.contains('-') && !part.contains(' '))
        .collect();
    let untold: Vec<_> = reasons.difference(&told).collect();
    assert!(untold.is_empty(), "not in the table: {untold:?}");
    let unknown: Vec<_> = told.difference(&reasons).collect();
    assert!(unknown.is_empty(), "in the table and nowhere else: {unknown:?}");
}
