//! What every [`EventLog`] must do, as functions to run against one: the embedded log, the one in memory, and whatever
//! is added later pass the same suite.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let log = std::sync::Arc::new(pinmill_broker::MemoryLog::new());
//! pinmill_broker::conformance::run(log, "conformance").await;
//! # });
//! ```
//!
//! Every check makes its own topics, called `<prefix>.<check>`, so a suite can run on a log that is in use.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "this is a test suite that happens to be public: it fails by panicking and says on stderr how far it came"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{Error, EventLog, Health, MAX_TOPIC_NAME, OffsetRange, ReadLimit, Record, StoredRecord};

/// A read that does not wait.
const AT_ONCE: ReadLimit = ReadLimit { max_bytes: 64 * 1024 * 1024, max_wait: Duration::ZERO };
/// A read that waits for as long as a slow log may take; it is cut short by the record it waits for.
const PATIENT: ReadLimit = ReadLimit { max_bytes: 64 * 1024 * 1024, max_wait: Duration::from_secs(60) };

type Log = Arc<dyn EventLog>;

/// Runs every check, each on topics of its own called `<prefix>.<check>`.
///
/// # Panics
/// When the log breaks a promise; the message says which.
pub async fn run(log: Log, prefix: &str) {
    macro_rules! checks {
        ($($check:ident),* $(,)?) => {$(
            eprintln!("conformance: {}", stringify!($check));
            $check(&log, &format!("{prefix}.{}", stringify!($check))).await;
        )*};
    }
    checks!(
        a_topic_is_made_once_and_described,
        a_bad_topic_name_is_refused,
        what_does_not_exist_is_named,
        an_append_gives_ascending_offsets_and_reads_give_the_same_bytes,
        null_and_empty_are_kept_apart,
        an_empty_append_changes_nothing,
        a_read_is_limited_by_bytes_but_gives_at_least_one_record,
        a_read_outside_the_offsets_is_an_error,
        a_read_at_the_end_waits_for_the_next_record,
        partitions_do_not_mix,
        concurrent_appends_keep_each_record_once_and_each_writer_in_order,
        time_stamps_never_go_back_and_find_offsets,
        positions_are_kept_for_each_reader,
        what_is_forgotten_ends_where_a_reader_goes_on,
        what_is_not_to_be_forgotten_stays,
        offsets_that_are_left_out_are_given_to_no_record,
        a_topic_grows_and_keeps_what_it_has,
        a_deleted_topic_is_gone_and_its_namesake_starts_anew,
    );
    assert_eq!(log.health(), Health::Writable, "a log that took every append says that it takes writes");
}

/// A topic exists from when it was made, once, with the partitions asked for.
pub async fn a_topic_is_made_once_and_described(log: &Log, topic: &str) {
    assert!(!log.topics().await.unwrap().contains(&topic.to_owned()), "{topic} must be free for this suite");
    log.create_topic(topic, 3).await.unwrap();
    let again = log.create_topic(topic, 3).await.unwrap_err();
    assert!(matches!(&again, Error::TopicExists(name) if name == topic), "{again}");

    let topics = log.topics().await.unwrap();
    assert!(topics.contains(&topic.to_owned()), "{topics:?}");
    assert!(topics.is_sorted(), "{topics:?}");

    let described = log.describe(topic).await.unwrap();
    assert_eq!(described.name, topic);
    assert!(!described.generation.is_empty(), "a generation tells a topic from its namesake");
    assert_eq!(described.generation, log.generation(topic).await.unwrap());
    let ids: Vec<_> = described.partitions.iter().map(|partition| partition.partition).collect();
    assert_eq!(ids, [0, 1, 2]);

    let brokers = log.brokers().await.unwrap();
    for partition in &described.partitions {
        assert!(
            partition.leader == -1 || brokers.contains(&partition.leader),
            "{partition:?} of {brokers:?}"
        );
    }
    let other = format!("{topic}.other");
    log.create_topic(&other, 1).await.unwrap();
    assert_ne!(log.generation(&other).await.unwrap(), described.generation);
}

