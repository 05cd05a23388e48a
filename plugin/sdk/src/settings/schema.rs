//! Settings against their schema, so that every problem is found and not the first only.
//!
//! What schemars writes for a type is read here and nothing more: types, properties, items, bounds, alternatives and
//! references. What else a schema can say is left to the type that reads the settings afterwards.

use serde_json::{Map, Value};

use super::problems::{Problems, push};

/// Types that refer to themselves end here.
const MAX_DEPTH: usize = 32;

/// Notes what does not fit.
pub(super) fn check(schema: &Value, value: &Value, problems: &mut Problems) {
    let checker = Checker { root: schema };
    checker.check(schema, value, &mut String::new(), problems, 0);
}

struct Checker<'a> {
    root: &'a Value,
}

impl<'a> Checker<'a> {
    fn check(&self, schema: &'a Value, value: &Value, pointer: &mut String, problems: &mut Problems, depth: usize) {
        let schema = self.resolved(schema);
        if depth > MAX_DEPTH {
            return problems.error(pointer, "expected something less deep");
        }
        if let Some(literals) = self.literals(schema) {
            if !literals.contains(&value) {
                problems.error(pointer, format!("expected {}", self.expected(schema)));
            }
            return;
        }
        if let Some(alternatives) = alternatives(schema) {
            return self.check_alternatives(schema, alternatives, value, pointer, problems, depth);
        }
        if !is_of_type(schema, value) || !is_within_bounds(schema, value) {
            return problems.error(pointer, format!("expected {}", self.expected(schema)));
        }
        match value {
            Value::Object(members) => self.check_members(schema, members, pointer, problems, depth),
            Value::Array(items) => {
                let first = schema["prefixItems"].as_array().map_or(&[][..], Vec::as_slice);
                for (index, item) in items.iter().enumerate() {
                    if let Some(kind) = first.get(index).or_else(|| schema.get("items")) {
                        self.check_part(kind, item, &index.to_string(), pointer, problems, depth);
                    }
                }
            }
            _ => {}
        }
    }

    fn check_part(
        &self,
        schema: &'a Value,
        value: &Value,
        name: &str,
        pointer: &mut String,
        problems: &mut Problems,
        depth: usize,
    ) {
        let length = pointer.len();
        push(pointer, name);
        self.check(schema, value, pointer, problems, depth.saturating_add(1));
        pointer.truncate(length);
    }

    fn check_members(
        &self,
        schema: &'a Value,
        members: &Map<String, Value>,
        pointer: &mut String,
        problems: &mut Problems,
        depth: usize,
    ) {
        let properties = schema["properties"].as_object();
        for (name, value) in members {
            let known = properties.and_then(|properties| properties.get(name));
            match known.or_else(|| schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => {
                    let names: Vec<_> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    let known = if names.is_empty() { "nothing".to_owned() } else { in_words(&names) };
                    let length = pointer.len();
                    push(pointer, name);
                    problems.error(pointer, format!("is not a setting; expected {known}"));
                    pointer.truncate(length);
                }
                Some(kind) => self.check_part(kind, value, name, pointer, problems, depth),
                None => {}
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                let kind = properties.and_then(|properties| properties.get(name)).unwrap_or(&Value::Null);
                let length = pointer.len();
                push(pointer, name);
                problems.error(pointer, format!("is missing; expected {}", self.expected(kind)));
                pointer.truncate(length);
            }
        }
    }

