//! How two policies compare, for a terminal: what `restante_policy::record::Comparison` says in JSON.

use serde_json::Value;

use super::subject::grouped;
use crate::cli::output::{say, write};
use crate::cli::table::{harmless, table};

/// The counts by hook, then the differences.
pub fn show(report: &Value) {
    show_counts(report);
    let number = |name| report.get(name).and_then(Value::as_u64).unwrap_or(0);
    say!(
        "asked {} times, not asked {} times; {} µs each",
        grouped(number("asked")),
        grouped(number("skipped")),
        grouped(number("micros").checked_div(number("asked")).unwrap_or(0))
    );
    show_groups(report);
}

/// The counts by hook.
pub fn show_counts(report: &Value) {
    let row = |name: &str, counts: &Value| {
        let keys = ["identical", "changed", "newly_undecided", "newly_decided", "not_comparable"];
        let counts = keys.map(|key| grouped(counts.get(key).and_then(Value::as_u64).unwrap_or(0)));
        std::iter::once(name.to_owned()).chain(counts).collect::<Vec<_>>()
    };
    let hooks = report.get("hooks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut rows: Vec<_> = hooks.iter().map(|hook| row(text(hook, "hook"), hook)).collect();
    if rows.len() != 1 {
        rows.push(row("all", report.get("total").unwrap_or(&Value::Null)));
    }
    let head = ["hook", "identical", "changed", "newly undecided", "newly decided", "not comparable"];
    write(format_args!("{}", table(&head, &rows)));
}

/// The differences, the most frequent kind first, with examples.
pub fn show_groups(report: &Value) {
    for group in report.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let count = group.get("count").and_then(Value::as_u64).unwrap_or(0);
        say!("");
        say!("{} × {}: {}", grouped(count), text(group, "hook"), harmless(text(group, "change")));
        for example in group.get("examples").and_then(Value::as_array).into_iter().flatten() {
            for (name, key) in
                [("context", "context"), ("input  ", "input"), ("before ", "before"), ("after  ", "after")]
            {
                let value = example.get(key).map(ToString::to_string).unwrap_or_default();
                say!("  {name}  {}", harmless(&value));
            }
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}