/// Names that Kafka refuses are refused, and so is a topic without partitions.
pub async fn a_bad_topic_name_is_refused(log: &Log, topic: &str) {
    for name in ["", ".", "..", "a/b", "../escape", "white space", "ü", &"x".repeat(MAX_TOPIC_NAME + 1)] {
        let error = log.create_topic(name, 1).await.unwrap_err();
        assert!(matches!(error, Error::InvalidTopic { .. }), "{name:?}: {error}");
    }
    log.create_topic(topic, 0).await.unwrap_err();
    let topics = log.topics().await.unwrap();
    assert!(!topics.contains(&topic.to_owned()), "a refused topic does not exist: {topics:?}");
}

/// Every call on an unknown topic or partition says so, and makes nothing.
pub async fn what_does_not_exist_is_named(log: &Log, topic: &str) {
    for call in every_call(log, topic, 0).await {
        assert!(matches!(&call, Error::UnknownTopic(name) if name == topic), "{call}");
    }
    let error = log.describe(topic).await.unwrap_err();
    assert!(matches!(&error, Error::UnknownTopic(name) if name == topic), "{error}");
    assert!(!log.topics().await.unwrap().contains(&topic.to_owned()));

    log.create_topic(topic, 2).await.unwrap();
    for call in every_call(log, topic, 2).await {
        assert!(matches!(&call, Error::UnknownPartition { partition: 2, .. }), "{call}");
    }
}

async fn every_call(log: &Log, topic: &str, partition: u32) -> Vec<Error> {
    vec![
        log.append(topic, partition, vec![text("x")]).await.unwrap_err(),
        log.read(topic, partition, 0, AT_ONCE).await.unwrap_err(),
        log.offsets(topic, partition).await.unwrap_err(),
        log.offset_at(topic, partition, 0).await.unwrap_err(),
        log.position("reader", topic, partition).await.unwrap_err(),
        log.commit_position("reader", topic, partition, 0).await.unwrap_err(),
        log.forget_before(topic, partition, 0).await.unwrap_err(),
        log.gaps(topic, partition).await.unwrap_err(),
    ]
}

/// Keys, values and headers come back as they were given, in order.
pub async fn an_append_gives_ascending_offsets_and_reads_give_the_same_bytes(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    let everything: Vec<u8> = (0..=255).collect();
    let headers = vec![
        ("trace".to_owned(), Some(Bytes::from_static(b"1"))),
        ("trace".to_owned(), Some(Bytes::from_static(b"2"))),
        ("none".to_owned(), None),
        (String::new(), Some(Bytes::new())),
    ];
    let rich = Record {
        key: Some(Bytes::from_static(b"key")),
        value: Some(everything.into()),
        headers,
        timestamp_ms: None,
    };
    let large = Record { value: Some(vec![b'x'; 1024 * 1024 - 1024].into()), ..Record::default() };
    let appended = vec![text("first"), rich, text("Grüße 🦀"), large];

    let mut offsets = log.append(topic, 0, appended[..2].to_vec()).await.unwrap();
    offsets.extend(log.append(topic, 0, appended[2..].to_vec()).await.unwrap());
    assert_eq!(offsets.len(), appended.len());
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");

    let read = read_all(log, topic, 0).await;
    assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), offsets);
    assert_eq!(read.into_iter().map(as_given).collect::<Vec<_>>(), appended);

    let range = log.offsets(topic, 0).await.unwrap();
    assert_eq!((range.beginning, range.end), (offsets[0], offsets[3] + 1));
    let from_third = log.read(topic, 0, offsets[2], AT_ONCE).await.unwrap();
    assert_eq!(from_third.first().map(|record| record.offset), Some(offsets[2]));
}

/// A missing key is no empty key, a tombstone no empty value.
pub async fn null_and_empty_are_kept_apart(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    let shapes = [None, Some(Bytes::new()), Some(Bytes::from_static(b"null"))];
    let mut appended = Vec::new();
    for key in &shapes {
        for value in &shapes {
            appended.push(Record { key: key.clone(), value: value.clone(), ..Record::default() });
        }
    }
    log.append(topic, 0, appended.clone()).await.unwrap();
    let read = read_all(log, topic, 0).await;
    assert_eq!(read.into_iter().map(as_given).collect::<Vec<_>>(), appended);
}

