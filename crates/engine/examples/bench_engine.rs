//! How fast the engine is, in numbers: `cargo run --release -p pinmill-engine --example bench_engine -- [RECORDS] [KEYS]`.
//!
//! Makes RECORDS (default 1,000,000) raw records of each dataset of the Pinterest pipeline about KEYS (default
//! 11,000) keys, decodes and cleans them on one thread, writes the clean rows to Parquet, and answers the questions.
//! Prints one JSON object: bytes and seconds of each step.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
use object_store::local::LocalFileSystem;
use pinmill_engine::{Decoder, EmbeddedEngine, Engine, EngineConfig, ParquetFile, Position, RawValue, Rows};
use pinmill_pipeline::{Dataset, Pipeline};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

type Failure = Box<dyn std::error::Error>;

const BATCH: usize = 8192;
const ROWS_PER_FILE: usize = 262_144;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let records: usize = args.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let keys: u32 = args.next().map_or(Ok(11_000), |text| text.parse())?;
    let pipeline = Pipeline::built_in()?;
    let engine = EmbeddedEngine::new(&EngineConfig::default())?;
    let dir = tempfile::tempdir()?;
    let mut report =
        Map::from_iter([("records_each".to_owned(), records.into()), ("keys".to_owned(), keys.into())]);
    for dataset in &pipeline.datasets {
        let (bytes, ranges) = raw_records(&dataset.name, records, keys);
        let measured = decode_and_clean(&engine, dataset, &bytes, &ranges, dir.path()).await?;
        report.insert(dataset.name.clone(), measured);
    }
    // Twice: the first time the files' metadata is read and the code is warmed up.
    for run in ["answers_first", "answers_again"] {
        for dataset in &pipeline.datasets {
            register(&engine, dataset, dir.path()).await?;
        }
        report.insert(run.to_owned(), answer(&engine, &pipeline).await?);
    }
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report)?;
    std::io::Write::write_all(&mut out, b"\n")?;
    Ok(())
}

/// Records of a dataset as lines, and where each begins and ends.
fn raw_records(dataset: &str, records: usize, keys: u32) -> (Bytes, Vec<std::ops::Range<usize>>) {
    let mut random = ChaCha8Rng::seed_from_u64(100);
    let words =
        "the best way to paint your living room with a touch of colour and some ideas for the garden party";
    let mut text = String::new();
    let mut ranges = Vec::with_capacity(records);
    for number in 0..records {
        // With as many keys as records, each comes once.
        let key = if keys as usize >= records { number as u32 } else { random.random_range(0..keys) };
        let day = key % 28 + 1;
        let row = match dataset {
            "pin" => json!({
                "index": key, "unique_id": format!("{key:08x}-0000-4000-8000-00000000{:04x}", key % 65536),
                "title": &words[..40 + (key as usize % 57)], "description": format!("{words}…\u{a0}"),
                "poster_name": format!("Poster {}", key % 4000), "follower_count": format!("{}k", key % 1000),
                "tag_list": "Living Room Ideas,Wall Paint,Garden Party,Home,DIY,Colour,Summer,Design,Art",
                "is_image_or_video": "image", "downloaded": 1,
                "image_src": format!("https://i.pinimg.com/originals/{:02x}/{:02x}/{key:032x}.jpg", key % 256, key % 251),
                "save_location": "Local save in /data/home-decor", "category": format!("category-{}", key % 13),
            }),
            "geo" => json!({
                "ind": key, "timestamp": format!("2020-08-{day:02} 03:52:47"), "latitude": f64::from(key % 180) - 89.5,
                "longitude": -170.188, "country": format!("Country {}", key % 243),
            }),
            _ => json!({
                "ind": key, "first_name": format!("First{}", key % 70), "last_name": format!("Last{}", key % 71),
                "age": 20 + key % 41, "date_joined": format!("2016-11-{day:02} 12:00:00"),
            }),
        };
        let start = text.len();
        text.push_str(&row.to_string());
        ranges.push(start..text.len());
        text.push('\n');
    }
    (Bytes::from(text), ranges)
}

async fn decode_and_clean(
    engine: &EmbeddedEngine,
    dataset: &Dataset,
    bytes: &Bytes,
    ranges: &[std::ops::Range<usize>],
    dir: &Path,
) -> Result<Value, Failure> {
    let mut decoder = Decoder::new(dataset);
    decoder.chunk(bytes.clone());
    let mut offset = 0;
    let mut raw = Vec::new();
    let started = Instant::now();
    for ranges in ranges.chunks(BATCH) {
        for range in ranges {
            decoder.push(
                RawValue::Chunk(range.clone()),
                Position { partition: 0, offset, sub: 0, ingested_at_us: offset },
            );
            offset += 1;
        }
        let decoded = decoder.finish()?;
        if let Some(rejected) = decoded.rejected.first() {
            return Err(rejected.reason.clone().into());
        }
        raw.push(decoded.batch);
    }
    let decoding = started.elapsed().as_secs_f64();
    let mut cleaner = engine.cleaner(dataset).await?;
    let started = Instant::now();
    let mut clean = Vec::with_capacity(raw.len());
    for batch in &raw {
        clean.push(cleaner.clean(batch)?.rows);
    }
    let cleaning = started.elapsed().as_secs_f64();
    let started = Instant::now();
    write(&clean, &dir.join(&dataset.name))?;
    let writing = started.elapsed().as_secs_f64();
    let megabytes = bytes.len() as f64 / 1e6;
    Ok(json!({
        "megabytes": megabytes, "decode_seconds": decoding, "decode_mb_per_second": megabytes / decoding,
        "clean_seconds": cleaning, "parquet_seconds": writing,
    }))
}

fn write(batches: &[RecordBatch], dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    for (number, batches) in batches.chunks(ROWS_PER_FILE / BATCH).enumerate() {
        let Some(first) = batches.first() else { continue };
        let file = File::create(dir.join(format!("{number}.parquet")))?;
        let mut writer = ArrowWriter::try_new(file, first.schema(), Some(properties.clone()))?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.close()?;
    }
    Ok(())
}

async fn register(engine: &EmbeddedEngine, dataset: &Dataset, dir: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.join(&dataset.name))? {
        let entry = entry?;
        let path = object_store::path::Path::from_filesystem_path(entry.path())?;
        files.push(ParquetFile { path, size: entry.metadata()?.len(), rows: 0 });
    }
    let rows = Rows::Parquet { url: "file:///".parse()?, store: Arc::new(LocalFileSystem::new()), files };
    let schema = engine.cleaner(dataset).await?.schema();
    engine.register_dataset(dataset, schema, rows, None).await?;
    Ok(())
}

async fn answer(engine: &EmbeddedEngine, pipeline: &Pipeline) -> Result<Value, Failure> {
    let answers: Vec<_> = pipeline.answers.iter().collect();
    let started = Instant::now();
    engine.prepare(&answers).await?;
    let preparing = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let mut rows = 0;
    for answer in answers {
        rows += engine.answer(answer).await?.num_rows();
    }
    let answering = started.elapsed().as_secs_f64();
    Ok(json!({ "current_views_seconds": preparing, "nine_answers_seconds": answering, "rows": rows }))
}
