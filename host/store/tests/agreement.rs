//! Whatever is done to them, the store on disk and the fake agree in every answer, also across restarts.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use restante_deferral::commit::{Applied, Change, LoadRequest, MessageState, Select, Transaction, Window};
use restante_deferral::model::*;
use restante_store::memory::MemoryStore;
use restante_store::{Adoption, Filter, Outcome, Record, Saved, Store, Takeover, Ticket, UserCredentials};

const NAMES: [&str; 3] = ["bob", "carol", "dave"];

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Sketch>),
    Load {
        whose: usize,
        select: Selection,
        max_messages: u32,
        max_body_bytes: u64,
    },
    Due(u64),
    List(Option<usize>),
    /// A user's names are others, by an operator's word or a core's; so is a preference.
    Names {
        whose: usize,
        names: Vec<usize>,
        by_core: bool,
        holds: bool,
    },
    /// A core says that names of another user are this one's.
    TakeOver {
        whose: usize,
        names: Vec<usize>,
        from: usize,
    },
    Adopt {
        owner: usize,
        alias: usize,
        is_configured: bool,
    },
    /// A user is given credentials, or loses them.
    Credentials(usize, Option<u8>),
    Recipients,
    Restart,
}

/// A change, with messages named by the order in which they were stored.
#[derive(Clone, Debug)]
enum Sketch {
    Insert { number: u64, to: usize, from: usize, priority: u8, expires_at: u64, body: usize, disposition: bool },
    Remove { whose: usize, which: usize },
    Update { whose: usize, which: usize, expires_at: u64, not_before: Option<u64>, fetch_deadline: Option<u64> },
    WakeAt { whose: usize, at: Option<u64> },
}

#[derive(Clone, Debug)]
enum Selection {
    Beginning,
    After(u8, usize),
    ExpiredAt(u64),
    DueAt(u64),
    Listed(Vec<usize>),
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let priority = prop_oneof![Just(0u8), Just(100), Just(255)];
    let insert = (0u64..40, 0usize..3, 0usize..2, priority, 0u64..50, 0usize..30, any::<bool>());
    let time = || proptest::option::of(0u64..50);
    prop_oneof![
        4 => insert.prop_map(|(number, to, from, priority, expires_at, body, disposition)| Sketch::Insert {
            number, to, from, priority, expires_at, body, disposition
        }),
        2 => (0usize..3, 0usize..40).prop_map(|(whose, which)| Sketch::Remove { whose, which }),
        2 => (0usize..3, 0usize..40, 0u64..50, time(), time()).prop_map(
            |(whose, which, expires_at, not_before, fetch_deadline)| Sketch::Update {
                whose, which, expires_at, not_before, fetch_deadline
            }
        ),
        1 => (0usize..3, time()).prop_map(|(whose, at)| Sketch::WakeAt { whose, at }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let select = prop_oneof![
        Just(Selection::Beginning),
        (prop_oneof![Just(0u8), Just(100), Just(255)], 0usize..40).prop_map(|(it, which)| Selection::After(it, which)),
        (0u64..50).prop_map(Selection::ExpiredAt),
        (0u64..50).prop_map(Selection::DueAt),
        proptest::collection::vec(0usize..40, 0..6).prop_map(Selection::Listed),
    ];
    prop_oneof![
        8 => proptest::collection::vec(sketch(), 0..5).prop_map(Step::Write),
        6 => (0usize..3, select, 0u32..6, 0u64..60).prop_map(|(whose, select, max_messages, max_body_bytes)| Step::Load {
            whose, select, max_messages, max_body_bytes
        }),
        1 => (0u64..60).prop_map(Step::Due),
        1 => proptest::option::of(0usize..3).prop_map(Step::List),
        2 => (0usize..3, proptest::collection::vec(0usize..3, 0..3), any::<bool>(), any::<bool>()).prop_map(
            |(whose, names, by_core, holds)| Step::Names { whose, names, by_core, holds }
        ),
        2 => (0usize..3, proptest::collection::vec(0usize..3, 0..3), 0usize..3).prop_map(
            |(whose, names, from)| Step::TakeOver { whose, names, from }
        ),
        3 => (0usize..3, 0usize..3, any::<bool>()).prop_map(|(owner, alias, is_configured)| Step::Adopt {
            owner, alias, is_configured
        }),
        1 => (0usize..3, proptest::option::of(any::<u8>())).prop_map(|(whose, given)| Step::Credentials(whose, given)),
        1 => Just(Step::Recipients),
        1 => Just(Step::Restart),
    ]
}

/// One of the two, with the numbers that it gave to messages.
struct Side<'a> {
    store: &'a dyn Store,
    done: &'a std::sync::mpsc::Receiver<restante_store::Completion>,
    stored: &'a mut Vec<MessageId>,
}

impl Side<'_> {
    fn id(&self, which: usize) -> MessageId {
        self.stored.get(which).copied().unwrap_or(MessageId(u64::MAX >> 8))
    }