/// Nothing appended is nothing stored.
pub async fn an_empty_append_changes_nothing(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    assert_eq!(log.append(topic, 0, Vec::new()).await.unwrap(), Vec::<u64>::new());
    let range = log.offsets(topic, 0).await.unwrap();
    assert_eq!(range.beginning, range.end);
    assert!(log.read(topic, 0, range.end, AT_ONCE).await.unwrap().is_empty());
}

/// The limit ends a read early, and never before the first record.
pub async fn a_read_is_limited_by_bytes_but_gives_at_least_one_record(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    let value = "v".repeat(1000);
    let records = (0..100).map(|_| text(&value)).collect();
    let first = log.append(topic, 0, records).await.unwrap()[0];

    let tiny = log.read(topic, 0, first, ReadLimit { max_bytes: 1, ..AT_ONCE }).await.unwrap();
    assert_eq!(tiny.len(), 1, "one record is always given");
    let some = log.read(topic, 0, first, ReadLimit { max_bytes: 10_000, ..AT_ONCE }).await.unwrap();
    assert!((1..100).contains(&some.len()), "{} records of 1,000 bytes within 10,000 bytes", some.len());
    assert_eq!(read_all(log, topic, 0).await.len(), 100);
}

/// Before the beginning and after the end is an error, at the end it is empty.
pub async fn a_read_outside_the_offsets_is_an_error(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    log.append(topic, 0, vec![text("a"), text("b")]).await.unwrap();
    let end = log.offsets(topic, 0).await.unwrap().end;
    assert!(log.read(topic, 0, end, AT_ONCE).await.unwrap().is_empty());
    for beyond in [end + 1, u64::MAX] {
        let error = log.read(topic, 0, beyond, AT_ONCE).await.unwrap_err();
        assert!(
            matches!(&error, Error::OffsetOutOfRange { offset, end: held, .. } if *offset == beyond && *held == end),
            "{error}"
        );
    }
}

/// A waiting read is woken by the record it waits for, and ends empty when its time is up.
pub async fn a_read_at_the_end_waits_for_the_next_record(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    let end = log.append(topic, 0, vec![text("before")]).await.unwrap()[0] + 1;
    let short = ReadLimit { max_wait: Duration::from_millis(5), ..AT_ONCE };
    assert!(log.read(topic, 0, end, short).await.unwrap().is_empty());

    let (reader, name) = (Arc::clone(log), topic.to_owned());
    let waiting = tokio::spawn(async move { reader.read(&name, 0, end, PATIENT).await });
    log.append(topic, 0, vec![text("awaited")]).await.unwrap();
    let woken = waiting.await.unwrap().unwrap();
    assert_eq!(woken.into_iter().map(as_given).collect::<Vec<_>>(), [text("awaited")]);
}

/// Each partition counts and keeps for itself.
pub async fn partitions_do_not_mix(log: &Log, topic: &str) {
    log.create_topic(topic, 3).await.unwrap();
    for partition in 0..3 {
        let records = (0..=partition).map(|n| text(&format!("{partition}-{n}"))).collect();
        log.append(topic, partition, records).await.unwrap();
    }
    for partition in 0..3 {
        let expected: Vec<_> = (0..=partition).map(|n| text(&format!("{partition}-{n}"))).collect();
        let read = read_all(log, topic, partition).await;
        assert_eq!(read.into_iter().map(as_given).collect::<Vec<_>>(), expected);
    }
}

