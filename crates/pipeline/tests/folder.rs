//! Pipeline folders: what is read, what is written, and what is said of a folder that is wrong.

use pinmill_pipeline::{Action, DriftPolicy, Error, Files, Pipeline, RawType};

const GOOD: &str = r#"
name = "shop"

[[dataset]]
name = "order"
key = "id"
unknown_fields = "quarantine"
fields = [
    { name = "id", type = "BIGINT", required = true, aliases = ["order_id"] },
    { name = "total", type = "DOUBLE" },
]

[[dataset.expect]]
name = "total_is_not_negative"
sql = "total >= 0"
action = "warn"
"#;

fn files(manifest: &str) -> Files {
    Files::from([
        ("pipeline.toml".to_owned(), manifest.to_owned()),
        ("clean/order.sql".to_owned(), "SELECT id, total FROM raw_order".to_owned()),
        ("answers/01_sum.sql".to_owned(), "-- All of it\nSELECT sum(total) FROM order".to_owned()),
    ])
}

fn problems(files: &Files) -> String {
    match Pipeline::from_files(files) {
        Err(Error::Invalid(problems)) => problems.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_says_what_a_pipeline_is() {
    let pipeline = Pipeline::from_files(&files(GOOD)).unwrap();
    assert_eq!(pipeline.name, "shop");
    let order = pipeline.dataset("order").unwrap();
    assert_eq!((order.raw_table().as_str(), order.all_view().as_str()), ("raw_order", "order_all"));
    assert_eq!(order.topics, ["order", "*.order"]);
    assert_eq!(order.streams, ["order", "*-order"]);
    assert_eq!(order.unknown_fields, DriftPolicy::Quarantine);
    assert_eq!(order.fields[0].data_type, RawType::BigInt);
    assert_eq!(order.fields[0].names().collect::<Vec<_>>(), ["id", "order_id"]);
    assert!(order.fields[0].required && !order.fields[1].required);
    assert_eq!(order.expectations[0].action, Action::Warn);
    assert_eq!(order.expectations[0].position, (15, 8));
    assert_eq!(pipeline.answer("01_sum").unwrap().title, "All of it");
}

#[test]
fn topics_and_streams_find_their_dataset() {
    let pipeline = Pipeline::built_in().unwrap();
    let of_topic = |name: &str| pipeline.dataset_for_topic(name).map(|dataset| dataset.name.as_str());
    let of_stream = |name: &str| pipeline.dataset_for_stream(name).map(|dataset| dataset.name.as_str());
    assert_eq!(of_topic("124df56aef51.pin"), Some("pin"));
    assert_eq!(of_topic("geo"), Some("geo"));
    assert_eq!(of_topic("124df56aef51.users"), None);
    assert_eq!(of_stream("streaming-124df56aef51-user"), Some("user"));
    assert_eq!(of_stream("streaming-124df56aef51.user"), None);
}

#[test]
fn an_exact_name_is_preferred_to_a_pattern() {
    let manifest = "name = \"p\"\n".to_owned()
        + &["a", "b"]
            .map(|name| {
                let topics = if name == "a" { "[\"*\"]" } else { "[\"special\"]" };
                format!(
                    "[[dataset]]\nname = \"{name}\"\nkey = \"k\"\ntopics = {topics}\n\
                     fields = [{{ name = \"k\", type = \"INT\" }}]\n"
                )
            })
            .concat();
    let files = Files::from([
        ("pipeline.toml".to_owned(), manifest),
        ("clean/a.sql".to_owned(), "SELECT k FROM raw_a".to_owned()),
        ("clean/b.sql".to_owned(), "SELECT k FROM raw_b".to_owned()),
    ]);
    let pipeline = Pipeline::from_files(&files).unwrap();
    assert_eq!(pipeline.dataset_for_topic("special").unwrap().name, "b");
    assert_eq!(pipeline.dataset_for_topic("other").unwrap().name, "a");
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_hint() {
    for (from, to, expected) in [
        ("required = true", "requierd = true", "pipeline.toml:9:37: unknown field `requierd`"),
        ("required = true", "requierd = true", "hint: did you mean `required`?"),
        ("\"BIGINT\"", "\"BIGNIT\"", "pipeline.toml:9:27: unknown variant `BIGNIT`"),
        ("\"BIGINT\"", "\"BIGNIT\"", "hint: did you mean `BIGINT`?"),
        ("key = \"id\"", "", "missing field `key`"),
        ("\"warn\"", "\"warm\"", "hint: did you mean `warn`?"),
        ("name = \"shop\"", "name = shop", "pipeline.toml:2:8"),
        (
            "name = \"total\"",
            "name = \"ID\"",
            "pipeline.toml:10:14: field `ID` is declared twice, first in line 9",
        ),
        ("[\"order_id\"]", "[\"total\"]", "field or alias `total` is declared twice, first in line 10"),
        ("name = \"total\"", "name = \"_total\"", "call it `total` and give `_total` as an alias"),
        ("name = \"order\"", "name = \"ordr\"", "dataset `ordr` has no clean/ordr.sql"),
        ("name = \"order\"", "name = \"ordr\"", "clean/order.sql: no dataset is called `order`"),
        ("name = \"order\"", "name = \"ordr\"", "hint: did you mean clean/ordr.sql?"),
        ("name = \"order\"", "name = \"../x\"", "`../x` cannot be a dataset's name"),
    ] {
        let manifest = GOOD.replacen(from, to, 1);
        assert_ne!(manifest, GOOD, "{from}");
        let found = problems(&files(&manifest));
        assert!(found.contains(expected), "{to}:\n{found}\nhas no {expected}");
    }
}

#[test]
fn all_problems_are_said_at_once() {
    let manifest = GOOD.replace("\"total\"", "\"_total\"").replace("name = \"order\"", "name = \"ordr\"");
    let mut files = files(&manifest);
    files.insert("answers/02_untitled.sql".to_owned(), "SELECT 1".to_owned());
    let found = problems(&files);
    for expected in
        ["_total", "clean/ordr.sql", "clean/order.sql", "answers/02_untitled.sql:1:1: it has no title"]
    {
        assert!(found.contains(expected), "{found}\nhas no {expected}");
    }
}

#[test]
fn names_in_sql_must_not_meet() {
    let second =
        "\n[[dataset]]\nname = \"order_all\"\nkey = \"k\"\nfields = [{ name = \"k\", type = \"INT\" }]\n";
    let mut files = files(&(GOOD.to_owned() + second));
    files.insert("clean/order_all.sql".to_owned(), "SELECT k FROM raw_order_all".to_owned());
    let found = problems(&files);
    assert!(found.contains("`order_all` already means every record of `order`"), "{found}");
}

#[test]
fn a_missing_manifest_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let error = Pipeline::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("pipeline.toml"), "{error}");
}

#[test]
fn the_built_in_folder_is_written_out_and_read_back_as_it_is() {
    let pipeline = Pipeline::built_in().unwrap();
    assert_eq!(pipeline.datasets.len(), 3);
    assert_eq!(pipeline.answers.len(), 9);
    assert!(pipeline.tests.iter().any(|file| file.path.ends_with("pin.test")));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("mine");
    pipeline.write_to(&folder, false).unwrap();
    assert_eq!(Pipeline::load(&folder).unwrap(), pipeline);
    // It is not written over what is there.
    std::fs::write(folder.join("pipeline.toml"), "name = \"changed\"").unwrap();
    assert!(matches!(pipeline.write_to(&folder, false), Err(Error::NotEmpty(_))));
    assert_eq!(std::fs::read_to_string(folder.join("pipeline.toml")).unwrap(), "name = \"changed\"");
    pipeline.write_to(&folder, true).unwrap();
    assert_eq!(Pipeline::load(&folder).unwrap(), pipeline);
}
