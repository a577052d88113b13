//! Bad records: never in the way of good ones, never lost, never silent.

use bytes::Bytes;
use pinmill_flow::quarantine::{self, Filter, QuarantinedRecord};
use pinmill_flow::{CleanOptions, CleanReport, Error, Half, Logs, Result, StepLimit, StreamConfig};
use pinmill_lake::table::Table;
use pinmill_lake::{RecordId, TopicPartition};
use serde_json::json;

use crate::stream::quick;
use crate::support::{CLEAN, World, bad, good, pipeline, small};

/// Lets a half take all there is of `user`, a topic and a stream at once.
pub(crate) async fn load(world: &World, half: Half) -> Result<CleanReport> {
    match half {
        Half::Batch => {
            world.archive().await;
            world.clean_with(&CleanOptions::default()).await
        }
        Half::Stream => world.streamer(world.event_log(), quick()).run_once().await,
    }
}

/// What a half has put aside.
pub(crate) async fn quarantined(world: &World, half: Half) -> Vec<QuarantinedRecord> {
    quarantine::list(&world.pipeline, &world.lake, half, &Filter::default(), usize::MAX / 2).await.unwrap()
}

/// What a half holds adds up to what the log has.
pub(crate) async fn assert_adds_up(world: &World, half: Half) {
    match half {
        Half::Batch => world.assert_balanced().await,
        Half::Stream => world.assert_streamed(&*world.log).await,
    }
}

/// Nothing but bad records raises no alarm of its own: a half's report and `status` tell it by their numbers.
#[tokio::test(flavor = "multi_thread")]
async fn one_ten_and_a_hundred_percent_bad_in_both_halves() {
    for (half, one_bad_in) in Half::ALL.into_iter().flat_map(|half| [100, 10, 1].map(|n| (half, n))) {
        let mut rng = pinmill_testkit::rng();
        let world = World::new(small());
        world.topic("user", 1).await;
        world.post_some(&mut rng, "user", 0, 2000, one_bad_in).await;
        // One at least, whatever was drawn.
        world.post("user", 0, [bad(7)]).await;
        let loaded = load(&world, half).await.unwrap().datasets.remove(0);
        assert!(loaded.quarantined > 0, "{loaded:?}");
        assert_eq!((loaded.records, loaded.clean + loaded.quarantined, loaded.commits), (2001, 2001, 1));
        if one_bad_in == 1 {
            assert_eq!((loaded.clean, loaded.files), (0, 0), "{loaded:?}");
        }
        world.assert_settled_in(half, "user").await;
        assert_adds_up(&world, half).await;
        let status = pinmill_flow::status(&world.pipeline, Logs::default(), &world.lake, 0).await.unwrap();
        let table = status.iter().find(|table| table.half == half).unwrap();
        assert_eq!((table.rows, table.quarantined), (loaded.clean, loaded.quarantined));
        let again = load(&world, half).await.unwrap().datasets.remove(0);
        assert_eq!((again.records, again.commits), (0, 0), "bad records are not tried again and again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_alternations_in_both_halves() {
    let world = World::new(small());
    world.topic("user", 1).await;
    world.post("user", 0, (0..1000).flat_map(|n| [good(n), bad(n)])).await;
    for half in Half::ALL {
        let loaded = load(&world, half).await.unwrap().datasets.remove(0);
        assert_eq!((loaded.clean, loaded.quarantined), (1000, 1000), "{half}");
        world.assert_settled_in(half, "user").await;
    }
}

/// A row whose SQL fails takes no other row with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_the_sql_is_isolated() {
    let clean = "SELECT ind, btrim(name) AS name, CAST(100 / (age - 33) AS INT) AS age FROM raw_user\n";
    let world = World::new(pipeline(
        |manifest| manifest.split("[[dataset.expect]]").next().unwrap().to_owned(),
        clean,
    ));
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..200).map(good)).await;
    world.archive().await;
    let report = world.clean().await;
    assert_eq!((report.datasets[0].clean, report.datasets[0].quarantined), (195, 5), "five are 33 years old");
    let quarantined = world.quarantined().await;
    assert!(
        quarantined.iter().all(|record| record.reason.contains("clean/user.sql failed")),
        "{quarantined:?}"
    );
    world.assert_balanced().await;
}