/// Many writers at once: nothing lost, nothing twice, each writer's records in its order, each answer true.
pub async fn concurrent_appends_keep_each_record_once_and_each_writer_in_order(log: &Log, topic: &str) {
    const WRITERS: usize = 16;
    const ROUNDS: usize = 20;
    log.create_topic(topic, 2).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (log, topic) = (Arc::clone(log), topic.to_owned());
        writers.spawn(async move {
            let partition = u32::try_from(writer % 2).unwrap();
            let mut acknowledged = Vec::new();
            for round in 0..ROUNDS {
                let names: Vec<_> = (0..=round % 3).map(|n| format!("{writer}:{round}:{n}")).collect();
                let records = names.iter().map(|name| text(name)).collect();
                let offsets = log.append(&topic, partition, records).await.unwrap();
                assert_eq!(offsets.len(), names.len());
                acknowledged
                    .extend(offsets.into_iter().zip(names).map(|(offset, name)| (partition, offset, name)));
            }
            assert!(acknowledged.is_sorted_by(|a, b| a.1 < b.1), "a writer's records keep their order");
            acknowledged
        });
    }
    let mut acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    acknowledged.sort();

    let mut stored = Vec::new();
    for partition in 0..2 {
        for record in read_all(log, topic, partition).await {
            let name = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            stored.push((partition, record.offset, name));
        }
    }
    assert_eq!(stored, acknowledged);
}

/// Time stamps are ascending in a partition, and lead to offsets.
pub async fn time_stamps_never_go_back_and_find_offsets(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    assert_eq!(
        log.offset_at(topic, 0, 0).await.unwrap(),
        None,
        "an empty partition has no record of any age"
    );
    for n in 0..50 {
        log.append(topic, 0, vec![text(&n.to_string())]).await.unwrap();
    }
    let read = read_all(log, topic, 0).await;
    assert!(
        read.iter().all(|record| record.timestamp_ms > 1_500_000_000_000),
        "stamped when they were appended"
    );
    assert!(read.is_sorted_by_key(|record| record.timestamp_ms));

    let (oldest, newest) = (&read[0], &read[49]);
    assert_eq!(log.offset_at(topic, 0, oldest.timestamp_ms).await.unwrap(), Some(oldest.offset));
    assert_eq!(log.offset_at(topic, 0, i64::MIN).await.unwrap(), Some(oldest.offset));
    assert_eq!(log.offset_at(topic, 0, newest.timestamp_ms + 1).await.unwrap(), None);
    let first_of_newest = read.iter().find(|record| record.timestamp_ms >= newest.timestamp_ms);
    let found = log.offset_at(topic, 0, newest.timestamp_ms).await.unwrap();
    assert_eq!(found, first_of_newest.map(|record| record.offset));
}

/// A reader goes on where it said, whatever others say.
pub async fn positions_are_kept_for_each_reader(log: &Log, topic: &str) {
    log.create_topic(topic, 2).await.unwrap();
    log.append(topic, 0, (0..10).map(|n| text(&n.to_string())).collect()).await.unwrap();
    let (one, two) = (format!("{topic}.one"), format!("{topic}.two"));
    assert_eq!(log.position(&one, topic, 0).await.unwrap(), None);
    log.commit_position(&one, topic, 0, 4).await.unwrap();
    log.commit_position(&two, topic, 0, 7).await.unwrap();
    log.commit_position(&one, topic, 0, 5).await.unwrap();
    assert_eq!(log.position(&one, topic, 0).await.unwrap(), Some(5));
    assert_eq!(log.position(&two, topic, 0).await.unwrap(), Some(7));
    assert_eq!(log.position(&one, topic, 1).await.unwrap(), None);
}

/// What is forgotten is at most what every reader has passed, and nothing from the offset on.
pub async fn what_is_forgotten_ends_where_a_reader_goes_on(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    for n in 0..10 {
        log.append(topic, 0, vec![text(&n.to_string())]).await.unwrap();
    }
    log.commit_position("slow", topic, 0, 4).await.unwrap();
    for before in [4, 8] {
        log.forget_before(topic, 0, before).await.unwrap();
        let held = log.offsets(topic, 0).await.unwrap();
        assert!(held.beginning <= 4, "the reader has yet to read from 4 on, not from {}", held.beginning);
        assert_eq!(held.end, 10);
        let read = log.read(topic, 0, 4, AT_ONCE).await.unwrap();
        assert_eq!(read.first().map(|record| record.offset), Some(4));
    }
}

