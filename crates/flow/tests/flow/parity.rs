//! The same records give the same rows in both halves, bit for bit, however they are read, shared out and committed.

use std::sync::Arc;

use bytes::Bytes;
use pinmill_broker::{EventLog, Record};
use pinmill_flow::{AuditOptions, CleanOptions, Half, StepLimit, StreamConfig};
use pinmill_lake::table::{RowsSum, Table};
use pinmill_pipeline::Pipeline;
use rand::{Rng, RngExt};

use crate::stream::{Shards, quick};
use crate::support::{World, bad, pipeline};

/// A topic and a stream at once: both halves take it.
const BOTH: &str = "user";

/// Columns of every kind, and where each row came from.
const COLUMNS: [&str; 15] = [
    "ind",
    "name",
    "loud",
    "age",
    "score",
    "third",
    "joined",
    "born",
    "active",
    "_topic",
    "_lineage",
    "_partition",
    "_offset",
    "_sub",
    "_ingested_at",
];

const CLEAN: &str = "
SELECT
  ind,
  btrim(name) AS name,
  upper(name) AS loud,
  age,
  score,
  score / 3 AS third,
  coalesce(
    try_to_timestamp(trim(joined), 'MM/dd/yyyy, HH:mm:ss'),
    try_to_timestamp(trim(joined), 'yyyy-MM-dd HH:mm:ss')
  ) AS joined,
  try_to_date(born, 'yyyy-MM-dd') AS born,
  active
FROM raw_user
";

/// The small pipeline, with floats, times, dates and booleans.
fn rich() -> Pipeline {
    let age = r#"{ name = "age", type = "INT" },"#;
    let more = r#"
    { name = "score", type = "DOUBLE" },
    { name = "joined", type = "STRING" },
    { name = "born", type = "STRING" },
    { name = "active", type = "BOOLEAN" },"#;
    pipeline(|manifest| manifest.replacen(age, &format!("{age}{more}"), 1), CLEAN)
}

/// Words of several scripts and lengths, each repeated.
fn text(dice: &mut impl Rng, words: usize, repeat: usize) -> String {
    const WORDS: [&str; 14] = [
        "No",
        " ",
        "x",
        "é",
        "e\u{301}",
        "straße",
        "İı",
        "Ωμέγα",
        "日本語",
        "🙂",
        "👩\u{200d}👧",
        "مرحبا",
        "\"\\/\t",
        "\u{202e}abc",
    ];
    (0..words).map(|_| WORDS[dice.random_range(0..WORDS.len())].repeat(repeat)).collect()
}

/// Text as JSON, written with escapes alone or with as few as there may be.
fn quoted(dice: &mut impl Rng, text: &str) -> String {
    if dice.random_bool(0.5) {
        return serde_json::to_string(text).unwrap();
    }
    let escaped: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{}\"", escaped.concat())
}

/// A number as JSON; any finite double may come.
fn score(dice: &mut impl Rng) -> String {
    let odd = ["null", "0", "-0.0", "0.1", "5e-324", "1e308", "9007199254740993", "\"2.5\""];
    match odd.get(dice.random_range(0..2 * odd.len())) {
        Some(odd) => (*odd).to_owned(),
        None => {
            let any = f64::from_bits(dice.random());
            format!("{:e}", if any.is_finite() { any } else { 1.5 })
        }
    }
}

/// The text of a moment, in one of two forms, or of something else.
fn joined(dice: &mut impl Rng) -> String {
    let (year, month, day) = date(dice);
    let (hour, minute, second) =
        (dice.random_range(0..24), dice.random_range(0..60), dice.random_range(0..60));
    match dice.random_range(0..8) {
        0 => "\"never\"".to_owned(),
        1..4 => format!("\"{month:02}/{day:02}/{year}, {hour:02}:{minute:02}:{second:02}\""),
        _ => format!("\"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}\""),
    }
}

/// A date; some are of no calendar.
fn date(dice: &mut impl Rng) -> (u32, u32, u32) {
    (dice.random_range(1900..2100), dice.random_range(1..=12), dice.random_range(1..=31))
}

/// A record, one in six of them bad. Its text has some words, each repeated.
fn record(dice: &mut impl Rng, words: usize, repeat: usize) -> Option<Bytes> {
    let number: u64 = dice.random_range(0..1_000_000);
    if dice.random_range(0..6) == 0 {
        return bad(number);
    }
    let words = dice.random_range(0..=words);
    let name = text(dice, words, repeat);
    let (year, month, day) = date(dice);
    let mut members = vec![
        ("name", quoted(dice, &name)),
        ("score", score(dice)),
        ("joined", joined(dice)),
        ("born", format!("\"{year}-{month:02}-{day:02}\"")),
        ("active", ["true", "false", "null", "0", "\"true\""][dice.random_range(0..5)].to_owned()),
    ];
    // Members may be missing, but for these two, and stand in any order.
    members.retain(|_| !dice.random_bool(0.1));
    members.extend([("ind", number.to_string()), ("age", dice.random_range(1_u32..100).to_string())]);
    let first = dice.random_range(0..members.len());
    members.rotate_left(first);
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    Some(format!("{{{}}}", members.join(",")).into())
}

