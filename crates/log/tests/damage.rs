//! Bytes that were cut, flipped, moved or lost: what is torn is cut, what is damaged is refused and can be repaired, and
//! nothing wrong is ever handed out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pinmill_log::sim::SimDisk;
use pinmill_log::{Damage, Disk, Error, Log, LogConfig, repair_on, verify_on};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use support::*;

/// Every record that is there is the one that was written.
fn assert_only_right_records(found: &BTreeMap<u64, String>, wanted: &BTreeMap<u64, String>) {
    for (offset, value) in found {
        assert_eq!(wanted.get(offset), Some(value), "offset {offset}");
    }
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let config = small(1 << 20);
    let appends: Vec<_> =
        appends(8).into_iter().map(|mut values| values.split_off(values.len() - 1)).collect();
    let wanted = expected(&appends);
    let disk = filled(&config, &appends, false);
    let segment = segments(&disk).pop().unwrap();
    let whole = disk.bytes(&segment).unwrap();
    let end = end_of_batches(&config, &appends);
    assert!(whole.len() > end, "there is room behind the batches");
    // Where each of the last three batches begins: everything before it must survive every cut after it.
    let begins: Vec<_> =
        (appends.len() - 3..appends.len()).map(|keep| end_of_batches(&config, &appends[..keep])).collect();
    for cut in begins[0]..=end {
        let disk = disk.after_kill();
        disk.set_bytes(&segment, whole[..cut].to_vec()).unwrap();
        let (log, report) = open(&disk, &config).unwrap();
        let kept = begins.iter().filter(|begin| cut > **begin).count();
        let at_border = cut == end || begins.contains(&cut);
        let kept = appends.len() - 3 + if at_border { kept } else { kept - 1 };
        assert_eq!(read_all(&log).unwrap(), expected(&appends[..kept]), "cut at {cut}");
        assert_eq!(report.cuts.len(), usize::from(!at_border), "cut at {cut}");
        if let Some(said) = report.cuts.first() {
            assert_eq!((said.file.as_path(), said.offset), (segment.as_path(), kept as u64));
            assert_eq!(said.position + said.bytes, cut as u64);
        }
        // It goes on where it was cut.
        let next = append(&log, &["after".to_owned()]).unwrap();
        assert_eq!(next, kept as u64);
        assert_only_right_records(
            &BTreeMap::from_iter(read_all(&log).unwrap().into_iter().take(kept)),
            &wanted,
        );
    }
}

#[test]
fn room_behind_the_batches_is_no_damage_however_much_of_it_there_is() {
    let config = small(1 << 20);
    let appends = appends(8);
    let disk = filled(&config, &appends, false);
    let segment = segments(&disk).pop().unwrap();
    let end = end_of_batches(&config, &appends);
    let batches = disk.bytes(&segment).unwrap()[..end].to_vec();
    for room in [0, 1, 63, 64, 65, 300_000] {
        let disk = disk.after_kill();
        disk.set_bytes(&segment, [&batches[..], &vec![0; room]].concat()).unwrap();
        let found = verify_on(&disk, DIR).unwrap();
        assert!(found.problems.is_empty(), "{room}: {found:?}");
        let (log, report) = open(&disk, &config).unwrap();
        assert_eq!((report.cuts.len(), read_all(&log).unwrap()), (0, expected(&appends)), "{room}");
        assert_eq!(disk.bytes(&segment).unwrap().len(), end, "{room}: the room is given back");
    }
}

/// The last batch was on its way into the room when the power went: the file is as long as before.
#[test]
fn a_batch_that_is_torn_within_the_room_is_cut_at_every_byte() {
    let config = small(1 << 20);
    let appends = appends(8);
    let disk = filled(&config, &appends, false);
    let segment = segments(&disk).pop().unwrap();
    let (begin, end) = (end_of_batches(&config, &appends[..7]), end_of_batches(&config, &appends));
    let whole = disk.bytes(&segment).unwrap();
    for torn in begin..end {
        let disk = disk.after_kill();
        let mut bytes = whole.clone();
        bytes[torn..].fill(0);
        let is_whole = bytes == whole;
        disk.set_bytes(&segment, bytes).unwrap();
        let (log, report) = open(&disk, &config).unwrap();
        let kept = if is_whole { 8 } else { 7 };
        assert_eq!(read_all(&log).unwrap(), expected(&appends[..kept]), "torn at {torn}");
        assert_eq!(report.cuts.len(), usize::from(!is_whole && torn > begin), "torn at {torn}");
    }
}