/// A record brings a format whose width no formatting takes: DataFusion would panic at it. (That a function which does
/// panic takes only its own row with it is tested beside the cleaner, with one that always can.)
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_a_function_cannot_take_is_isolated_and_passed_in_both_halves() {
    let clean = "SELECT ind, format_string(name, age) AS name, age FROM raw_user\n";
    let world = World::new(pipeline(str::to_owned, clean));
    world.topic("user", 1).await;
    let record = |name: &str| Some(Bytes::from(format!(r#"{{"ind":1,"name":"{name}","age":30}}"#)));
    let poison = record("%4294967296d");
    world.post("user", 0, (0..50).map(good).chain([poison.clone()]).chain((50..100).map(good))).await;
    world.post("user", 0, [record("%d years")]).await;
    for half in Half::ALL {
        let loaded = load(&world, half).await.unwrap().datasets.remove(0);
        assert_eq!((loaded.clean, loaded.quarantined, loaded.commits), (101, 1, 1), "{half}");
        let aside = quarantined(&world, half).await;
        let [aside] = &aside[..] else { panic!("{half}: {aside:?}") };
        assert_eq!(aside.id, RecordId::new(TopicPartition::new("user", 0), 50), "{half}");
        assert!(
            aside.reason.contains("a width or precision may be at most 65535"),
            "{half}: {}",
            aside.reason
        );
        assert_eq!(aside.raw, poison, "{half}");
        let last = world.sql_from(half, "SELECT name FROM user_all WHERE _offset = 101").await;
        assert_eq!(last, [[json!("30 years")]], "{half}: the function works on");
        // The position is behind it: it is not tried again, and what comes is cleaned.
        let mut table = Table::open(&world.lake, &half.table("user")).await.unwrap().unwrap();
        assert_eq!(table.position(&TopicPartition::new("user", 0)).await.unwrap(), Some(101), "{half}");
        assert_eq!(load(&world, half).await.unwrap().records(), 0, "{half}");
        assert_adds_up(&world, half).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_stops_commits_nothing_and_names_the_first_offender() {
    let stops = pipeline(|manifest| format!("{manifest}action = \"stop\"\n"), CLEAN);
    let world = World::new(stops);
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..500).map(good)).await;
    let too_young = |n: u64| Some(Bytes::from(format!(r#"{{"ind":{n},"age":0}}"#)));
    world.post("t.user", 0, [too_young(1), bad(3), too_young(2)]).await;
    world.post("t.user", 0, (0..500).map(good)).await;
    world.archive().await;
    let options = CleanOptions { chunk_bytes: 4000, workers: Some(3), ..CleanOptions::default() };
    let error = world.clean_with(&options).await.unwrap_err();
    let Error::Stopped { id, reason, dataset } = &error else { panic!("{error}") };
    assert_eq!((dataset.as_str(), id), ("user", &RecordId::new(TopicPartition::new("t.user", 0), 500)));
    assert!(reason.contains("age 0 is not positive"), "{reason}");
    assert!(error.hint().is_some());
    assert_eq!(world.sql("SELECT count(*) FROM user_all").await[0][0], 0);
    assert_eq!(world.quarantined().await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_warns_keeps_the_row_and_says_so() {
    let world = World::new(pipeline(|manifest| format!("{manifest}action = \"warn\"\n"), CLEAN));
    world.topic("t.user", 1).await;
    world.post("t.user", 0, [good(1), Some(Bytes::from_static(b"{\"ind\":7,\"age\":-3}"))]).await;
    world.archive().await;
    let report = world.clean().await;
    assert_eq!(report.datasets[0].clean, 2);
    assert_eq!(report.warnings(), ["user: expectation `age_is_positive` is violated (1)"]);
}

/// Records that were put aside by each commit of a table: so many were in memory at once.
async fn put_aside_at_once(table: &Table) -> Vec<u64> {
    let history = table.history(usize::MAX).await.unwrap();
    let ranges =
        |entry: &pinmill_lake::table::HistoryEntry| entry.ranges.iter().map(|range| range.quarantined).sum();
    history.iter().map(ranges).filter(|quarantined| *quarantined > 0).collect()
}

/// A small record takes much more memory in quarantine than its bytes: its identity and its reason are held too.
#[tokio::test(flavor = "multi_thread")]
async fn many_small_bad_records_of_one_object_are_committed_in_steps_of_bounded_memory() {
    const RECORDS: u64 = 90_000;
    const LIMIT: u64 = 1 << 20;
    /// A piece of a chunk: what is under way to two workers comes on top of the limit.
    const PIECE: u64 = 8192;
    for half in Half::ALL {
        let world = World::new(small());
        world.topic("user", 1).await;
        world.post("user", 0, (0..RECORDS).map(|_| Some(Bytes::from_static(b"x")))).await;
        world.post("user", 0, [good(1)]).await;
        let step = StepLimit { rejected_bytes: LIMIT, ..StepLimit::default() };
        let report = match half {
            Half::Batch => {
                let archived = world.archive().await;
                assert_eq!(archived.objects, 1, "no end of an object helps");
                let options = CleanOptions { step, workers: Some(2), ..CleanOptions::default() };
                world.clean_with(&options).await.unwrap()
            }
            Half::Stream => {
                let config = StreamConfig { step, workers: Some(2), fetch_bytes: 4 << 10, ..quick() };
                world.streamer(world.event_log(), config).run_once().await.unwrap()
            }
        };
        assert_eq!((report.datasets[0].clean, report.datasets[0].quarantined), (1, RECORDS), "{half}");
        let table = Table::open(&world.lake, &half.table("user")).await.unwrap().unwrap();
        let at_once = put_aside_at_once(&table).await;
        let held = quarantined(&world, half).await[0].memory() as u64;
        assert!(held > 200, "identity and reason count: {held}");
        let most = LIMIT / held + 6 * PIECE;
        assert!(
            at_once.len() > 1 && at_once.iter().all(|count| *count <= most),
            "{half}: {at_once:?}, {most}"
        );
        assert_adds_up(&world, half).await;
    }
}

/// Cut in its middle is only an object whose end was read: nothing is committed that its manifest does not vouch for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_damaged_object_is_committed_however_much_of_it_is_rejected() {
    let world = World::new(small());
    world.topic("user", 1).await;
    world.post("user", 0, (0..100_000).map(|n: u32| Some(Bytes::from(format!("bad {n:06}"))))).await;
    world.archive().await;
    let step = StepLimit { rejected_bytes: 1 << 20, ..StepLimit::default() };
    let options = CleanOptions { step, ..CleanOptions::default() };
    let object = world.dir.path().join("topics/user/partition=0/user+0+0000000000.json");
    let whole = std::fs::read(&object).unwrap();
    let mut damaged = whole.clone();
    let last = damaged.len() - 3;
    damaged[last] = b'7';
    std::fs::write(&object, damaged).unwrap();
    let report = world.clean_with(&options).await.unwrap();
    let [damaged] = &report.datasets[0].damaged[..] else { panic!("{report:?}") };
    assert_eq!(damaged.path, "topics/user/partition=0/user+0+0000000000.json");
    assert_eq!(quarantined(&world, Half::Batch).await.len(), 0);
    std::fs::write(&object, whole).unwrap();
    let report = world.clean_with(&options).await.unwrap();
    assert_eq!(report.datasets[0].quarantined, 100_000);
    assert!(report.datasets[0].commits > 1);
    world.assert_balanced().await;
}