/// Gives a log these records, at times that are the same for every log.
async fn give(log: &dyn EventLog, values: &[Option<Bytes>]) {
    let record = |(at_ms, value): (i64, &Option<Bytes>)| Record {
        value: value.clone(),
        timestamp_ms: Some(1_700_000_000_000 + at_ms),
        ..Record::default()
    };
    log.append(BOTH, 0, (0..).zip(values).map(record).collect()).await.unwrap();
}

async fn sum(world: &World, half: Half) -> RowsSum {
    let table = Table::open(&world.lake, &half.table("user")).await.unwrap().unwrap();
    table.sum_of(&COLUMNS).await.unwrap()
}

/// The rows of the batch half.
async fn batch(values: &[Option<Bytes>], options: &CleanOptions) -> RowsSum {
    let world = World::new(rich());
    world.topic(BOTH, 1).await;
    give(&*world.log, values).await;
    world.archive().await;
    world.clean_with(options).await.unwrap();
    world.assert_settled(BOTH).await;
    sum(&world, Half::Batch).await
}

/// The rows of the streaming half, where one read gives so many records at most; 0 for as many as its bytes allow.
async fn stream(values: &[Option<Bytes>], at_most: usize, config: StreamConfig) -> RowsSum {
    let world = World::new(rich());
    let log = Arc::new(Shards::default());
    log.create_topic(BOTH, 1).await.unwrap();
    give(&*log, values).await;
    log.read_at_most(at_most);
    let report = world.streamer(Arc::<Shards>::clone(&log), config).run_once().await.unwrap();
    assert_eq!(report.records(), values.len() as u64);
    sum(&world, Half::Stream).await
}

/// All in one commit.
fn one_step(fetch_bytes: usize, workers: usize) -> StreamConfig {
    let step = StepLimit { bytes: u64::MAX, records: u64::MAX, rejected_bytes: u64::MAX };
    StreamConfig { step, fetch_bytes, workers: Some(workers), ..quick() }
}

/// `PINMILL_ROWS=10000000` is the long form.
#[tokio::test(flavor = "multi_thread")]
async fn both_halves_give_the_same_rows_whatever_the_chunks_and_however_many_may_share_them() {
    let mut dice = pinmill_testkit::rng();
    let rows = pinmill_testkit::count("PINMILL_ROWS", 10_000);
    let values: Vec<_> = (0..rows).map(|_| record(&mut dice, 8, 1)).collect();
    for chunk in [1, 2, 7, 1_000, usize::MAX] {
        // Three hundred of the smallest tell as much as ten thousand.
        let some = values.get(..chunk.saturating_mul(300)).unwrap_or(&values);
        let wanted = batch(some, &CleanOptions::default()).await;
        for workers in [1, 4, 16] {
            let given = stream(some, chunk, one_step(4 << 20, workers)).await;
            assert_eq!(given, wanted, "{} rows, chunks of {chunk}, {workers} workers", some.len());
        }
    }
}

/// A worker more is worth its while with each eight MiB: here three have their share.
#[tokio::test(flavor = "multi_thread")]
async fn both_halves_give_the_same_rows_when_several_workers_share_them() {
    let mut dice = pinmill_testkit::rng();
    let (mut values, mut bytes) = (Vec::new(), 0);
    while bytes < 18 << 20 {
        let value = record(&mut dice, 24, 40);
        bytes += value.as_ref().map_or(0, Bytes::len);
        values.push(value);
    }
    let options = CleanOptions { workers: Some(16), chunk_bytes: 1 << 20, ..CleanOptions::default() };
    let wanted = batch(&values, &options).await;
    for workers in [1, 16] {
        assert_eq!(stream(&values, 0, one_step(1 << 20, workers)).await, wanted, "{workers} workers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_halves_give_the_same_rows_whatever_the_commits_and_the_audit_says_so() {
    let mut dice = pinmill_testkit::rng();
    let values: Vec<_> = (0..5_000).map(|_| record(&mut dice, 8, 1)).collect();
    // How many records a commit has, how many are read at a time, and how many workers share them.
    for (commit, chunk, workers) in [(1, 1, 4), (2, 1, 1), (7, 2, 16), (1_000, 300, 4)] {
        let some = &values[..values.len().min(60 * commit)];
        let world = World::new(rich());
        let log = Arc::new(Shards::default());
        world.topic(BOTH, 1).await;
        log.create_topic(BOTH, 1).await.unwrap();
        give(&*world.log, some).await;
        give(&*log, some).await;
        log.read_at_most(chunk);
        let config = StreamConfig {
            step: StepLimit { records: commit as u64, ..StepLimit::default() },
            workers: Some(workers),
            ..quick()
        };
        let report = world.streamer(Arc::<Shards>::clone(&log), config).run_once().await.unwrap();
        // The last commit may be a short one.
        assert!(report.datasets[0].commits >= (some.len() / (commit + chunk)) as u64, "{report:?}");
        world.assert_settled_in(Half::Stream, BOTH).await;
        world.archive().await;
        world.clean().await;
        assert_eq!(sum(&world, Half::Stream).await, sum(&world, Half::Batch).await, "commits of {commit}");
        let options = AuditOptions { same_rows: true, ..AuditOptions::default() };
        let both = world.stream_audit(&*log, options).await;
        assert!(both.balanced && both.halves.len() == 1 && both.halves[0].same, "{both:#?}");
    }
}
