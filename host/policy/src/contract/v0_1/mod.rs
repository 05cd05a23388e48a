//! `restante:policy@0.1.0`, frozen.

mod answer;
pub(crate) mod bindings;
mod question;

use restante_deferral::decision::{Answer, HostAbilities, Question};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use self::bindings::restante::policy::{log, types};
use self::bindings::{Policy, PolicyPre};
use super::{Checked, Contract, Described, Linked};
use crate::decide::Guest;
use crate::generation::Generation;
use crate::load::{Problem, Severity};
use crate::log::LogLevel;

/// See the module.
pub(crate) struct V0_1;

impl Contract for V0_1 {
    fn version(&self) -> &'static str {
        "0.1.0"
    }

    fn imports(&self) -> &'static [&'static str] {
        &["restante:policy/types@0.1.0", "restante:policy/log@0.1.0"]
    }

    fn exports(&self) -> &'static [&'static str] {
        &["describe", "check-settings", "on-incoming", "on-available", "on-pull", "on-failure", "on-expiry"]
    }

    fn linker(&self, engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
        let mut linker = Linker::new(engine);
        Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
        Ok(linker)
    }

    fn link(&self, engine: &Engine, component: &Component) -> wasmtime::Result<Box<dyn Linked>> {
        Ok(Box::new(PolicyPre::new(self.linker(engine)?.instantiate_pre(component)?)?))
    }
}

impl Linked for PolicyPre<Guest> {
    fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Described> {
        let types::Description { name, version, settings_schema } =
            self.instantiate(&mut *store)?.call_describe(store)?;
        Ok(Described { name, version, settings_schema })
    }

    fn check_settings(
        &self,
        store: &mut Store<Guest>,
        settings: &str,
        host: &HostAbilities,
    ) -> wasmtime::Result<Result<Checked, Vec<Problem>>> {
        let instance = self.instantiate(&mut *store)?;
        let checked = instance.call_check_settings(store, settings, &question::host_abilities(host))?;
        Ok(checked.map_err(problems).map(|checked| {
            let types::CheckedSettings { normalised, problems: warnings } = checked;
            Checked { normalised, problems: problems(warnings) }
        }))
    }

    fn decide(
        &self,
        store: &mut Store<Guest>,
        generation: &Generation,
        question: Question,
    ) -> wasmtime::Result<Result<Answer, String>> {
        let instance = self.instantiate(&mut *store)?;
        call(&instance, store, generation, question)
    }
}

/// Calls the hook that answers this question.
pub(super) fn call(
    instance: &Policy,
    store: &mut Store<Guest>,
    generation: &Generation,
    question: Question,
) -> wasmtime::Result<Result<Answer, String>> {
    let with = |context| question::context(context, generation);
    Ok(match question {
        Question::Incoming(context, incoming) => {
            let (context, incoming) = (with(context), question::incoming(*incoming));
            let answer = instance.call_on_incoming(store, &context, &incoming)?;
            answer.map(|answer| Answer::Incoming(answer::incoming_answer(answer)))
        }
        Question::Available(context, availability) => {
            let (context, availability) = (with(context), question::availability(availability));
            let answer = instance.call_on_available(store, &context, &availability)?;
            answer.map(|plan| Answer::Available(answer::plan(plan)))
        }
        Question::Pull(context, pull) => {
            let (context, pull) = (with(context), question::pull(*pull));
            let answer = instance.call_on_pull(store, &context, &pull)?;
            answer.map(|answer| Answer::Pull(answer::pull_answer(answer)))
        }
        Question::Failure(context, failure) => {
            let (context, failure) = (with(context), question::failure(failure));
            let answer = instance.call_on_failure(store, &context, &failure)?;
            answer.map(|answers| Answer::Failure(answer::failure_answers(answers)))
        }
        Question::Expiry(context, messages) => {
            let context = with(context);
            let messages: Vec<_> = messages.into_iter().map(question::expiring_message).collect();
            let answer = instance.call_on_expiry(store, &context, &messages)?;
            answer.map(|answers| Answer::Expiry(answer::expiry_answers(answers)))
        }
    })
}

fn problems(problems: Vec<types::Problem>) -> Vec<Problem> {
    let problem = |problem: types::Problem| Problem {
        pointer: problem.pointer,
        severity: match problem.severity {
            types::Severity::Error => Severity::Error,
            types::Severity::Warning => Severity::Warning,
        },
        text: problem.text,
    };
    problems.into_iter().map(problem).collect()
}

impl log::Host for Guest {
    fn log(&mut self, level: log::Level, text: String) {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warning => LogLevel::Warning,
        };
        self.write(level, &text);
    }
}

impl types::Host for Guest {}