    /// One alternative has to fit. Where none does, what is wrong with the one that was probably meant.
    fn check_alternatives(
        &self,
        schema: &'a Value,
        alternatives: &'a [Value],
        value: &Value,
        pointer: &mut String,
        problems: &mut Problems,
        depth: usize,
    ) {
        let mut meant = None;
        for alternative in alternatives {
            let mut found = Problems::default();
            self.check(alternative, value, pointer, &mut found, depth.saturating_add(1));
            if !found.has_errors() {
                return;
            }
            if found.0.iter().all(|problem| problem.pointer.len() > pointer.len()) {
                meant = meant.or(Some(found));
            }
        }
        match meant {
            Some(found) => problems.0.extend(found.0),
            None => problems.error(pointer, format!("expected {}", self.expected(schema))),
        }
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        let place = schema["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
        place.and_then(|place| self.root.pointer(place)).unwrap_or(schema)
    }

    /// The values of an enumeration.
    fn literals(&self, schema: &'a Value) -> Option<Vec<&'a Value>> {
        if let Some(value) = schema.get("const") {
            return Some(vec![value]);
        }
        if let Some(values) = schema["enum"].as_array() {
            return Some(values.iter().collect());
        }
        let alternatives = alternatives(schema)?;
        let literals: Option<Vec<_>> =
            alternatives.iter().map(|alternative| self.literals(self.resolved(alternative))).collect();
        literals.map(|literals| literals.into_iter().flatten().collect())
    }

    /// What a schema expects, in words.
    fn expected(&self, schema: &'a Value) -> String {
        let schema = self.resolved(schema);
        if let Some(literals) = self.literals(schema) {
            let words: Vec<_> = literals.iter().map(ToString::to_string).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            return if words.len() == 1 { words.concat() } else { format!("one of {}", in_words(&words)) };
        }
        if let Some(alternatives) = alternatives(schema) {
            let words: Vec<_> = alternatives.iter().map(|alternative| self.expected(alternative)).collect();
            return words.join(" or ");
        }
        let words: Vec<_> = types(schema).map(|kind| type_in_words(kind, schema)).collect();
        if words.is_empty() { "something else".to_owned() } else { words.join(" or ") }
    }
}

fn alternatives(schema: &Value) -> Option<&[Value]> {
    ["oneOf", "anyOf"].iter().find_map(|name| schema[*name].as_array()).map(Vec::as_slice)
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let one = schema["type"].as_str();
    one.into_iter().chain(schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn is_of_type(schema: &Value, value: &Value) -> bool {
    let fits = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    schema.get("type").is_none() || types(schema).any(fits)
}

/// The least and the most of a number, a text's characters or a list's items.
fn bounds(kind: &str, schema: &Value) -> (Option<f64>, Option<f64>) {
    let named = |least: &str, most: &str| (schema[least].as_f64(), schema[most].as_f64());
    match kind {
        "integer" | "number" => {
            let (least, most) = named("minimum", "maximum");
            let of_type = match schema["format"].as_str() {
                Some("uint32") => Some(f64::from(u32::MAX)),
                Some("int32") => Some(f64::from(i32::MAX)),
                _ => None,
            };
            (least, most.or(of_type))
        }
        "string" => named("minLength", "maxLength"),
        "array" => named("minItems", "maxItems"),
        "object" => named("minProperties", "maxProperties"),
        _ => (None, None),
    }
}

fn is_within_bounds(schema: &Value, value: &Value) -> bool {
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let (kind, number) = match value {
        Value::Number(number) => ("number", number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => ("string", count(text.chars().count())),
        Value::Array(items) => ("array", count(items.len())),
        Value::Object(members) => ("object", count(members.len())),
        Value::Null | Value::Bool(_) => return true,
    };
    let (least, most) = bounds(kind, schema);
    least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
}

fn type_in_words(kind: &str, schema: &Value) -> String {
    let (noun, unit) = match kind {
        "integer" => ("a whole number", ""),
        "number" => ("a number", ""),
        "string" => ("a text", " characters"),
        "array" => ("a list", " items"),
        "object" => ("an object", " members"),
        "boolean" => return "true or false".to_owned(),
        other => return other.to_owned(),
    };
    match bounds(kind, schema) {
        (Some(least), Some(most)) if least == most => format!("{noun} of {most}{unit}"),
        (Some(least), Some(most)) => format!("{noun} from {least} to {most}{unit}"),
        (Some(least), None) => format!("{noun} of at least {least}{unit}"),
        (None, Some(most)) => format!("{noun} of at most {most}{unit}"),
        (None, None) => noun.to_owned(),
    }
}

fn in_words(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
