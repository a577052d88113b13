//! Programs that share nothing with pinmill read its tables back (testing/readers), and see what pinmill sees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pinmill_testkit::{delta_jars, readers_python, workspace_root};
use serde_json::{Value, json};

use crate::data::TABLES;
use crate::world::{World, write};

/// A world after the main job.
fn after_a_run() -> World {
    let world = World::new();
    world.ok(&["run", "--posts", "500", "--no-progress"]);
    world
}

/// A world of values at the edges of what tables hold, of rejected records, and of a table with several commits and a
/// checkpoint.
fn of_odd_rows() -> World {
    let world = World::new();
    let bucket = world.path("bucket");
    let put = |table: &str, offset: usize, value: &str| {
        let name = format!("topics/x.{table}/partition=0/x.{table}+0+{offset:010}.json");
        write(&bucket.join(name), value);
    };
    for (table, rows) in TABLES.into_iter().zip([odd_pins(), odd_places(), odd_users()]) {
        for (offset, row) in rows.iter().enumerate() {
            put(table, offset, &row.to_string());
        }
    }
    let clean = ["clean", "--archive", bucket.to_str().unwrap()];
    world.ok(&clean);

    let log = world.data().join("lake/batch/geo/_delta_log");
    let checkpoint_every_two = (r#""delta.checkpointInterval":"50""#, r#""delta.checkpointInterval":"2""#);
    change(&log.join("00000000000000000000.json"), &[checkpoint_every_two]);
    for offset in odd_places().len()..odd_places().len() + 3 {
        let row = json!({"ind": offset, "country": format!("C{offset}"), "latitude": 1, "longitude": offset});
        put("geo", offset, &row.to_string());
        world.ok(&clean);
    }
    assert!(log.join("_last_checkpoint").is_file(), "the table of places has no checkpoint");
    world
}

/// Text at and beyond the 64 bytes that statistics keep, all that has to be escaped, NULL beside empty text.
fn odd_pins() -> Vec<Value> {
    let long = format!("{}x{}", "ä".repeat(31), "€uro".repeat(20));
    let quotes = "O'Brien \\ \"q\" `b` \n\t\u{0}z";
    vec![
        json!({"index": 1, "title": long, "description": "", "poster_name": quotes, "follower_count": "15M"}),
        json!({"index": i32::MIN, "title": "\u{10ffff}".repeat(40), "follower_count": null}),
        json!({"index": 3, "follower_count": "many"}),
        json!({"index": 4, "title": "📌".repeat(30), "follower_count": "0", "category": "a"}),
        json!("no object"),
    ]
}

/// Zero below zero, a small number, arrays with a NULL and arrays that are NULL, the last moment of the calendar.
fn odd_places() -> Vec<Value> {
    vec![
        json!({"ind": 1, "timestamp": "2020-08-28 03:52:47", "latitude": -0.0, "longitude": 1e-7, "country": "Peru"}),
        json!({"ind": 2, "timestamp": null, "latitude": null, "longitude": null, "country": ""}),
        json!({"ind": 3, "timestamp": "yesterday"}),
        json!({"ind": 4, "timestamp": "9999-12-31 23:59:59", "latitude": 5, "longitude": null}),
        json!([1]),
    ]
}

/// Moments before 1970 and before 1900, a row of nothing but its key.
fn odd_users() -> Vec<Value> {
    vec![
        json!({"ind": 1, "first_name": "A", "last_name": null, "age": 33, "date_joined": "2016-02-03T04:05:06"}),
        json!({"ind": 2}),
        json!({"ind": 3, "date_joined": "1583-01-01 00:00:00", "age": -1}),
        json!({"ind": 4, "date_joined": "1969-12-31 23:59:59"}),
        json!(""),
    ]
}

/// Replaces texts in a file; each must be there.
fn change(file: &Path, replacements: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(file).unwrap();
    for (old, new) in replacements {
        assert!(text.contains(old), "`{old}` is not in {}: {text}", file.display());
        text = text.replace(old, new);
    }
    std::fs::write(file, text).unwrap();
}

/// The folders of all tables of records that there are, of both halves.
fn tables(world: &World) -> Vec<PathBuf> {
    let lake = world.data().join("lake");
    let names = || TABLES.into_iter().chain(["quarantine"]);
    let all =
        ["batch", "stream"].into_iter().flat_map(|half| names().map(move |name| format!("{half}/{name}")));
    let there: Vec<PathBuf> =
        all.map(|name| lake.join(name)).filter(|table| table.join("_delta_log").is_dir()).collect();
    for table in TABLES {
        assert!(there.contains(&lake.join("batch").join(table)), "the table {table} is not in {there:?}");
    }
    there
}

/// A script of testing/readers on some tables.
fn script(python: &Path, name: &str, words: &[&str], tables: &[PathBuf]) -> Output {
    let elsewhere = pinmill_testkit::temp_dir();
    let mut command = Command::new(python);
    command.arg(workspace_root().join("testing/readers").join(name)).args(words).args(tables);
    command.current_dir(elsewhere.path()).output().unwrap()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "no JSON ({error}): {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// What one reader says of each table.
fn read(python: &Path, reader: &str, tables: &[PathBuf]) -> Vec<Value> {
    let output = script(python, "read.py", &[reader], tables);
    assert!(output.status.success(), "{reader}: {}", String::from_utf8_lossy(&output.stderr));
    let said = document(&output)["tables"].as_array().unwrap().clone();
    assert_eq!(said.len(), tables.len(), "{reader}");
    said
}

/// Fails where a reader saw something else in a table than the first one. What it cannot say is left to the others:
/// `null`, or several types with `|` between them.
fn assert_same(reader: &str, said: &Value, first: &Value) {
    for member in ["table", "rows", "count", "digest"] {
        assert_eq!(said[member], first[member], "{member}, says {reader} of {}", first["table"]);
    }
    let (columns, firsts) = (said["columns"].as_array().unwrap(), first["columns"].as_array().unwrap());
    assert_eq!(columns.len(), firsts.len(), "columns, says {reader} of {}", first["table"]);
    for (column, first_column) in columns.iter().zip(firsts) {
        let place = format!("says {reader} of {}: {column} and not {first_column}", first["table"]);
        for member in ["name", "min", "max"] {
            assert_eq!(column[member], first_column[member], "{member}, {place}");
        }
        assert!(!types(column).is_disjoint(&types(first_column)), "type, {place}");
        for member in ["nulls", "rows_at_min", "rows_at_max"] {
            let same = column[member].is_null() || column[member] == first_column[member];
            assert!(same, "{member}, {place}");
        }
    }
}

fn types(column: &Value) -> BTreeSet<&str> {
    column["type"].as_str().unwrap().split('|').collect()
}

/// Fails where a reader that asks for a column's own least or greatest value finds no row: it passed over a file because
/// the log's bounds are too narrow.
fn assert_extremes_are_found(reader: &str, table: &Value) {
    for column in table["columns"].as_array().unwrap() {
        for member in ["rows_at_min", "rows_at_max"] {
            assert_ne!(column[member], json!(0), "{member}, says {reader} of {}: {column}", table["table"]);
        }
    }
}

/// Fails where a reader and pinmill itself do not count the same records in the batch half.
fn assert_counted_by_pinmill(world: &World, tables: &[Value]) {
    let counted = |name: &str| {
        let path = world.data().join("lake/batch").join(name);
        let path = path.canonicalize().unwrap();
        let table = tables.iter().find(|table| table["table"].as_str() == path.to_str());
        table.unwrap_or_else(|| panic!("{name} was not read"))["rows"].as_u64().unwrap()
    };
    for table in TABLES {
        let rows = world.sql(&format!("SELECT count(*) FROM {table}_all"));
        assert_eq!(rows[0][0], json!(counted(table)), "{table}");
    }
    let listed = world.json(&["quarantine", "list"]);
    let records = listed["rows"].as_array().unwrap().iter().map(|row| row[2].as_u64().unwrap());
    assert_eq!(records.sum::<u64>(), counted("quarantine"), "{listed}");
}

/// Runs stats.py; whether it found all well, and what it said.
fn statistics(python: &Path, tables: &[PathBuf]) -> (bool, Value) {
    let output = script(python, "stats.py", &[], tables);
    (output.status.success(), document(&output))
}

#[test]
fn spark_clickhouse_and_polars_read_the_same_rows_types_and_extremes_as_pinmill() {
    let Some(python) = readers_python() else { return };
    let worlds = [after_a_run(), of_odd_rows()];
    // All in one call: Spark takes long to start.
    let all: Vec<PathBuf> = worlds.iter().flat_map(tables).collect();
    let polars = read(&python, "polars", &all);
    let places: Vec<&str> = polars[1]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["type"].as_str().unwrap())
        .collect();
    let own = ["integer", "string", "array<double>", "timestamp"];
    // Topic, lineage, partition, offset, part, time.
    let of_the_record = ["string", "integer", "integer", "long", "integer", "timestamp"];
    assert_eq!(places, [&own[..], &of_the_record[..]].concat());
    for table in &polars {
        assert_eq!(table["rows"], table["count"], "{table}");
        assert_extremes_are_found("polars", table);
    }
    for world in &worlds {
        assert_counted_by_pinmill(world, &polars);
    }

    let others = ["clickhouse"].into_iter().chain(delta_jars().map(|_| "spark"));
    for reader in others {
        for (said, first) in read(&python, reader, &all).iter().zip(&polars) {
            assert_same(reader, said, first);
            assert_extremes_are_found(reader, said);
        }
    }
}

#[test]
fn the_statistics_in_the_log_are_those_of_the_files() {
    let Some(python) = readers_python() else { return };
    for world in [after_a_run(), of_odd_rows()] {
        let (well, said) = statistics(&python, &tables(&world));
        assert!(well, "{said:#}");
        for table in said["tables"].as_array().unwrap() {
            let files = table["files"].as_u64().unwrap();
            assert!(files > 0 || table["table"].as_str().unwrap().ends_with("quarantine"), "{table}");
            assert!(table["bounds"].as_u64().unwrap() >= files, "no bounds were compared: {table}");
        }
    }
}

#[test]
fn a_bound_that_is_too_narrow_and_a_count_that_is_wrong_are_found() {
    let Some(python) = readers_python() else { return };
    let world = after_a_run();
    let place = world.data().join("lake/batch/geo");
    change(
        &place.join("_delta_log/00000000000000000001.json"),
        &[(r#"\"_offset\":499"#, r#"\"_offset\":498"#), (r#"\"numRecords\":500"#, r#"\"numRecords\":501"#)],
    );
    let tables = [place];
    let (well, said) = statistics(&python, &tables);
    let faults = said["tables"][0]["faults"].to_string();
    assert!(
        !well && faults.contains("_offset: has the bounds") && faults.contains("numRecords is 501"),
        "{said:#}"
    );

    // This is what such a bound does: the reader does not look into the file.
    let read = read(&python, "polars", &tables);
    let offset =
        read[0]["columns"].as_array().unwrap().iter().find(|column| column["name"] == "_offset").unwrap();
    assert_eq!((&offset["max"], &offset["rows_at_max"]), (&json!(499), &json!(0)));
}
