//! The JSON of questions and answers, held against `wit/policy.wit` itself.

use std::collections::BTreeSet;
use std::path::Path;

use restante_deferral::decision::{Answer, Question};
use restante_policy::Hook;
use restante_policy::record::{read_question, typical_question, typical_question_json, write_answer, write_question};
use serde_json::Value;
use wit_parser::{InterfaceId, Resolve, Type, TypeDefKind};

use crate::any::Dice;

/// Parts of `context` that belong to the policy's generation and not to a question.
const NOT_IN_QUESTIONS: [&str; 2] = ["settings", "host"];

/// The contract, and which of its names were seen.
struct Contract {
    resolve: Resolve,
    types: InterfaceId,
    seen: BTreeSet<String>,
}

impl Contract {
    fn read() -> Contract {
        let mut resolve = Resolve::new();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let (package, _) = resolve.push_dir(&directory).expect("the contract");
        let types = resolve.packages[package].interfaces["types"];
        Contract { resolve, types, seen: BTreeSet::new() }
    }

    fn named(&self, name: &str) -> Type {
        Type::Id(self.resolve.interfaces[self.types].types[name])
    }

    /// Holds a value to a type; says where it does not fit.
    fn check(&mut self, place: &str, kind: &Type, value: &Value) {
        let fits = match kind {
            Type::Bool => value.is_boolean(),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => value.is_u64(),
            Type::S16 => value.is_i64(),
            Type::String => value.is_string(),
            Type::Id(id) => {
                let definition = self.resolve.types[*id].clone();
                return self.check_definition(place, &definition, value);
            }
            other => panic!("{place}: {other:?} is in no question"),
        };
        assert!(fits, "{place}: {value} is no {kind:?}");
    }

    fn check_definition(&mut self, place: &str, definition: &wit_parser::TypeDef, value: &Value) {
        let name = definition.name.clone().unwrap_or_default();
        match &definition.kind {
            TypeDefKind::Type(kind) => self.check(place, kind, value),
            TypeDefKind::Option(_) if value.is_null() => {}
            TypeDefKind::Option(kind) => self.check(place, kind, value),
            TypeDefKind::List(kind) => {
                for value in value.as_array().unwrap_or_else(|| panic!("{place}: {value} is no list")) {
                    self.check(&format!("{place}[]"), kind, value);
                }
            }
            TypeDefKind::Record(record) => {
                let object = value.as_object().unwrap_or_else(|| panic!("{place}: {value} is no record"));
                for key in object.keys() {
                    assert!(record.fields.iter().any(|field| field.name == *key), "{place}.{key} is not in {name}");
                }
                for field in &record.fields {
                    if name == "context" && NOT_IN_QUESTIONS.contains(&field.name.as_str()) {
                        assert_eq!(object.get(&field.name), None);
                        continue;
                    }
                    let is_option = matches!(field.ty, Type::Id(id) if matches!(self.resolve.types[id].kind, TypeDefKind::Option(_)));
                    match object.get(&field.name) {
                        Some(value) => {
                            self.seen.insert(format!("{name}.{}", field.name));
                            self.check(&format!("{place}.{}", field.name), &field.ty, value);
                        }
                        None => assert!(is_option, "{place} has no {}", field.name),
                    }
                }
            }
            TypeDefKind::Enum(cases) => {
                let case = value.as_str().unwrap_or_else(|| panic!("{place}: {value} is no {name}"));
                assert!(cases.cases.iter().any(|known| known.name == case), "{place}: {case} is not in {name}");
                self.seen.insert(format!("{name}.{case}"));
            }
            TypeDefKind::Flags(flags) => {
                for flag in value.as_array().unwrap_or_else(|| panic!("{place}: {value} is no list of names")) {
                    let flag = flag.as_str().expect("a name");
                    assert!(flags.flags.iter().any(|known| known.name == flag), "{place}: {flag} is not in {name}");
                    self.seen.insert(format!("{name}.{flag}"));
                }
            }
            TypeDefKind::Variant(variant) => {
                let (case, payload) = match value {
                    Value::String(case) => (case.clone(), None),
                    Value::Object(object) if object.len() == 1 => {
                        let (case, payload) = object.iter().next().expect("one");
                        (case.clone(), Some(payload))
                    }
                    other => panic!("{place}: {other} is no {name}"),
                };
                let known = variant.cases.iter().find(|known| known.name == case);
                let known = known.unwrap_or_else(|| panic!("{place}: {case} is not in {name}"));
                self.seen.insert(format!("{name}.{case}"));
                match (&known.ty, payload) {
                    (Some(kind), Some(payload)) => self.check(&format!("{place}.{case}"), kind, payload),
                    (None, None) => {}
                    _ => panic!("{place}: {case} has another payload"),
                }
            }
            other => panic!("{place}: {other:?} is in no question"),
        }
    }

