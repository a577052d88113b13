//! Spark's functions give Spark's answers. The expected values are those of Apache Spark 4 with its time zone UTC.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use pinmill_engine::{EmbeddedEngine, Engine, EngineConfig};

async fn answer(engine: &EmbeddedEngine, sql: &str) -> Result<String, String> {
    let result = engine.query(sql).await.map_err(|error| error.to_string())?;
    let batches: Vec<RecordBatch> = result.batches.try_collect().await.map_err(|error| error.to_string())?;
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch
                .columns()
                .iter()
                .map(|column| {
                    ArrayFormatter::try_new(column.as_ref(), &options).unwrap().value(row).to_string()
                })
                .collect();
            rows.push(cells.join(" | "));
        }
    }
    Ok(rows.join("; "))
}

async fn check(cases: &[(&str, &str)]) {
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let sql = if sql.starts_with("SELECT") { (*sql).to_owned() } else { format!("SELECT {sql}") };
        match answer(&engine, &sql).await {
            Ok(found) if found == *expected => {}
            Ok(found) => wrong.push(format!("{sql}\n  gives    {found}\n  expected {expected}")),
            Err(error) => wrong.push(format!("{sql}\n  fails with {error}\n  expected {expected}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test]
async fn parts_of_times_are_those_of_spark() {
    check(&[
        ("year(timestamp '2020-08-28 03:52:47')", "2020"),
        ("year(date '2020-08-28')", "2020"),
        ("year('2020-08-28')", "2020"),
        ("YEAR(CAST(NULL AS TIMESTAMP))", "NULL"),
        ("quarter(date '2020-08-28')", "3"),
        ("month(date '2020-08-28')", "8"),
        ("day(date '2020-08-28'), dayofmonth(date '2020-08-28')", "28 | 28"),
        ("dayofweek(date '2009-07-30')", "5"),
        ("dayofweek(date '2020-08-30')", "1"),
        ("weekday(date '2009-07-30')", "3"),
        ("dayofyear(date '2016-04-09')", "100"),
        ("weekofyear(date '2008-02-20')", "8"),
        ("weekofyear(date '2021-01-01')", "53"),
        ("hour(timestamp '2009-07-30 12:58:59')", "12"),
        ("minute(timestamp '2009-07-30 12:58:59')", "58"),
        ("second(timestamp '2009-07-30 12:58:59')", "59"),
        ("extract(YEAR FROM timestamp '2019-08-12 01:00:00.123456')", "2019"),
        ("date_part('MONTH', date '2019-08-12')", "8"),
        ("dayname(date '2008-02-20')", "Wed"),
        ("monthname(date '2008-02-20')", "Feb"),
        ("last_day(date '2009-01-12')", "2009-01-31"),
        ("add_months(date '2016-08-31', 1)", "2016-09-30"),
        ("date_add(date '2016-07-30', 1)", "2016-07-31"),
        ("date_sub(date '2016-07-30', 1)", "2016-07-29"),
        ("datediff(date '2009-07-31', date '2009-07-30')", "1"),
        ("trunc(date '2019-08-04', 'MM')", "2019-08-01"),
        ("date_trunc('HOUR', timestamp '2015-03-05 09:32:05')", "2015-03-05T09:00:00Z"),
        ("next_day(date '2015-01-14', 'TU')", "2015-01-20"),
    ])
    .await;
}

#[tokio::test]
async fn times_are_read_and_written_by_java_patterns() {
    check(&[
        ("to_timestamp('08/28/2020, 03:52:47', 'MM/dd/yyyy, HH:mm:ss')", "2020-08-28T03:52:47Z"),
        ("try_to_timestamp('2020-08-28T03:52:47', 'yyyy-MM-dd\\'T\\'HH:mm:ss')", "2020-08-28T03:52:47Z"),
        ("try_to_timestamp('2016-12-31', 'yyyy-MM-dd')", "2016-12-31T00:00:00Z"),
        ("try_to_timestamp('foo', 'yyyy-MM-dd')", "NULL"),
        ("try_to_timestamp('2020-13-01', 'yyyy-MM-dd')", "NULL"),
        ("to_timestamp('2016-12-31 00:12:00')", "2016-12-31T00:12:00Z"),
        ("try_to_timestamp('nonsense')", "NULL"),
        ("to_date('2016-12-31', 'yyyy-MM-dd')", "2016-12-31"),
        ("to_date('28.08.2020', 'dd.MM.yyyy')", "2020-08-28"),
        ("to_date('2009-07-30')", "2009-07-30"),
        ("try_to_date('x', 'yyyy-MM-dd')", "NULL"),
        ("date_format(timestamp '2020-08-28 03:52:47', 'EEE d MMM yyyy HH:mm')", "Fri 28 Aug 2020 03:52"),
        ("date_format(date '2016-04-08', 'y')", "2016"),
        ("unix_timestamp('2016-04-08', 'yyyy-MM-dd')", "1460073600"),
        ("to_unix_timestamp('1970-01-01 00:01:00')", "60"),
        ("from_unixtime(0, 'yyyy-MM-dd HH:mm:ss')", "1970-01-01 00:00:00"),
        ("from_unixtime(60)", "1970-01-01 00:01:00"),
        ("timestamp_seconds(1230219000)", "2008-12-25T15:30:00Z"),
        ("timestamp_millis(1230219000123)", "2008-12-25T15:30:00.123Z"),
        ("timestamp_micros(1230219000123123)", "2008-12-25T15:30:00.123123Z"),
        ("SELECT try_to_timestamp(v, f) FROM VALUES ('2020', 'yyyy'), ('05', 'MM'), (NULL, 'MM') AS t(v, f)",
         "2020-01-01T00:00:00Z; 1970-05-01T00:00:00Z; NULL"),
    ])
    .await;
}

#[tokio::test]
async fn text_functions_are_those_of_spark() {
    check(&[
        ("'Spark' RLIKE '^S', 'Spark' NOT RLIKE '^S', 'Spark' REGEXP 'k$'", "true | false | true"),
        ("rlike('%SystemDrive%\\\\Users\\\\John', '%SystemDrive%\\\\\\\\Users.*')", "true"),
        ("regexp_like('a1', '\\\\d'), regexp('a1', '^\\\\d')", "true | false"),
        ("CAST(NULL AS STRING) RLIKE 'a'", "NULL"),
        ("startswith('Spark SQL', 'Spark'), endswith('Spark SQL', 'SQL'), contains('Spark SQL', 'SQL')",
         "true | true | true"),
        ("startswith('Spark SQL', CAST(NULL AS STRING))", "NULL"),
        ("split('oneAtwoBthreeC', '[ABC]')", "[one, two, three, ]"),
        ("split('oneAtwoBthreeC', '[ABC]', 2)", "[one, twoBthreeC]"),
        ("split('a,b', ',')[1]", "b"),
        ("regexp_extract('100-200', '(\\\\d+)-(\\\\d+)', 1)", "100"),
        ("regexp_extract('100-200', '(\\\\d+)-(\\\\d+)')", "100"),
        ("regexp_extract('foo', '(\\\\d+)', 1)", ""),
        ("regexp_substr('Steven Jones and Stephen Smith', 'Ste(v|ph)en')", "Steven"),
        ("regexp_extract_all('100-200, 300-400', '(\\\\d+)-(\\\\d+)', 1)", "[100, 300]"),
        ("regexp_replace('100-200', '(\\\\d+)', 'num')", "num-num"),
        ("regexp_replace('ab', '(a)(b)', '$2$1')", "ba"),
        ("replace('ABCabc', 'abc', 'DEF'), btrim('  x '), trim('  x ')", "ABCDEF | x | x"),
        ("btrim('\\t x\\r\\n', ' \\t\\r\\n'), trim(BOTH 'SL' FROM 'SSparkSQLS')", "x | parkSQ"),
        ("lcase('SparkSql'), ucase('SparkSql'), initcap('sPark sql')", "sparksql | SPARKSQL | Spark Sql"),
        ("concat_ws(' ', 'Spark', CAST(NULL AS STRING), 'SQL')", "Spark SQL"),
        ("concat('Spark', CAST(NULL AS STRING))", "NULL"),
        ("length('Spark SQL '), char_length('é'), left('Spark SQL', 3), right('Spark SQL', 3)", "10 | 1 | Spa | SQL"),
        ("substring('Spark SQL', 5, 1), substr('Spark SQL', -3), substring_index('www.apache.org', '.', 2)",
         "k | SQL | www.apache"),
        ("instr('SparkSQL', 'SQL'), locate('bar', 'foobarbar')", "6 | 4"),
        ("lpad('hi', 5, '?'), rpad('hi', 5, '?'), repeat('ab', 2), reverse('abc')", "???hi | hi??? | abab | cba"),
        ("split_part('11.12.13', '.', 3), translate('AaBbCc', 'abc', '123')", "13 | A1B2C3"),
        ("levenshtein('kitten', 'sitting'), ascii('2'), chr(65), soundex('Miller')", "3 | 50 | A | M460"),
        ("\"double\" || 'single'", "doublesingle"),
        ("'Spark' LIKE '_park', 'Spark' ILIKE '_PARK'", "true | true"),
    ])
    .await;
}

#[tokio::test]
async fn numbers_and_nulls_are_those_of_spark() {
    check(&[
        ("3 / 2, 4 / 2, 7 div 2, 7 % 3, -7 % 3, mod(-7, 3), pmod(-7, 3)", "1.5 | 2.0 | 3 | 1 | -1 | -1 | 2"),
        ("try_divide(3, 2), try_divide(1, 0)", "1.5 | NULL"),
        (
            "CAST('12' AS INT), try_cast('x' AS INT), int('7'), bigint('8'), double('1.5'), string(5)",
            "12 | NULL | 7 | 8 | 1.5 | 5",
        ),
        (
            "CAST(3.9 AS INT), CAST('2020-08-28' AS DATE), CAST('2020-08-28 03:52:47' AS TIMESTAMP)",
            "3 | 2020-08-28 | 2020-08-28T03:52:47Z",
        ),
        ("CAST(1.5 AS DECIMAL(10, 2)), CAST(7 AS DECIMAL)", "1.50 | 7"),
        ("round(2.5), round(-2.5), ceil(-0.1), floor(-0.1)", "3.0 | -3.0 | 0 | -1"),
        (
            "nvl(NULL, 1), ifnull(NULL, 2), nvl2(NULL, 2, 1), coalesce(NULL, 3), nullif(1, 1)",
            "1 | 2 | 1 | 3 | NULL",
        ),
        ("isnull(1), isnotnull(1), nullifzero(0), zeroifnull(CAST(NULL AS INT))", "false | true | NULL | 0"),
        ("if(1 < 2, 'a', 'b'), sign(-3), greatest(10, 9, 2), least(10, 9, 2)", "a | -1.0 | 10 | 2"),
        ("size(array(1, 2)), array_contains(array(1, 2, 3), 2), element_at(array(1, 2), 2)", "2 | true | 2"),
        ("array_size(array(1, 2, 3)), array_max(array(1, 3)), array(1, 2)[0]", "3 | 3 | 1"),
        ("1 <=> NULL, NULL <=> NULL", "false | true"),
    ])
    .await;
}

#[tokio::test]
async fn aggregates_are_those_of_spark() {
    let pairs = "FROM VALUES ('a', 10), ('b', 50), ('c', 20) AS tab(x, y)";
    let numbers = "FROM VALUES (0), (10), (10), (NULL) AS tab(c)";
    check(&[
        (&format!("SELECT max_by(x, y), min_by(x, y) {pairs}"), "b | a"),
        ("SELECT max_by(x, y) FROM VALUES ('a', 10), ('b', NULL), ('c', 5) AS tab(x, y)", "a"),
        ("SELECT count_if(c % 2 = 0) FROM VALUES (NULL), (0), (1), (2), (3) AS tab(c)", "2"),
        (&format!("SELECT mode(c) {numbers}"), "10"),
        ("SELECT mode(c) FROM VALUES ('b'), ('a'), ('b'), ('a') AS tab(c)", "a"),
        (&format!("SELECT percentile_approx(c, 0.5), approx_percentile(c, 0.5, 100) {numbers}"), "10 | 10"),
        (&format!("SELECT percentile(c, 0.25) {numbers}"), "5.0"),
        ("SELECT median(c) FROM VALUES (0), (10) AS tab(c)", "5.0"),
        ("SELECT median(c) FROM VALUES (1), (2), (NULL) AS tab(c)", "1.5"),
        (
            &format!("SELECT avg(c), sum(c), count(c), count(*), count(DISTINCT c) {numbers}"),
            "6.666666666666667 | 20 | 3 | 4 | 2",
        ),
        ("SELECT first(c), last(c), any_value(c) FROM VALUES (1) AS tab(c)", "1 | 1 | 1"),
        (
            "SELECT bool_and(c), bool_or(c), every(c) FROM VALUES (true), (false) AS tab(c)",
            "false | true | false",
        ),
        (
            "SELECT stddev(c), variance(c), var_pop(c) FROM VALUES (1), (2), (3) AS tab(c)",
            "1.0 | 1.0 | 0.6666666666666666",
        ),
        ("SELECT approx_count_distinct(c) FROM VALUES (1), (1), (2), (3) AS tab(c)", "3"),
        ("SELECT sort_array(collect_list(c)) FROM VALUES (2), (1), (2) AS tab(c)", "[1, 2, 2]"),
        ("SELECT c, count_if(c > 1) OVER () FROM VALUES (1), (2) AS tab(c) ORDER BY c", "1 | 1; 2 | 1"),
    ])
    .await;
}

#[tokio::test]
async fn nulls_come_first_ascending_and_last_descending() {
    check(&[
        ("SELECT c FROM VALUES (2), (NULL), (1) AS tab(c) ORDER BY c", "NULL; 1; 2"),
        ("SELECT c FROM VALUES (2), (NULL), (1) AS tab(c) ORDER BY c DESC", "2; 1; NULL"),
        ("SELECT c FROM VALUES (2), (NULL), (1) AS tab(c) ORDER BY c NULLS LAST", "1; 2; NULL"),
    ])
    .await;
}

#[tokio::test]
async fn names_are_matched_without_regard_to_case() {
    check(&[
        ("SELECT Total FROM (SELECT 1 AS total) AS T WHERE t.TOTAL = 1", "1"),
        ("SELECT sum(V) AS Sum FROM VALUES (1), (2) AS tab(v) HAVING SUM > 0", "3"),
    ])
    .await;
}

#[tokio::test]
async fn what_cannot_be_done_is_an_error_as_in_spark() {
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    for (sql, expected) in [
        ("SELECT 1 / 0", "divide by zero"),
        ("SELECT 1.5 / 0", "divide by zero"),
        ("SELECT 1 div 0", "divide by zero"),
        ("SELECT CAST('x' AS INT)", "'x'"),
        ("SELECT to_timestamp('foo', 'yyyy-MM-dd')", "'foo' does not fit the date pattern"),
        ("SELECT to_timestamp('foo', 'YYYY')", "the letter 'Y' is not known"),
        ("SELECT 'a' RLIKE '(?=x)'", "not a regular expression this engine knows"),
        ("SELECT count_if(true, 1)", "count_if takes 1 arguments, not 2"),
        ("CREATE TABLE t (a INT)", "DDL"),
        ("SET x = 1", "not supported"),
    ] {
        let error = answer(&engine, sql).await.expect_err(sql).to_lowercase();
        assert!(error.contains(&expected.to_lowercase()), "{sql}: {error}");
    }
}
