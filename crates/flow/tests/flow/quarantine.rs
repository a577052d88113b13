//! Looking into quarantine, and cleaning what is there once more.

use std::collections::BTreeMap;

use bytes::Bytes;
use pinmill_broker::EventLog as _;
use pinmill_flow::Half;
use pinmill_flow::quarantine::{self, Filter};
use pinmill_lake::quarantine::Quarantine;
use pinmill_lake::table::{CommitPlan, Table, WriterOptions};
use pinmill_lake::{RecordId, TopicPartition};
use pinmill_pipeline::Pipeline;

use crate::support::{World, bad, good, small, tolerant};

fn old(n: u64) -> Option<Bytes> {
    Some(format!(r#"{{"ind":{n},"age":-{n}}}"#).into())
}

async fn world() -> World {
    let world = World::new(small());
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..10).map(good)).await;
    world.post("t.user", 0, (1..=20).map(old)).await;
    world.post("t.user", 0, [bad(2), bad(3)]).await;
    world.archive().await;
    world.clean().await;
    world
}

async fn table(world: &World) -> (i64, i64) {
    let row = world.sql("SELECT count(*), count(DISTINCT _offset) FROM user_all").await.remove(0);
    (row[0].as_i64().unwrap(), row[1].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_moves_what_passes_now_once_and_leaves_the_rest() {
    let mut world = world().await;
    assert_eq!(world.replay().await.unwrap().moved, 0, "the same SQL says the same");
    world.pipeline = tolerant();
    let report = world.replay().await.unwrap();
    assert_eq!((report.moved, report.remaining.values().sum::<u64>()), (20, 2));
    assert_eq!((table(&world).await, world.quarantined().await.len()), ((30, 30), 2));
    world.assert_balanced().await;
    assert_eq!(world.replay().await.unwrap().moved, 0, "a second time there is nothing to move");
    world.post("t.user", 0, (20..25).map(good)).await;
    world.archive().await;
    world.clean().await;
    assert_eq!((table(&world).await, world.quarantined().await.len()), ((35, 35), 2));
    world.assert_balanced().await;
    assert_eq!(world.replay().await.unwrap().moved, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replays_at_once_move_each_record_once() {
    let mut world = world().await;
    world.pipeline = tolerant();
    let (one, other) = tokio::join!(world.replay(), world.replay());
    let moved = one.as_ref().map_or(0, |r| r.moved) + other.as_ref().map_or(0, |r| r.moved);
    assert_eq!(moved, 20, "{one:?} {other:?}");
    assert_eq!(table(&world).await, (30, 30));
    world.assert_balanced().await;
}

/// What two cleans at once with different SQL may leave.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_has_a_row_already_is_taken_out_and_gets_no_second_one() {
    let world = world().await;
    let mut doubled = world.quarantined().await.remove(0);
    (doubled.id.offset, doubled.raw) = (3, good(3));
    let quarantine = Quarantine::open(&world.lake, Half::Batch.name()).await.unwrap();
    assert_eq!(quarantine.add(&[doubled]).await.unwrap(), 1);
    assert!(!world.audit().await.balanced);
    assert_eq!(world.replay().await.unwrap().moved, 0);
    assert_eq!((table(&world).await, world.quarantined().await.len()), ((10, 10), 22));
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_takes_only_what_it_says() {
    let mut world = world().await;
    world.pipeline = tolerant();
    let filter = Filter { offset: Some(12), ..Filter::default() };
    let report =
        quarantine::replay(&world.pipeline, &world.engine, &world.lake, Half::Batch, &filter).await.unwrap();
    assert_eq!((report.moved, table(&world).await), (1, (11, 11)));
    let other = Filter { dataset: Some("pin".into()), ..Filter::default() };
    let report =
        quarantine::replay(&world.pipeline, &world.engine, &world.lake, Half::Batch, &other).await.unwrap();
    assert_eq!(report.moved, 0);
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_listed_and_shown_with_reason_and_raw_bytes() {
    let world = world().await;
    let all = world.quarantined().await;
    assert_eq!(all.len(), 22);
    let some =
        quarantine::list(&world.pipeline, &world.lake, Half::Batch, &Filter::default(), 5).await.unwrap();
    assert_eq!(some.len(), 5);
    let id = RecordId::new(TopicPartition::new("t.user", 0), 14);
    let shown = quarantine::show(&world.pipeline, &world.lake, Half::Batch, &id).await.unwrap().unwrap();
    assert_eq!(shown.raw.as_deref(), Some(&br#"{"ind":5,"age":-5}"#[..]));
    assert_eq!(shown.reason, "age -5 is not positive");
    assert_eq!(shown.dataset, "user");
    let none = RecordId { offset: 3, ..id };
    assert_eq!(quarantine::show(&world.pipeline, &world.lake, Half::Batch, &none).await.unwrap(), None);
}

/// Records of two lives of a topic lie at the same offsets.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_each_record_to_the_life_that_it_is_of() {
    let mut world = world().await;
    world.log.delete_topic("t.user").await.unwrap();
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (100..105).map(good).chain((31..=40).map(old))).await;
    world.archive().await;
    world.clean().await;
    world.assert_balanced().await;
    world.pipeline = tolerant();
    let second = Filter { lineage: Some(1), offset: Some(12), ..Filter::default() };
    let report =
        quarantine::replay(&world.pipeline, &world.engine, &world.lake, Half::Batch, &second).await.unwrap();
    assert_eq!(report.moved, 1);
    let moved = world.sql("SELECT _lineage, ind FROM user_all WHERE _offset = 12").await;
    assert_eq!(serde_json::json!(moved), serde_json::json!([[1, 38]]));
    world.assert_balanced().await;
    assert_eq!(world.replay().await.unwrap().moved, 29);
    let rows = world.sql("SELECT _lineage, count(*) FROM user_all GROUP BY 1 ORDER BY 1").await;
    assert_eq!(serde_json::json!(rows), serde_json::json!([[0, 30], [1, 15]]));
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_was_never_cleaned_has_an_empty_quarantine() {
    let world = World::new(small());
    assert_eq!(world.quarantined().await, vec![]);
    assert_eq!(world.replay().await.unwrap().moved, 0);
}

/// Both datasets clean alike; `people` takes the topic `t.user` when it says so.
fn two_datasets(of_user: &str, of_people: &str, rule: bool) -> Pipeline {
    let dataset = |name: &str, topics: &str| {
        format!(
            "[[dataset]]\nname = \"{name}\"\nkey = \"ind\"\ntopics = {topics}\nfields = [\n    {{ name = \"ind\", type = \"INT\", \
             required = true }},\n    {{ name = \"name\", type = \"STRING\" }},\n    {{ name = \"age\", type = \"INT\" }},\n]\n{}",
            if rule { "[[dataset.expect]]\nname = \"positive\"\nsql = \"age > 0\"\n" } else { "" }
        )
    };
    let clean = |name: &str| format!("SELECT ind, btrim(name) AS name, age FROM raw_{name}\n");
    Pipeline::from_files(&BTreeMap::from([
        (
            "pipeline.toml".to_owned(),
            format!("name = \"two\"\n{}{}", dataset("user", of_user), dataset("people", of_people)),
        ),
        ("clean/user.sql".to_owned(), clean("user")),
        ("clean/people.sql".to_owned(), clean("people")),
    ]))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_follow_their_topic_to_the_dataset_that_takes_it_now() {
    let mut world = World::new(two_datasets(r#"["*.user"]"#, r#"["people"]"#, true));
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..5).map(good)).await;
    world.post("t.user", 0, (1..=3).map(old)).await;
    world.archive().await;
    world.clean().await;
    let of = |dataset: &str| Filter { dataset: Some(dataset.to_owned()), ..Filter::default() };
    let listed = |world: &World, dataset: &str| {
        let (pipeline, lake, filter) = (world.pipeline.clone(), world.lake.clone(), of(dataset));
        async move { quarantine::list(&pipeline, &lake, Half::Batch, &filter, 100).await.unwrap().len() }
    };
    assert_eq!((listed(&world, "user").await, listed(&world, "people").await), (3, 0));

    // The topic moves, and the rule is gone.
    world.pipeline = two_datasets(r#"["user"]"#, r#"["people", "*.user"]"#, false);
    assert_eq!((listed(&world, "user").await, listed(&world, "people").await), (0, 3));
    assert_eq!(world.replay().await.unwrap().moved, 0, "the dataset has not come to them yet");
    world.clean().await;
    assert_eq!(world.replay().await.unwrap().moved, 3);
    assert_eq!(world.sql("SELECT count(*) FROM people_all").await[0][0], 8);
    assert_eq!((listed(&world, "user").await, listed(&world, "people").await), (0, 0));
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_settled_in_the_table_without_a_restart() {
    let mut world = world().await;
    world.pipeline = tolerant();
    assert_eq!(world.replay().await.unwrap().moved, 20);
    let open = || async { Table::open(&world.lake, "batch/user").await.unwrap().unwrap() };
    assert_eq!(open().await.replayed().await.unwrap(), []);
    // If a replay dies before its last step, the next commit of a loader settles it.
    let ids: Vec<RecordId> = (0..2).map(|n| RecordId::new(TopicPartition::new("t.user", 0), n)).collect();
    let mut table = open().await;
    let files = {
        let mut writer = table.writer(WriterOptions::default());
        writer.write(&table.rows().await.unwrap()[0].slice(0, 2)).await.unwrap();
        writer.finish().await.unwrap()
    };
    table.commit(&CommitPlan { files, replayed: ids.clone(), ..CommitPlan::default() }).await.unwrap();
    assert_eq!(open().await.replayed().await.unwrap(), ids);
    world.post("t.user", 0, [good(30)]).await;
    world.archive().await;
    world.clean().await;
    assert_eq!(open().await.replayed().await.unwrap(), []);
}