    fn outcome(&self) -> Outcome {
        self.done.recv_timeout(std::time::Duration::from_secs(60)).unwrap().outcome
    }

    fn write(&mut self, sketches: &[Sketch]) -> Vec<Applied> {
        let changes = sketches.iter().map(|sketch| self.change(sketch)).collect();
        self.store.write(Ticket { shard: 0, token: 0 }, Transaction { changes, settles: false }).unwrap();
        let Outcome::Written(Ok(applied)) = self.outcome() else { panic!("not written") };
        for applied in &applied {
            if let Applied::Inserted(id) = applied {
                self.stored.push(*id);
            }
        }
        let names = self.names();
        let rename = |id: MessageId| MessageId(names[&id]);
        let rename = |applied| match applied {
            Applied::Inserted(id) => Applied::Inserted(rename(id)),
            Applied::Duplicate(id) => Applied::Duplicate(id.map(rename)),
            Applied::Done => Applied::Done,
        };
        applied.into_iter().map(rename).collect()
    }

    fn change(&self, sketch: &Sketch) -> Change {
        match sketch.clone() {
            Sketch::Insert { number, to, from, priority, expires_at, body, disposition } => {
                let mut message = message(number, NAMES[to]);
                message.envelope.sender.address = user(NAMES[from]).address;
                if disposition {
                    message.envelope.kind = MessageKind::Disposition;
                }
                message.body = Body::Inline(Bytes::from(vec![b'x'; body]));
                message.hand_over_to = (body == 7).then(|| "gateway".to_owned());
                Change::Insert(Box::new(NewMessage { priority, expires_at: Timestamp(expires_at), ..message }))
            }
            Sketch::Remove { whose, which } => Change::Remove { recipient: user(NAMES[whose]), id: self.id(which) },
            Sketch::Update { whose, which, expires_at, not_before, fetch_deadline } => {
                let state = MessageState {
                    not_before: not_before.map(Timestamp),
                    fetch_deadline: fetch_deadline.map(Timestamp),
                    expires_at: Timestamp(expires_at),
                    ..*state(1, None)
                };
                Change::Update { recipient: user(NAMES[whose]), id: self.id(which), state: Box::new(state) }
            }
            Sketch::WakeAt { whose, at } => Change::WakeAt { recipient: user(NAMES[whose]), at: at.map(Timestamp) },
        }
    }

    fn load(&self, whose: usize, select: &Selection, max_messages: u32, max_body_bytes: u64) -> Window {
        let select = match select.clone() {
            Selection::Beginning => Select::After(None),
            Selection::After(priority, which) => Select::After(Some((priority, self.id(which)))),
            Selection::ExpiredAt(at) => Select::ExpiredAt(Timestamp(at)),
            Selection::DueAt(at) => Select::DueAt(Timestamp(at)),
            Selection::Listed(which) => Select::Listed(which.into_iter().map(|which| self.id(which)).collect()),
        };
        let request = LoadRequest { select, max_messages, max_body_bytes };
        self.store.load(Ticket { shard: 0, token: 0 }, user(NAMES[whose]), request).unwrap();
        let Outcome::Loaded(Ok(mut window)) = self.outcome() else { panic!("not loaded") };
        let names = self.names();
        window.messages.iter_mut().for_each(|message| message.id = MessageId(names[&message.id]));
        *window
    }

    fn list(&self, whose: Option<usize>) -> Vec<(StoredMessage, u64)> {
        let filter = Filter { recipient: whose.map(|whose| user(NAMES[whose])), ..Filter::default() };
        let names = self.names();
        let rename = |(message, size): (StoredMessage, u64)| {
            (StoredMessage { id: MessageId(names[&message.id]), ..message }, size)
        };
        self.store.list(&filter, 99).unwrap().into_iter().map(rename).collect()
    }

    fn due(&self, at: u64) -> Vec<RecipientKey> {
        let mut due = self.store.due(Timestamp(at), 99).unwrap();
        due.sort();
        due
    }

    fn save(&self, whose: usize, record: Record) -> Saved {
        self.store.save(Ticket { shard: 0, token: 0 }, user(NAMES[whose]), record).unwrap();
        let Outcome::Saved(Ok(saved)) = self.outcome() else { panic!("not saved") };
        saved
    }

    fn set_names(&self, whose: usize, names: &[usize], by_core: bool, holds: bool) -> Saved {
        let names = names.iter().map(|name| user(NAMES[*name]).address.to_string()).collect();
        let aliases = if by_core { AliasChange::Register(names) } else { AliasChange::Set(names) };
        let delivery = (!by_core).then(|| holds.then_some(Delivery::Hold));
        self.save(whose, Record::ProfileChange(ProfileChange { aliases, delivery, ..ProfileChange::default() }))
    }

