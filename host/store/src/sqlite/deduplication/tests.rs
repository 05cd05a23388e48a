use super::*;

fn connection() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch("CREATE TABLE deduplication_log (id INTEGER PRIMARY KEY, hour INTEGER, keys BLOB)")
        .unwrap();
    connection
}

fn key(number: u64) -> DeduplicationKey {
    DeduplicationKey(u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_be_bytes())
}

fn at(hour: u64) -> Timestamp {
    Timestamp(hour * MILLISECONDS_PER_HOUR)
}

fn store(seen: &mut Deduplication, connection: &Connection, hour: u64, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| seen.insert(key(number), number as i64));
    seen.write(connection, at(hour)).unwrap();
    seen.committed(at(hour));
}

fn seal(seen: &mut Deduplication, connection: &Connection, hour: u64) {
    let sealed = seen.seal(connection, at(hour)).unwrap();
    seen.sealed(sealed);
}

#[test]
fn keys_are_known_for_the_window_and_not_longer() {
    for (sealed, reopened) in [(false, false), (true, false), (false, true), (true, true)] {
        let connection = connection();
        let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
        store(&mut seen, &connection, 10, 7..8);
        if sealed {
            assert!(!seen.wants_seal(at(10)) && seen.wants_seal(at(11)));
            seal(&mut seen, &connection, 10);
        }
        if reopened {
            seen = Deduplication::open(&connection, 2, at(10)).unwrap();
        }
        for (hour, found) in [(10, Some(7)), (12, Some(7)), (13, None)] {
            assert_eq!(seen.find(&connection, at(hour), key(7)).unwrap(), found, "{hour} {sealed} {reopened}");
        }
        assert_eq!(seen.find(&connection, at(10), key(8)).unwrap(), None);
    }
}

#[test]
fn few_keys_become_a_run_after_some_minutes_and_are_still_found() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    let after = |milliseconds: u64| Timestamp(at(10).0 + milliseconds);
    assert!(!seen.wants_seal(after(RUN_MILLISECONDS)), "there is nothing");
    for round in 0..3 {
        let begin = round * (RUN_MILLISECONDS + 1_000);
        seen.insert(key(round), round as i64);
        seen.write(&connection, after(begin)).unwrap();
        seen.committed(after(begin));
        assert!(!seen.wants_seal(after(begin + RUN_MILLISECONDS - 1)));
        assert!(seen.wants_seal(after(begin + RUN_MILLISECONDS)));
        seal(&mut seen, &connection, 10);
        assert!(!seen.wants_seal(after(begin + RUN_MILLISECONDS)));
    }
    for seen in [&seen, &Deduplication::open(&connection, 2, at(11)).unwrap()] {
        assert!((0..3).all(|it| seen.find(&connection, at(11), key(it)).unwrap() == Some(it as i64)));
    }
}

#[test]
fn many_keys_in_several_runs_are_all_found() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    let each = 30_000;
    for run in 0..3 {
        store(&mut seen, &connection, 10, run * each..(run + 1) * each);
        seal(&mut seen, &connection, 10);
    }
    for seen in [&seen, &Deduplication::open(&connection, 2, at(11)).unwrap()] {
        for number in 0..3 * each {
            assert_eq!(seen.find(&connection, at(11), key(number)).unwrap(), Some(number as i64));
        }
        for number in 3 * each..4 * each {
            assert_eq!(seen.find(&connection, at(11), key(number)).unwrap(), None);
        }
    }
}

#[test]
fn filters_have_room_for_hardly_more_keys_than_there_are() {
    for (run_keys, runs) in [(10, 1_000), (6_600, 12), (RUN_KEYS, 60)] {
        let mut hour = Hour::default();
        let entries: Vec<Entry> = (0..run_keys as u64).map(|it| (u128::from_be_bytes(key(it).0), 0)).collect();
        for run in 0..runs {
            hour.add_run(run, &entries, &mut Stock(Vec::new()));
            let room: usize = hour.segments.iter().map(|segment| segment.capacity).sum();
            let keys = run_keys * (usize::from(run) + 1);
            assert_eq!(hour.segments.iter().map(|segment| segment.keys).sum::<usize>(), keys);
            assert!(room <= keys + (keys / 4).max(MIN_FILTER_KEYS) + run_keys, "{room} for {keys}");
        }
        assert!(hour.segments.len() <= 24, "{} filters for {runs} runs of {run_keys}", hour.segments.len());
    }
}

#[test]
fn filters_of_hours_that_left_the_window_serve_again() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    let filters = |seen: &Deduplication| seen.hours.values().map(|hour| hour.segments.len()).sum::<usize>();
    for hour in 10..60 {
        // Two filters' worth, in runs as a minute brings them.
        for run in 0..20 {
            let first = hour * 40_000 + run * 1_000;
            store(&mut seen, &connection, hour, first..first + 1_000);
            seal(&mut seen, &connection, hour);
        }
        assert_eq!(filters(&seen) + seen.stock.0.len(), FILTERS_IN_STOCK, "none is made at {hour}");
        assert_eq!(seen.find(&connection, at(hour), key(hour * 40_000)).unwrap(), Some((hour * 40_000) as i64));
        let gone = key((hour - 4) * 40_000);
        let is_known = |kept: &Hour| kept.segments.iter().any(|it| it.filter.may_contain(u128::from_be_bytes(gone.0)));
        assert!(!seen.hours.values().any(is_known), "what a filter held before is cleared");
    }
    // One that has more goes back to what was made at the start.
    store(&mut seen, &connection, 60, 0..1_000);
    (0..FILTERS_IN_STOCK as u64 * 40).for_each(|_| {
        seal(&mut seen, &connection, 60);
        store(&mut seen, &connection, 60, 0..1_000);
    });
    assert!(filters(&seen) > FILTERS_IN_STOCK);
    seen.write(&connection, at(70)).unwrap();
    assert_eq!((filters(&seen), seen.stock.0.len()), (0, FILTERS_IN_STOCK));
}