/// Whatever is to be forgotten, the records from there on stay, and new ones come behind them.
pub async fn what_is_not_to_be_forgotten_stays(log: &Log, topic: &str) {
    log.create_topic(topic, 1).await.unwrap();
    let mut end = 0;
    for before in [0, 1, 3, 10, 11, 100, u64::MAX] {
        for n in 0..5 {
            let offset = log.append(topic, 0, vec![text(&format!("{before}-{n}"))]).await.unwrap()[0];
            assert!(offset >= end, "offset {offset} was given before");
            end = offset + 1;
        }
        // Twice: the second time there may be nothing more to forget.
        for _ in 0..2 {
            log.forget_before(topic, 0, before).await.unwrap();
            let held = log.offsets(topic, 0).await.unwrap();
            assert_eq!(held.end, end);
            assert!(held.beginning <= before.min(end), "{held:?} after forgetting what lies before {before}");
            let read = read_all(log, topic, 0).await;
            assert_eq!(
                read.last().map(|record| record.offset + 1),
                Some(end).filter(|end| *end > held.beginning)
            );
        }
    }
}

/// Offsets that are left out lie in a gap, and the next record behind it. A log that cannot leave any out says so, and
/// stays as it is.
pub async fn offsets_that_are_left_out_are_given_to_no_record(log: &Log, topic: &str) {
    let unknown = log.skip_to(topic, "none", 0, 1).await.unwrap_err();
    assert!(matches!(&unknown, Error::UnknownTopic(name) if name == topic), "{unknown}");
    log.create_topic(topic, 1).await.unwrap();
    log.append(topic, 0, vec![text("a"), text("b")]).await.unwrap();
    let generation = log.generation(topic).await.unwrap();
    let held = log.offsets(topic, 0).await.unwrap();
    let gap = OffsetRange { beginning: held.end, end: held.end + 5 };
    for (generation, partition, next) in [
        ("another", 0, gap.end),
        ("another", 2, 4),
        (generation.as_str(), 0, 0),
        (generation.as_str(), 0, held.end),
        (generation.as_str(), 2, 0),
    ] {
        let skipped = log.skip_to(topic, generation, partition, next).await.unwrap();
        assert_eq!(skipped, None, "{partition} to {next} in generation {generation}");
    }
    assert_stands_at(log, topic, held).await;

    match log.skip_to(topic, &generation, 0, gap.end).await {
        Ok(skipped) => assert_eq!(skipped, Some(gap)),
        Err(Error::Failed(_)) => {
            let failed = log.skip_to(topic, &generation, 2, 4).await.unwrap_err();
            assert!(matches!(failed, Error::Failed(_)), "{failed}");
            return assert_stands_at(log, topic, held).await;
        }
        Err(error) => panic!("a log that cannot leave offsets out says that it failed, not: {error}"),
    }
    assert_eq!(log.skip_to(topic, &generation, 0, gap.end).await.unwrap(), None, "they are left out already");
    let next = log.append(topic, 0, vec![text("c")]).await.unwrap()[0];
    assert!(next >= gap.end, "offset {next} was to be left out");
    assert_eq!(log.gaps(topic, 0).await.unwrap(), [OffsetRange { end: next, ..gap }]);
    for offset in [gap.beginning, gap.end - 1] {
        let read = log.read(topic, 0, offset, AT_ONCE).await.unwrap();
        assert_eq!(
            read.into_iter().map(as_given).collect::<Vec<_>>(),
            [text("c")],
            "from offset {offset} on"
        );
    }
    let values: Vec<_> = read_all(log, topic, 0).await.into_iter().map(as_given).collect();
    assert_eq!(values, [text("a"), text("b"), text("c")]);

    let skipped = log.skip_to(topic, &generation, 2, 4).await.unwrap();
    assert_eq!(skipped.map(|skipped| skipped.end), Some(4));
    assert_eq!(
        log.describe(topic).await.unwrap().partitions.len(),
        3,
        "a partition that was missing is made"
    );
    assert!(log.append(topic, 2, vec![text("d")]).await.unwrap()[0] >= 4);

    log.forget_before(topic, 0, next).await.unwrap();
    let held = log.offsets(topic, 0).await.unwrap();
    let gaps = log.gaps(topic, 0).await.unwrap();
    assert!(
        gaps.iter().all(|gap| held.beginning <= gap.beginning && gap.end <= held.end),
        "{gaps:?} in {held:?}"
    );
}

