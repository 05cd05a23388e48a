//! A process that is killed in the middle of its work has lost nothing that it said was stored.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use common::*;
use restante_deferral::commit::{Applied, Change, Transaction};
use restante_deferral::model::*;
use restante_store::sqlite::SqliteStore;
use restante_store::{Adoption, Filter, Outcome, Record, Saved, Store, Ticket};

const NAME: &str = "what_was_acknowledged_survives_sigkill";
const DIRECTORY: &str = "RESTANTE_STORE_CRASH_DIRECTORY";
const FIRST: &str = "RESTANTE_STORE_CRASH_FIRST";
const ROUNDS: u64 = 6;

/// What message `number` says; every seventh is large.
fn text(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(7) { 70_000 } else { 100 };
    number.to_string().bytes().cycle().take(length).collect()
}

/// Every second message is for another name of bob's, whose queue bob's takes in now and then.
fn recipient(number: u64) -> &'static str {
    if number.is_multiple_of(2) { "robert" } else { "bob" }
}

/// The child: stores, takes in and removes until it is killed, and says what was acknowledged.
fn work(directory: &Path, first: u64) {
    let (sink, done) = sink();
    let store = SqliteStore::open(options(directory), sink).unwrap();
    let mut out = std::io::stdout().lock();
    let (mut given, mut under_way) = (first, 0);
    loop {
        while under_way < 100 {
            let mut message = message(given, recipient(given));
            let text = text(given);
            message.body = if text.len() > 65_536 {
                let mut writer = store.spool().create().unwrap();
                writer.append(&text).unwrap();
                let (id, size_bytes) = writer.finish().unwrap();
                Body::Spooled { id, size_bytes }
            } else {
                Body::Inline(Bytes::from(text))
            };
            let transaction = Transaction { changes: vec![Change::Insert(Box::new(message))], settles: false };
            store.write(Ticket { shard: 0, token: given }, transaction).unwrap();
            given += 1;
            under_way += 1;
        }
        let completion = done.recv().unwrap();
        under_way -= 1;
        match completion.outcome {
            Outcome::Written(Ok(applied)) => match applied[..] {
                [Applied::Inserted(id)] => {
                    writeln!(out, "\nstored {} {}", completion.token, id.0).unwrap();
                    if completion.token.is_multiple_of(3) {
                        // It is in one of them.
                        let changes = ["bob", "robert"].map(|name| Change::Remove { recipient: user(name), id }).into();
                        let ticket = Ticket { shard: 0, token: completion.token };
                        store.write(ticket, Transaction { changes, settles: true }).unwrap();
                        under_way += 1;
                    }
                    if completion.token.is_multiple_of(50) {
                        let alias = user("robert").address;
                        let adoption = Adoption { alias, is_configured: true, wake_at: Timestamp(5_000) };
                        let ticket = Ticket { shard: 0, token: completion.token };
                        store.save(ticket, user("bob"), Record::Adoption(adoption)).unwrap();
                        under_way += 1;
                    }
                }
                [Applied::Done, Applied::Done] => writeln!(out, "removed {}", completion.token).unwrap(),
                ref other => panic!("{other:?}"),
            },
            Outcome::Saved(Ok(Saved::Adopted(adopted))) => writeln!(out, "adopted {}", adopted.messages).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// Acknowledged: stored under which number, and removed.
#[derive(Default)]
struct Acknowledged {
    stored: BTreeMap<u64, u64>,
    removed: BTreeSet<u64>,
    adopted: u64,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["stored", number, id] => _ = self.stored.insert(number.parse().unwrap(), id.parse().unwrap()),
            ["removed", number] => _ = self.removed.insert(number.parse().unwrap()),
            ["adopted", count] => self.adopted += count.parse::<u64>().unwrap(),
            _ => {}
        }
    }
}

fn run_until_killed(directory: &Path, first: u64, lines_before_kill: usize, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..lines_before_kill {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended by itself");
        acknowledged.note(line.trim_end());
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    // A last line without its end was not said.
    let said = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
    said.lines().for_each(|line| acknowledged.note(line));
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return work(Path::new(&directory), std::env::var(FIRST).unwrap().parse().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        let lines = 200 + 150 * usize::try_from(round).unwrap();
        run_until_killed(directory.path(), round * 1_000_000 + 1, lines, &mut acknowledged);
        check(directory.path(), &acknowledged);
    }
    assert!(acknowledged.stored.len() > 1_000 && acknowledged.removed.len() > 300 && acknowledged.adopted > 300);
}

fn check(directory: &Path, acknowledged: &Acknowledged) {
    let (sink, _done) = sink();
    let store = SqliteStore::open(options(directory), sink).unwrap();
    let rows = store.list(&Filter::default(), usize::MAX).unwrap();
    let present: BTreeMap<u64, &StoredMessage> = rows.iter().map(|(message, _)| (message.id.0, message)).collect();
    assert_eq!(present.len(), rows.len());
    for (number, id) in &acknowledged.stored {
        // Its removal may have been committed without the child having come to say so.
        let may_be_gone = number.is_multiple_of(3);
        let found = present.get(id);
        assert!(found.is_some() || may_be_gone, "{number} was acknowledged and is lost");
        assert!(found.is_none() || !acknowledged.removed.contains(number), "{number} was removed and is back");
        if let Some(found) = found {
            assert_eq!(found.message.received_at, Timestamp(1_000 + number));
        }
    }
    let (mut sums, mut files) = (BTreeMap::<RecipientKey, (u32, u64)>::new(), 0);
    for (row, size_bytes) in &rows {
        let sum = sums.entry(row.message.recipient.clone()).or_default();
        *sum = (sum.0 + 1, sum.1 + size_bytes);
        let expected = text(row.message.received_at.0 - 1_000);
        assert_eq!(*size_bytes, expected.len() as u64);
        if let Body::Spooled { id, .. } = row.message.body {
            let mut found = Vec::new();
            store.spool().read(id).expect("no row without its body").read_to_end(&mut found).unwrap();
            assert!(found == expected, "a body is not what was stored");
            files += 1;
        }
    }
    for name in ["bob", "robert"].map(user) {
        let totals = store.totals(&name).0;
        let sum = sums.get(&name).copied().unwrap_or_default();
        assert_eq!((totals.messages, totals.size_bytes), sum, "sums are those of the rows");
    }
    let folders = std::fs::read_dir(directory.join("spool")).unwrap();
    let in_spool: usize = folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum();
    assert_eq!(in_spool, files, "no file without a row");
}