#[test]
fn keys_that_begin_alike_are_found() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    let alike = |number: u64| DeduplicationKey((u128::MAX << 64 | u128::from(number)).to_be_bytes());
    (0..1_000).for_each(|number| seen.insert(alike(number), number as i64));
    seen.write(&connection, at(10)).unwrap();
    seen.committed(at(10));
    seal(&mut seen, &connection, 10);
    assert!((0..1_000).all(|it| seen.find(&connection, at(10), alike(it)).unwrap() == Some(it as i64)));
}

#[test]
fn hours_that_left_the_window_go_in_bites() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    let many = ROWS_PER_BITE as u64 * ROW_ENTRIES as u64 + 1;
    store(&mut seen, &connection, 10, 0..many);
    seal(&mut seen, &connection, 10);
    let tables = || numbered_tables(&connection, "deduplication_").unwrap();
    seen.write(&connection, at(12)).unwrap();
    assert_eq!(tables(), [10], "still within the window");
    seen.write(&connection, at(13)).unwrap();
    assert_eq!(tables(), [10], "the first bite");
    seen = Deduplication::open(&connection, 2, at(13)).unwrap();
    seen.write(&connection, at(13)).unwrap();
    assert!(tables().is_empty());
}

#[test]
fn a_log_that_left_the_window_is_forgotten_and_its_hour_removed_once() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    store(&mut seen, &connection, 10, 0..5);
    seal(&mut seen, &connection, 10);
    store(&mut seen, &connection, 10, 5..9);
    // Neither the end nor the next start makes a run of the log.
    let mut seen = Deduplication::open(&connection, 2, at(13)).unwrap();
    assert!(seen.wants_seal_of_an_hour(at(13)));
    seal(&mut seen, &connection, 13);
    assert!(!seen.wants_seal(at(13)));
    for number in 20..25 {
        store(&mut seen, &connection, 13, number..number + 1);
    }
    assert!(numbered_tables(&connection, "deduplication_").unwrap().is_empty());
    assert!((0..9).all(|it| seen.find(&connection, at(13), key(it)).unwrap().is_none()));
    assert!((20..25).all(|it| seen.find(&connection, at(13), key(it)).unwrap() == Some(it as i64)));
}

#[test]
fn an_hour_that_is_being_removed_gets_no_further_run() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    let many = 2 * ROWS_PER_BITE as u64 * ROW_ENTRIES as u64 + 1;
    store(&mut seen, &connection, 10, 0..many);
    seal(&mut seen, &connection, 10);
    // The clock was ahead for a moment.
    seen.write(&connection, at(13)).unwrap();
    store(&mut seen, &connection, 10, many..many + 3);
    seal(&mut seen, &connection, 10);
    for _ in 0..4 {
        seen.write(&connection, at(10)).unwrap();
    }
    for seen in [&seen, &Deduplication::open(&connection, 2, at(10)).unwrap()] {
        assert!((many..many + 3).all(|it| seen.find(&connection, at(10), key(it)).unwrap() == Some(it as i64)));
    }
}

#[test]
fn what_is_rolled_back_is_unknown() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    seen.insert(key(1), 1);
    let mark = seen.mark();
    seen.insert(key(2), 2);
    assert_eq!(seen.find(&connection, at(10), key(2)).unwrap(), Some(2));
    seen.roll_back_to(mark);
    assert_eq!(seen.find(&connection, at(10), key(1)).unwrap(), Some(1));
    assert_eq!(seen.find(&connection, at(10), key(2)).unwrap(), None);
}

#[test]
fn after_a_clock_that_was_ahead_keys_count_to_the_hour_that_it_is() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(20)).unwrap();
    store(&mut seen, &connection, 20, 0..5);
    assert!(seen.wants_seal(at(10)) && !seen.wants_seal(at(20)));
    seal(&mut seen, &connection, 10);
    store(&mut seen, &connection, 10, 5..9);
    seal(&mut seen, &connection, 10);
    let mut tables = numbered_tables(&connection, "deduplication_").unwrap();
    tables.sort_unstable();
    assert_eq!(tables, [10, 20]);
    for seen in [&seen, &Deduplication::open(&connection, 2, at(10)).unwrap()] {
        assert!((0..9).all(|it| seen.find(&connection, at(10), key(it)).unwrap() == Some(it as i64)));
        assert!((5..9).all(|it| seen.find(&connection, at(13), key(it)).unwrap().is_none()));
    }
}

#[test]
fn more_runs_than_an_hour_has_numbers_for_go_on_in_the_next() {
    let connection = connection();
    let mut seen = Deduplication::open(&connection, 2, at(10)).unwrap();
    store(&mut seen, &connection, 10, 0..5);
    seal(&mut seen, &connection, 10);
    // As if so many had been written.
    seen.hours.get_mut(&10).unwrap().runs = MAX_RUNS;
    for number in 5..8 {
        store(&mut seen, &connection, 10, number..number + 1);
        seal(&mut seen, &connection, 10);
    }
    for seen in [&seen, &Deduplication::open(&connection, 2, at(10)).unwrap()] {
        assert!((0..8).all(|it| seen.find(&connection, at(10), key(it)).unwrap() == Some(it as i64)));
    }
}