#[test]
fn a_flipped_bit_is_never_read_as_a_record() {
    let seed = pinmill_testkit::seed();
    let cases = pinmill_testkit::count("PINMILL_FLIPS", 5_000);
    let mut dice = StdRng::seed_from_u64(seed);
    let config = small(1 << 20);
    let appends: Vec<_> = (0..90).map(|n| vec![format!("{n} {}", "y".repeat(600))]).collect();
    let wanted = expected(&appends);
    for close in [true, false] {
        let disk = filled(&config, &appends, close);
        let segment = segments(&disk).pop().unwrap();
        let whole = disk.bytes(&segment).unwrap();
        let end = end_of_batches(&config, &appends);
        assert!(end >= 60_000 && close == (whole.len() == end));
        for _ in 0..cases / 2 {
            let (byte, bit) = (dice.random_range(0..whole.len()), dice.random_range(0..8));
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << bit;
            let disk = disk.after_kill();
            disk.set_bytes(&segment, bytes).unwrap();
            match open(&disk, &config) {
                Err(error) => assert_says_what_to_do(&error),
                // What lies before the last batch that the index knows is looked into when it is read.
                Ok((log, report)) if close => {
                    assert!(report.cuts.is_empty(), "byte {byte} bit {bit}");
                    assert_says_what_to_do(&read_all(&log).unwrap_err());
                }
                // After a kill the last group may be torn, no more than that.
                Ok((log, report)) => {
                    assert_eq!(report.cuts.len(), 1, "byte {byte} bit {bit}");
                    let found = read_all(&log).unwrap();
                    assert_only_right_records(&found, &wanted);
                    let torn = usize::from(byte < end);
                    assert_eq!(found.len(), wanted.len() - torn, "byte {byte} bit {bit}");
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_log_that_is_open_is_never_read_as_a_record() {
    let mut dice = StdRng::seed_from_u64(pinmill_testkit::seed());
    let config = small(4_000);
    let appends = appends(60);
    let wanted = expected(&appends);
    let disk = filled(&config, &appends, true);
    let (log, _) = open(&disk, &config).unwrap();
    for segment in segments(&disk) {
        let whole = disk.bytes(&segment).unwrap();
        for _ in 0..20 {
            let mut bytes = whole.clone();
            bytes[dice.random_range(64..whole.len())] ^= 1 << dice.random_range(0..8);
            disk.set_bytes(&segment, bytes).unwrap();
            for offset in wanted.keys() {
                match log.read(TOPIC, 0, *offset, 1) {
                    Ok(records) => assert_eq!(records[0].value.as_deref(), Some(wanted[offset].as_bytes())),
                    Err(error) => assert_says_what_to_do(&error),
                }
            }
        }
        disk.set_bytes(&segment, whole).unwrap();
    }
    assert_eq!(read_all(&log).unwrap(), wanted);
}

#[test]
fn damage_in_the_middle_is_refused_and_all_else_is_salvaged() {
    let mut dice = StdRng::seed_from_u64(pinmill_testkit::seed());
    let config = small(3_000);
    let appends = appends(80);
    let wanted = expected(&appends);
    let whole = filled(&config, &appends, false);
    let all = segments(&whole);
    assert!(all.len() > 3);
    let last = all.last().unwrap();
    let end = end_of_batches(&config, &appends);
    // The last batch alone may be taken for torn; it is 64 bytes and its records.
    let last_batch = 64 + appends.last().unwrap().iter().map(|value| value.len() + 7).sum::<usize>();
    for round in 0..200 {
        let disk = whole.after_kill();
        let segment = if round % 2 == 0 { last } else { &all[dice.random_range(0..all.len())] };
        let mut bytes = disk.bytes(segment).unwrap();
        let end = if segment == last { end - last_batch } else { bytes.len() };
        let at = dice.random_range(0..end);
        bytes[at] ^= 1 << dice.random_range(0..8);
        disk.set_bytes(segment, bytes).unwrap();

        let report = verify_on(&disk, DIR).unwrap();
        assert!(!report.is_sound(), "round {round}: byte {at} of {}", segment.display());
        let opened = open(&disk, &config);
        if segment == last {
            assert_says_what_to_do(&opened.unwrap_err());
        } else if let Ok((log, report)) = opened {
            // A complete segment is looked into when it is read.
            assert!(report.cuts.is_empty());
            assert_says_what_to_do(&read_all(&log).unwrap_err());
        }

        let repaired = repair_on(&disk, DIR, "/data/copy").unwrap();
        assert!(!repaired.problems.is_empty());
        let (log, _) = Log::open_on(Arc::new(disk.clone()), "/data/copy", config.clone()).unwrap();
        let found = read_all(&log).unwrap();
        assert_only_right_records(&found, &wanted);
        let lost = wanted.len() - found.len();
        assert!(lost <= 3, "round {round}: {lost} lost by one bit");
        for offset in wanted.keys().filter(|offset| !found.contains_key(offset)) {
            let said = repaired.lost.iter().any(|lost| (lost.from..lost.to.unwrap()).contains(offset));
            assert!(said, "offset {offset} is lost without a word: {repaired:?}");
        }
        let next = append(&log, &["after".to_owned()]).unwrap();
        assert_eq!(next, wanted.len() as u64, "an offset was given twice");
    }
}

/// A log with several segments, closed or not, damaged by `damage`; what opening it and reading all of it says.
fn after(damage: impl Fn(&SimDisk), close: bool) -> Result<BTreeMap<u64, String>, Error> {
    let disk = filled(&small(3_000), &appends(80), close);
    damage(&disk);
    let (log, _) = open(&disk, &small(3_000))?;
    read_all(&log)
}

fn change(disk: &SimDisk, path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = disk.bytes(path).unwrap();
    change(&mut bytes);
    disk.set_bytes(path, bytes).unwrap();
}

#[test]
fn zeroed_repeated_swapped_and_missing_pieces_are_noticed() {
    let page = 256;
    for close in [true, false] {
        let count = segments(&filled(&small(3_000), &appends(80), close)).len();
        for number in 0..count {
            let zeroed = after(
                |disk| change(disk, &segments(disk)[number], |bytes| bytes[page..2 * page].fill(0)),
                close,
            );
            assert_says_what_to_do(&zeroed.unwrap_err());
            let repeated = after(
                |disk| {
                    change(disk, &segments(disk)[number], |bytes| {
                        bytes.copy_within(page..2 * page, 2 * page);
                    });
                },
                close,
            );
            assert_says_what_to_do(&repeated.unwrap_err());
            let missing = after(|disk| disk.remove_file(&segments(disk)[number]).unwrap(), close);
            assert_says_what_to_do(&missing.unwrap_err());
            let other = (number + 1) % count;
            let swapped = after(
                |disk| {
                    let (one, two) = (&segments(disk)[number], &segments(disk)[other]);
                    let (a, b) = (disk.bytes(one).unwrap(), disk.bytes(two).unwrap());
                    disk.set_bytes(one, b).unwrap();
                    disk.set_bytes(two, a).unwrap();
                },
                close,
            );
            assert_says_what_to_do(&swapped.unwrap_err());
        }
    }
}

#[test]
fn a_batch_of_another_partition_is_not_taken_for_an_own_one() {
    let config = small(1 << 20);
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 2).unwrap();
    for partition in [0, 1] {
        for n in 0..5 {
            wait(log.append(TOPIC, partition, vec![record(&format!("{partition} {n}"))])).unwrap();
        }
    }
    drop(log);
    let disk = disk.after_kill();
    let other = partition_dir().with_file_name("1").join("00000000000000000000.seg");
    let bytes = disk.bytes(&other).unwrap();
    // Same offsets, same lengths, right checksums: only the partition differs.
    change(&disk, &segments(&disk)[0], |own| own[64..].copy_from_slice(&bytes[64..]));
    let report = verify_on(&disk, DIR).unwrap();
    assert!(!report.problems.is_empty());
    let (log, cut) = open(&disk, &config).unwrap();
    assert_eq!(cut.cuts.len(), 1);
    assert!(read_all(&log).unwrap().is_empty());
}

#[test]
fn indexes_that_are_missing_damaged_or_stale_are_built_anew() {
    let config = small(3_000);
    let appends = appends(80);
    let disk = filled(&config, &appends, true);
    let all = segments(&disk);
    let index = |number: usize| all[number].with_extension("idx");
    disk.remove_file(&index(0)).unwrap();
    change(&disk, &index(1), |bytes| bytes[40] ^= 1);
    let other = disk.bytes(&index(3)).unwrap();
    disk.set_bytes(&index(2), other).unwrap();
    let (log, _) = open(&disk, &config).unwrap();
    for (offset, value) in expected(&appends) {
        let read = log.read(TOPIC, 0, offset, 1).unwrap();
        assert_eq!(read[0].value.as_deref(), Some(value.as_bytes()), "offset {offset}");
    }
    let fresh = filled(&config, &appends, true);
    // The generation differs from log to log, and with it the salt and the checksum: compare the entries.
    for number in 0..3 {
        let (built, right) = (disk.bytes(&index(number)).unwrap(), fresh.bytes(&index(number)).unwrap());
        assert_eq!(built[16..], right[16..], "index {number}");
    }
}

#[test]
fn descriptions_that_are_missing_damaged_or_stale_are_noticed_and_rebuilt_by_a_repair() {
    let config = small(3_000);
    let appends = appends(30);
    let meta = Path::new(DIR).join("topics").join(TOPIC).join("meta.json");
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    for values in &appends {
        append(&log, values).unwrap();
    }
    let stale = disk.bytes(&meta).unwrap();
    log.add_partitions(TOPIC, 2).unwrap();
    wait(log.append(TOPIC, 1, vec![record("in the new one")])).unwrap();
    drop(log);
    let damages: [&dyn Fn(&SimDisk); 3] = [
        &|disk| disk.remove_file(&meta).unwrap(),
        &|disk| change(disk, &meta, |bytes| *bytes.iter_mut().find(|b| **b == b'1').unwrap() = b'7'),
        &|disk| disk.set_bytes(&meta, stale.clone()).unwrap(),
    ];
    for damage in damages {
        let disk = disk.after_kill();
        damage(&disk);
        assert_says_what_to_do(&open(&disk, &config).unwrap_err());
        assert!(!verify_on(&disk, DIR).unwrap().is_sound());
        let report = repair_on(&disk, DIR, "/data/copy").unwrap();
        assert_eq!(report.rebuilt, [TOPIC]);
        assert!(report.lost.is_empty() && report.unreadable.is_empty(), "{report:?}");
        let (log, _) = Log::open_on(Arc::new(disk), "/data/copy", config.clone()).unwrap();
        assert_eq!(read_all(&log).unwrap(), expected(&appends));
        assert_eq!(read_topic(&log, TOPIC, 1).unwrap()[&0], "in the new one");
    }
}

#[test]
fn verify_calls_a_torn_tail_harmless_and_changes_nothing() {
    let config = small(3_000);
    let disk = filled(&config, &appends(40), false);
    let sound = verify_on(&disk, DIR).unwrap();
    assert!(sound.is_sound() && sound.problems.is_empty(), "{sound:?}");
    assert_eq!((sound.topics, sound.partitions), (1, 2));
    assert_eq!(sound.records, expected(&appends(40)).len() as u64);
    let last = segments(&disk).pop().unwrap();
    let end = end_of_batches(&config, &appends(40));
    change(&disk, &last, |bytes| bytes.truncate(end - 5));
    let before = disk.bytes(&last).unwrap();
    let torn = verify_on(&disk, DIR).unwrap();
    assert!(torn.is_sound());
    assert_eq!(torn.problems.len(), 1);
    assert_eq!((torn.problems[0].damage, &torn.problems[0].file), (Damage::TornTail, &last));
    assert_eq!(disk.bytes(&last).unwrap(), before);
}

#[test]
fn a_repair_refuses_a_folder_in_use_and_a_log_of_a_newer_version() {
    let disk = filled(&LogConfig::default(), &appends(3), true);
    assert!(matches!(repair_on(&disk, DIR, DIR), Err(Error::TargetNotEmpty(_))));
    disk.set_bytes(&Path::new(DIR).join("FORMAT"), b"{\"pinmill_log\":2}".to_vec()).unwrap();
    let newer = |error| matches!(error, Error::FormatTooNew { found: 2, known: 1, .. });
    assert!(newer(open(&disk, &LogConfig::default()).unwrap_err()));
    assert!(newer(verify_on(&disk, DIR).unwrap_err()));
}
