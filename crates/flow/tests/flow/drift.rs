//! Every way in which JSON rows change over time, under every policy, in both halves: taken as what they mean, quarantined
//! or stopped, and never silent where something was left out.

use bytes::Bytes;
use pinmill_flow::{Error, Half};
use serde_json::{Value, json};

use crate::poison::{assert_adds_up, load, quarantined};
use crate::support::{CLEAN, World, good, pipeline};

/// A record that came otherwise than declared.
struct Drifted {
    what: &'static str,
    record: &'static str,
    /// `ind`, `name` and `age` of the row that it becomes, or why it is put aside.
    becomes: Result<Value, &'static str>,
    /// What is told of it, beside a row.
    told: Option<&'static str>,
}

/// Records whose members are all declared: no policy has to do with them.
fn declared() -> Vec<Drifted> {
    let taken = |what, record, row| Drifted { what, record, becomes: Ok(row), told: None };
    let refused = |what, record, why| Drifted { what, record, becomes: Err(why), told: None };
    vec![
        taken("a field in another case", r#"{"IND":5,"name":"x","age":1}"#, json!([5, "x", 1])),
        taken("other order", r#"{"age":1,"name":"x","ind":5}"#, json!([5, "x", 1])),
        taken("a missing optional field", r#"{"ind":5,"age":1}"#, json!([5, null, 1])),
        taken("an optional field that is null", r#"{"ind":5,"name":null,"age":1}"#, json!([5, null, 1])),
        taken("int to text that holds one", r#"{"ind":"5","name":"x","age":" 1"}"#, json!([5, "x", 1])),
        taken("int to a whole float", r#"{"ind":5.0,"name":"x","age":1e0}"#, json!([5, "x", 1])),
        taken("text to int", r#"{"ind":5,"name":7,"age":1}"#, json!([5, "7", 1])),
        Drifted {
            told: Some("user: field `name`: an array or object came where text is declared (1)"),
            ..taken(
                "nested text",
                r#"{"ind":5,"name":{"first":"x"},"age":1}"#,
                json!([5, r#"{"first":"x"}"#, 1]),
            )
        },
        refused(
            "int to a float that is not whole",
            r#"{"ind":5,"name":"x","age":1.5}"#,
            "field `age`: expected INT, got number 1.5",
        ),
        refused(
            "int to text that holds none",
            r#"{"ind":5,"name":"x","age":"one"}"#,
            "field `age`: expected INT, got string \"one\"",
        ),
        refused(
            "an int that is too large",
            r#"{"ind":5,"name":"x","age":3000000000}"#,
            "field `age`: expected INT, got number 3000000000",
        ),
        refused("a missing required field", r#"{"name":"x","age":1}"#, "field `ind` is missing"),
        refused("a required field that is null", r#"{"ind":null,"age":1}"#, "field `ind` is null"),
    ]
}

/// Records with a member that is not declared: its name, and the row that is left without it. Records of a producer that
/// does not know of it stand before and behind them.
const UNDECLARED: [(&str, &str, &str); 2] = [
    ("a new field", r#"{"ind":5,"name":"x","age":1,"colour":"red"}"#, "colour"),
    ("a renamed field", r#"{"ind":5,"full_name":"x","age":1}"#, "full_name"),
];

/// A house with this record between two good ones, and this policy for members that are not declared.
async fn world(policy: &str, record: &'static str) -> World {
    let policy = format!("key = \"ind\"\nunknown_fields = \"{policy}\"");
    let world = World::new(pipeline(|manifest| manifest.replacen("key = \"ind\"", &policy, 1), CLEAN));
    world.topic("user", 1).await;
    world.post("user", 0, [good(1), Some(Bytes::from_static(record.as_bytes())), good(2)]).await;
    world
}

/// The rows of a half's table, in the order in which they were posted.
async fn rows(world: &World, half: Half) -> Value {
    json!(world.sql_from(half, "SELECT ind, name, age FROM user_all ORDER BY _offset").await)
}

/// The record between the good ones is put aside with its bytes, and nothing else is.
async fn assert_put_aside(world: &World, half: Half, what: &str, record: &str, why: &str) {
    let aside = quarantined(world, half).await;
    let found: Vec<(u64, &str, Option<&[u8]>)> = aside
        .iter()
        .map(|record| (record.id.offset, record.reason.as_str(), record.raw.as_deref()))
        .collect();
    assert_eq!(found, [(1, why, Some(record.as_bytes()))], "{half}: {what}");
    assert_eq!(rows(world, half).await, json!([[1, "No 1", 21], [2, "No 2", 22]]), "{half}: {what}");
}

async fn declared_members_are_taken_or_put_aside(half: Half) {
    for Drifted { what, record, becomes, told } in declared() {
        // The strictest of policies: nothing here is its business.
        let world = world("stop", record).await;
        let report = load(&world, half).await.unwrap();
        assert_eq!(report.warnings(), told.into_iter().collect::<Vec<_>>(), "{half}: {what}");
        match becomes {
            Ok(row) => {
                let all = json!([[1, "No 1", 21], row, [2, "No 2", 22]]);
                assert_eq!(rows(&world, half).await, all, "{half}: {what}");
                assert_eq!(quarantined(&world, half).await, vec![], "{half}: {what}");
            }
            Err(why) => assert_put_aside(&world, half, what, record, why).await,
        }
        assert_adds_up(&world, half).await;
    }
}

async fn undeclared_members_are_dealt_with_as_the_policy_says(half: Half) {
    for (what, record, name) in UNDECLARED {
        let warned = world("warn", record).await;
        let report = load(&warned, half).await.unwrap();
        let told = format!("user: field `{name}`: no field is declared for it (1)");
        assert_eq!(report.warnings(), [told], "{half}: {what}");
        let text = if name == "colour" { json!("x") } else { Value::Null };
        let all = json!([[1, "No 1", 21], [5, text, 1], [2, "No 2", 22]]);
        assert_eq!(rows(&warned, half).await, all, "{half}: {what}");
        assert_adds_up(&warned, half).await;

        let quarantining = world("quarantine", record).await;
        load(&quarantining, half).await.unwrap();
        let why = format!("member `{name}` is not declared");
        assert_put_aside(&quarantining, half, what, record, &why).await;
        assert_adds_up(&quarantining, half).await;

        let stopping = world("stop", record).await;
        let error = load(&stopping, half).await.unwrap_err();
        assert!(
            matches!(&error, Error::Stopped { id, .. } if id.to_string() == "user/0 offset 1"),
            "{half}: {what}: {error}"
        );
        assert!(error.to_string().contains(&format!("`{name}`")), "{half}: {what}: {error}");
        assert_eq!(rows(&stopping, half).await, json!([]), "{half}: {what}: nothing is committed");
        assert_eq!(quarantined(&stopping, half).await, vec![], "{half}: {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_never_silent_in_the_batch_half() {
    declared_members_are_taken_or_put_aside(Half::Batch).await;
    undeclared_members_are_dealt_with_as_the_policy_says(Half::Batch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_never_silent_in_the_streaming_half() {
    declared_members_are_taken_or_put_aside(Half::Stream).await;
    undeclared_members_are_dealt_with_as_the_policy_says(Half::Stream).await;
}