    /// Every name of the types that questions and answers consist of, settings apart.
    fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (name, id) in &self.resolve.interfaces[self.types].types {
            let parts: Vec<String> = match &self.resolve.types[*id].kind {
                TypeDefKind::Record(record) => record.fields.iter().map(|field| field.name.clone()).collect(),
                TypeDefKind::Enum(it) => it.cases.iter().map(|case| case.name.clone()).collect(),
                TypeDefKind::Flags(flags) => flags.flags.iter().map(|flag| flag.name.clone()).collect(),
                TypeDefKind::Variant(variant) => variant.cases.iter().map(|case| case.name.clone()).collect(),
                _ => Vec::new(),
            };
            names.extend(parts.into_iter().map(|part| format!("{name}.{part}")));
        }
        let is_asked = |name: &String| {
            let kind = name.split('.').next().unwrap_or_default();
            let is_of_settings =
                ["severity", "problem", "checked-settings", "described", "description"].contains(&kind);
            let is_of_generation = kind == "context" && NOT_IN_QUESTIONS.iter().any(|it| name.ends_with(it));
            !is_of_settings && !is_of_generation
        };
        names.into_iter().filter(is_asked).collect()
    }
}

fn types_of(hook: Hook) -> (&'static str, &'static str) {
    match hook {
        Hook::Incoming => ("incoming", "incoming-answer"),
        Hook::Available => ("availability", "plan"),
        Hook::Pull => ("pull", "pull-answer"),
        Hook::Failure => ("failure", "failure-answer"),
        Hook::Expiry => ("expiring-message", "expiry-answer"),
    }
}

/// Holds one value, or a list of them where the hook takes or gives a list.
fn check(contract: &mut Contract, place: &str, kind: &str, value: &Value) {
    let kind = contract.named(kind);
    match value {
        Value::Array(values) => values.iter().for_each(|value| contract.check(place, &kind, value)),
        value => contract.check(place, &kind, value),
    }
}

fn check_question(contract: &mut Contract, question: &Question) {
    let (context, input) = write_question(question);
    check(contract, "context", "context", &context);
    check(contract, "input", types_of(Hook::of(question)).0, &input);
    assert_eq!(read_question(Hook::of(question), context, input).as_ref(), Ok(question));
}

#[test]
fn questions_and_answers_read_exactly_like_the_contract() {
    let mut contract = Contract::read();
    let mut state = 1_u64;
    let mut chance = || {
        (0..1_500)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u8::try_from(state >> 56).unwrap()
            })
            .collect::<Vec<u8>>()
    };
    for _ in 0..2_000 {
        let mut dice = Dice::new(chance());
        check_question(&mut contract, &dice.question());
        let answer = dice.answer();
        let hook = match answer {
            Answer::Incoming(_) => Hook::Incoming,
            Answer::Available(_) => Hook::Available,
            Answer::Pull(_) => Hook::Pull,
            Answer::Failure(_) => Hook::Failure,
            Answer::Expiry(_) => Hook::Expiry,
        };
        check(&mut contract, "answer", types_of(hook).1, &write_answer(&answer));
        check(&mut contract, "host", "host-abilities", &serde_json::to_value(dice.host()).unwrap());
    }
    let unseen: Vec<_> = contract.names().difference(&contract.seen).cloned().collect();
    assert!(unseen.is_empty(), "nothing in the JSON for {unseen:?}");
}

#[test]
fn the_typical_questions_are_whole() {
    let mut contract = Contract::read();
    for hook in Hook::ALL {
        let question = typical_question(hook).unwrap_or_else(|error| panic!("{}: {error}", hook.name()));
        assert_eq!(Hook::of(&question), hook);
        check_question(&mut contract, &question);
        let text: Value = serde_json::from_str(typical_question_json(hook)).unwrap();
        assert_eq!(text["hook"], hook.name());
    }
}
