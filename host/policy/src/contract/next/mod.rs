//! A version for the tests alone, see its WIT.

mod bindings {
    #![allow(missing_docs, clippy::all)]

    wasmtime::component::bindgen!({
        world: "restante:policy/policy@0.2.0",
        path: ["../../wit", "src/contract/next/wit"],
        with: {
            "restante:policy/types@0.1.0": crate::contract::v0_1::bindings::restante::policy::types,
            "restante:policy/log@0.1.0": crate::contract::v0_1::bindings::restante::policy::log,
        },
    });
}

use restante_deferral::decision::{Answer, Field, HostAbilities, Question};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use self::bindings::{Policy, PolicyPre};
use super::{Checked, Contract, Described, Linked, v0_1};
use crate::decide::Guest;
use crate::generation::Generation;
use crate::load::Problem;

pub(super) struct Next;

struct LinkedNext {
    next: PolicyPre<Guest>,
    before: Box<dyn Linked>,
}

impl Contract for Next {
    fn version(&self) -> &'static str {
        "0.2.0"
    }

    fn imports(&self) -> &'static [&'static str] {
        v0_1::V0_1.imports()
    }

    fn exports(&self) -> &'static [&'static str] {
        &["classify", "describe", "check-settings", "on-incoming", "on-available", "on-pull", "on-failure", "on-expiry"]
    }

    fn linker(&self, engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
        let mut linker = Linker::new(engine);
        Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
        Ok(linker)
    }

    fn link(&self, engine: &Engine, component: &Component) -> wasmtime::Result<Box<dyn Linked>> {
        let next = PolicyPre::new(self.linker(engine)?.instantiate_pre(component)?)?;
        Ok(Box::new(LinkedNext { next, before: v0_1::V0_1.link(engine, component)? }))
    }
}

impl Linked for LinkedNext {
    fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Described> {
        self.before.describe(store)
    }

    fn check_settings(
        &self,
        store: &mut Store<Guest>,
        settings: &str,
        host: &HostAbilities,
    ) -> wasmtime::Result<Result<Checked, Vec<Problem>>> {
        self.before.check_settings(store, settings, host)
    }

    fn decide(
        &self,
        store: &mut Store<Guest>,
        generation: &Generation,
        mut question: Question,
    ) -> wasmtime::Result<Result<Answer, String>> {
        let instance = self.next.instance_pre().instantiate(&mut *store)?;
        let before = v0_1::bindings::Policy::new(&mut *store, &instance)?;
        if let Question::Incoming(context, incoming) = &mut question {
            let next = Policy::new(&mut *store, &instance)?;
            let class = next.call_classify(&mut *store, &incoming.sender.address)?;
            context.fields.push(Field { name: "sender.class".to_owned(), value: class });
        }
        v0_1::call(&before, store, generation, question)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use restante_deferral::decision::{Answer, IncomingAnswer};

    use crate::record::{typical_host, typical_question};
    use crate::{Hook, Loader, PolicyEngine, PolicyLimits, decide};

    const NEXT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/next.wasm"));

    #[test]
    fn policies_of_two_versions_of_the_contract_decide_side_by_side() {
        // The deadline goes by the wall, and a busy machine may give a test no time.
        let (deadline, check_deadline) = (Duration::from_secs(5), Duration::from_secs(10));
        let patient = PolicyLimits { deadline, check_deadline, ..PolicyLimits::default() };
        let loader = Loader::new(PolicyEngine::new(patient).unwrap(), None).unwrap();
        let load = |component| loader.load(component, "{}", &typical_host()).unwrap().generation;
        let (first, second) = (load(crate::standard::COMPONENT), load(NEXT));
        assert_eq!((first.contract(), second.contract()), ("0.1.0", "0.2.0"));
        let priority = |generation| {
            let answer = decide(generation, typical_question(Hook::Incoming).unwrap());
            let Ok(Answer::Incoming(IncomingAnswer::Keep(keep))) = answer else { panic!("{answer:?}") };
            keep.priority
        };
        assert_eq!(priority(&first), 100);
        assert_eq!(priority(&second), 200, "what the new hook said reaches the old one");
    }
}