/// A topic of one partition that ends where it did, without gaps.
async fn assert_stands_at(log: &Log, topic: &str, held: OffsetRange) {
    assert_eq!(log.offsets(topic, 0).await.unwrap(), held);
    assert_eq!(log.gaps(topic, 0).await.unwrap(), []);
    assert_eq!(log.describe(topic).await.unwrap().partitions.len(), 1);
}

/// New partitions are empty, old ones keep records and offsets, and asking for fewer changes nothing.
pub async fn a_topic_grows_and_keeps_what_it_has(log: &Log, topic: &str) {
    let unknown = log.add_partitions(topic, 2).await.unwrap_err();
    assert!(matches!(&unknown, Error::UnknownTopic(name) if name == topic), "{unknown}");
    log.create_topic(topic, 1).await.unwrap();
    log.append(topic, 0, vec![text("old")]).await.unwrap();
    let generation = log.describe(topic).await.unwrap().generation;

    for (total, expected) in [(3, 3), (3, 3), (1, 3)] {
        log.add_partitions(topic, total).await.unwrap();
        let described = log.describe(topic).await.unwrap();
        assert_eq!(described.partitions.len(), expected);
        assert_eq!(described.generation, generation, "a topic that grew is the same topic");
    }
    assert_eq!(read_all(log, topic, 0).await.into_iter().map(as_given).collect::<Vec<_>>(), [text("old")]);
    let fresh = log.offsets(topic, 2).await.unwrap();
    assert_eq!(fresh.beginning, fresh.end);
    log.append(topic, 2, vec![text("new")]).await.unwrap();
    assert_eq!(read_all(log, topic, 2).await.into_iter().map(as_given).collect::<Vec<_>>(), [text("new")]);
}

/// Deleting takes records and positions along; a topic of the same name is another one.
pub async fn a_deleted_topic_is_gone_and_its_namesake_starts_anew(log: &Log, topic: &str) {
    let unknown = log.delete_topic(topic).await.unwrap_err();
    assert!(matches!(&unknown, Error::UnknownTopic(name) if name == topic), "{unknown}");
    log.create_topic(topic, 2).await.unwrap();
    log.append(topic, 1, vec![text("old")]).await.unwrap();
    log.commit_position(&format!("{topic}.reader"), topic, 1, 1).await.unwrap();
    let old = log.generation(topic).await.unwrap();

    log.delete_topic(topic).await.unwrap();
    assert!(!log.topics().await.unwrap().contains(&topic.to_owned()));
    for call in every_call(log, topic, 1).await {
        assert!(matches!(&call, Error::UnknownTopic(name) if name == topic), "{call}");
    }
    log.create_topic(topic, 2).await.unwrap();
    assert_ne!(log.generation(topic).await.unwrap(), old);
    assert!(read_all(log, topic, 1).await.is_empty());
    assert_eq!(log.position(&format!("{topic}.reader"), topic, 1).await.unwrap(), None);
}

fn text(value: &str) -> Record {
    Record { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Record::default() }
}

fn as_given(stored: StoredRecord) -> Record {
    let StoredRecord { key, value, headers, .. } = stored;
    Record { key, value, headers, timestamp_ms: None }
}

/// Reads a partition from its beginning to its end.
async fn read_all(log: &Log, topic: &str, partition: u32) -> Vec<StoredRecord> {
    let range = log.offsets(topic, partition).await.unwrap();
    let mut next = range.beginning;
    let mut all: Vec<StoredRecord> = Vec::new();
    while next < range.end {
        let read = log.read(topic, partition, next, AT_ONCE).await.unwrap();
        let last =
            read.last().unwrap_or_else(|| panic!("{topic}/{partition} gave nothing at {next} of {range:?}"));
        next = last.offset + 1;
        all.extend(read);
    }
    assert!(all.is_sorted_by(|a, b| a.offset < b.offset), "{topic}/{partition} is read in order");
    all
}