    fn take_over(&self, whose: usize, names: &[usize], from: usize) -> Saved {
        let names: Vec<String> = names.iter().map(|name| user(NAMES[*name]).address.to_string()).collect();
        let lost = names.iter().map(|name| (user(NAMES[from]), name.clone())).collect();
        let change = ProfileChange { aliases: AliasChange::Register(names), ..ProfileChange::default() };
        self.save(whose, Record::Takeover(Takeover { change, from: lost }))
    }

    fn adopt(&self, owner: usize, alias: usize, is_configured: bool) -> Saved {
        let wake_at = Timestamp(30);
        self.save(owner, Record::Adoption(Adoption { alias: user(NAMES[alias]).address, is_configured, wake_at }))
    }

    fn give_credentials(&self, whose: usize, given: Option<u8>) -> Saved {
        let given = given.map(|byte| UserCredentials {
            username: NAMES[whose].to_owned(),
            realm: "example.org".to_owned(),
            hashes: vec![("MD5".to_owned(), vec![byte; 16]), ("SHA-256".to_owned(), vec![byte; 32])],
        });
        self.save(whose, Record::Credentials(given))
    }

    fn recipients(&self) -> BTreeSet<RecipientKey> {
        let mut found = BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.store.recipients(after, 2).unwrap();
            let Some((last, _)) = page.last() else { return found };
            after = Some(*last);
            found.extend(page.into_iter().map(|(_, key)| key));
        }
    }

    fn names(&self) -> BTreeMap<MessageId, u64> {
        self.stored.iter().enumerate().map(|(index, id)| (*id, index as u64)).collect()
    }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let (sink_of_fake, done_of_fake) = sink();
    let fake = MemoryStore::new(sink_of_fake);
    let mut disk = sqlite(directory.path());
    let (mut in_fake, mut on_disk) = (Vec::new(), Vec::new());
    for step in steps {
        if matches!(step, Step::Restart) {
            drop(disk);
            disk = sqlite(directory.path());
            fake.crash(Timestamp(5_000));
        }
        let mut a = Side { store: &fake, done: &done_of_fake, stored: &mut in_fake };
        let mut b = Side { store: &*disk.store, done: &disk.done, stored: &mut on_disk };
        match step {
            Step::Write(sketches) => prop_assert_eq!(a.write(sketches), b.write(sketches)),
            Step::Load { whose, select, max_messages, max_body_bytes } => prop_assert_eq!(
                a.load(*whose, select, *max_messages, *max_body_bytes),
                b.load(*whose, select, *max_messages, *max_body_bytes)
            ),
            Step::Due(at) => prop_assert_eq!(a.due(*at), b.due(*at)),
            Step::List(whose) => prop_assert_eq!(a.list(*whose), b.list(*whose)),
            Step::Names { whose, names, by_core, holds } => {
                let set = |side: &Side<'_>| side.set_names(*whose, names, *by_core, *holds);
                prop_assert_eq!(set(&a), set(&b));
            }
            Step::TakeOver { whose, names, from } => {
                prop_assert_eq!(a.take_over(*whose, names, *from), b.take_over(*whose, names, *from));
            }
            Step::Adopt { owner, alias, is_configured } => {
                prop_assert_eq!(a.adopt(*owner, *alias, *is_configured), b.adopt(*owner, *alias, *is_configured));
            }
            Step::Credentials(whose, given) => {
                prop_assert_eq!(a.give_credentials(*whose, *given), b.give_credentials(*whose, *given));
            }
            Step::Recipients => prop_assert_eq!(a.recipients(), b.recipients()),
            Step::Restart => {}
        }
        for name in NAMES {
            prop_assert_eq!(fake.totals(&user(name)), disk.store.totals(&user(name)));
            prop_assert_eq!(fake.profile(&user(name)).unwrap(), disk.store.profile(&user(name)).unwrap());
        }
        let sorted = |store: &dyn Store| {
            let mut all = store.credentials().unwrap();
            all.sort_by(|one, other| one.0.cmp(&other.0));
            all
        };
        prop_assert_eq!(sorted(&fake), sorted(&*disk.store));
        let tenant = TenantName("t".into());
        prop_assert_eq!(fake.tenant_totals(&tenant), disk.store.tenant_totals(&tenant));
        prop_assert_eq!(fake.tenant_dispositions(&tenant), disk.store.tenant_dispositions(&tenant));
        prop_assert_eq!(fake.all_totals(), disk.store.all_totals());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_fake_and_the_disk_agree(steps in proptest::collection::vec(step(), 1..40)) {
        run(&steps)?;
    }
}
