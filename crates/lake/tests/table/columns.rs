//! Columns that come, and tables that are replaced as a whole.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use pinmill_lake::table::{Committed, Table};
use pinmill_lake::{Lake, TopicPartition};

use crate::common::FaultyStore;
use crate::support::{contents_of, count, let_an_hour_pass, once, open, plan, read, rows, schema};

#[tokio::test]
async fn a_new_column_is_added_and_a_changed_one_is_refused() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let first = plan(&table, 0, None, 0, 3).await;
    table.commit(&first).await.unwrap();
    let mut fields: Vec<_> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.insert(1, Field::new("language", DataType::Utf8, true));
    let mut wider = Table::open_or_create(&lake, "batch/pin", &Schema::new(fields.clone())).await.unwrap();
    assert_eq!(wider.schema().fields().len(), fields.len());
    assert_eq!(wider.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), Some(2));
    assert_eq!(wider.totals().await.unwrap().len(), 1, "adding a column does not lose the totals");

    let lacking = Schema::new(fields[1..].to_vec());
    let error = Table::open_or_create(&lake, "batch/pin", &lacking).await.unwrap_err();
    assert!(error.to_string().contains("column `ind` is in the table and not in the rows"), "{error}");
    fields[0] = Field::new("ind", DataType::Int64, true);
    let error = Table::open_or_create(&lake, "batch/pin", &Schema::new(fields)).await.unwrap_err();
    assert!(
        error.to_string().contains("column `ind` is Int32 in the table and Int64 in the rows"),
        "{error}"
    );
}

#[tokio::test]
async fn the_guard_stops_a_writer_whose_table_got_other_columns_meanwhile() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 0, None, 0, 3).await;
    let mut fields: Vec<_> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("language", DataType::Utf8, true));
    Table::open_or_create(&lake, "batch/pin", &Schema::new(fields)).await.unwrap();
    // Rows that lack a nullable column are rows with NULL in it: the commit stands.
    assert!(matches!(table.commit(&plan).await.unwrap(), Committed::Committed { version: 2, .. }));
    assert_eq!(count(&table, &lake).await, once(0, 0..3));
}

#[tokio::test]
async fn an_answer_is_replaced_as_a_whole_and_vacuum_takes_the_old_files() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let name = "answers/01_popular";
    for end in [5, 9] {
        let table = Table::overwrite(&lake, name, &schema(), &[rows(0, 0..end)]).await.unwrap();
        assert_eq!(count(&table, &lake).await, once(0, 0..end));
    }
    let other = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    let batch =
        RecordBatch::try_new(Arc::new(other.clone()), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    Table::overwrite(&lake, name, &other, &[batch]).await.unwrap();
    let mut table = Table::open(&lake, name).await.unwrap().unwrap();
    assert_eq!(table.schema().fields().len(), 1);
    assert_eq!(read(&table, &lake).await[0].num_columns(), 1);

    let is_data = |path: &String| path.ends_with(".parquet");
    let files = || async { contents_of(&dir).into_iter().filter(is_data).count() };
    assert_eq!(files().await, 3);
    std::fs::write(dir.path().join(name).join("part-orphan.snappy.parquet"), "x").unwrap();
    assert_eq!(
        table.vacuum(std::time::Duration::from_secs(3600), false).await.unwrap().files,
        Vec::<String>::new()
    );
    assert_eq!(files().await, 4, "what is younger than the retention stays");
    table.vacuum(std::time::Duration::ZERO, false).await.unwrap();
    assert_eq!(files().await, 2, "what no commit has named yet may still be");
    let_an_hour_pass(&dir);
    table.vacuum(std::time::Duration::ZERO, false).await.unwrap();
    assert_eq!(files().await, 1);
    assert_eq!(read(&table, &lake).await[0].num_rows(), 2);
    // An answer without rows is a table without files.
    let table = Table::overwrite(&lake, name, &other, &[]).await.unwrap();
    assert_eq!(table.files().unwrap(), []);
}
