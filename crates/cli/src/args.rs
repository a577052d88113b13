//! The command line: argument types only.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use pinmill_emulate::{MOST_CONNECTIONS, MOST_RECORDS, To};
use pinmill_flow::Half;

use crate::render::Format;

/// Posts in over HTTP, a durable log, an archive, clean Delta tables and answers: one binary.
#[derive(Debug, Parser)]
#[command(name = "pinmill", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Folder of the embedded parts: log/, lake/ [default: pinmill-data]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<String>,
    /// Folder or URL of archive and tables [default: lake/ in the data folder]
    #[arg(long, global = true, value_name = "DIR|URL")]
    pub(crate) lake: Option<String>,
    /// Pipeline folder [default: the built-in one]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pipeline: Option<String>,
    /// Configuration file [default: pinmill.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE", env = "PINMILL_CONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Sets any setting; `pinmill config show` lists them
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Says less on stderr; twice: errors only
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) quiet: u8,
    /// Says more on stderr; twice: everything, the words of libraries too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Words on stderr as text or as JSON lines
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// No progress bars
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// Shape of the words on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Shape of the data on stdout.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Shape of the data on stdout [default: table]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
}

/// Shape of a report on stdout, which is no rows.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Shape of the report on stdout [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<ReportFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// Words.
    #[value(alias = "table")]
    Text,
    /// One JSON document.
    Json,
}

impl Report {
    /// A document, and no words.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Some(ReportFormat::Json)
    }
}

/// What pinmill can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole pipeline once: posts, both halves, clean tables, the answers; ends by itself
    Run(Run),
    /// Gateway and both halves until told to stop; the first line on stdout is the base URL
    Serve(Serve),
    /// Reads a source and posts its rows to a gateway
    Emulate(Box<Emulate>),
    /// Cleans what the archive has (or, with --from stream, the streams have) that the tables have not
    Clean(Clean),
    /// Answers the pipeline's questions from the tables
    Answer(Answer),
    /// Runs a query on the tables and views
    Sql(Sql),
    /// Checks that nothing is lost or doubled in either half, range by range; exit code 4 where it is
    Audit(Audit),
    /// Where the logs, the archive and the tables stand: lag, freshness, commit rate
    Status(Status),
    /// Prints the records of a topic or a stream
    Tail(Tail),
    /// Looks after the tables: history, freshness, compact, vacuum
    Tables(Tables),
    /// What could not be cleaned, and why
    Quarantine(Quarantine),
    /// Checks and repairs the embedded log
    Log(Log),
    /// Writes the built-in pipeline folder out to be changed
    Init(Init),
    /// Plans every SQL file of a pipeline folder without running anything
    Validate(Folder),
    /// Runs the text cases of a pipeline folder
    Test(Folder),
    /// Settings
    Config(Config),
    /// Prints a completion script for a shell
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Events to post; each is one record of pin, one of geo and one of user, whatever datasets the pipeline has
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(crate) posts: u64,
    /// Seed of the rows and of the draws
    #[arg(long, value_name = "S", default_value_t = 100)]
    pub(crate) seed: u64,
    /// Which rows: drawn with replacement as the reference does, or each once in order
    #[arg(long, value_enum, default_value_t = Draw::Replacement)]
    pub(crate) draw: Draw,
    /// Connections to post over
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = up_to(MOST_CONNECTIONS))]
    pub(crate) connections: usize,
    /// What each event is posted to: topics (the batch half), streams (the streaming half), or both
    #[arg(long, value_name = "topics|streams|both", default_value_t = To::Both)]
    pub(crate) to: To,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Takes the name of a half, and offers both in help and completions.
fn half() -> impl TypedValueParser<Value = Half> {
    let name = |name: String| if name == Half::Stream.name() { Half::Stream } else { Half::Batch };
    PossibleValuesParser::new(Half::ALL.map(Half::name)).map(name)
}

/// Which rows are posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Draw {
    /// A random id each time, repeats included.
    Replacement,
    /// 0, 1, 2, …
    Sequence,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address of the gateway; port 0 takes a free one [default: 127.0.0.1:8082]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Time between two runs of the batch half; off: none [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) batch_every: Option<String>,
    /// What keeps the streams: embedded, or off [default: embedded]
    #[arg(long, value_name = "embedded|off")]
    pub(crate) streams: Option<String>,
    /// Time after which a streamed record is committed to its table [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub(crate) commit_every: Option<String>,
    /// What an acknowledgement means: fsync or os [default: fsync]
    #[arg(long, value_name = "fsync|os")]
    pub(crate) durability: Option<String>,
    /// Lets anybody who can reach the address post, outside loopback too
    #[arg(long)]
    pub(crate) allow_unauthenticated_remote: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Emulate {
    /// Gateway to post to: http://HOST:PORT, or a URL that ends in /topics/ID. or /streams/streaming-ID-
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// What each event is posted to
    #[arg(long, value_name = "topics|streams|both", default_value_t = To::Topics)]
    pub(crate) to: To,
    /// Put before the names: topics ID.pin, ID.geo, ID.user; streams ID-pin, ID-geo, ID-user
    #[arg(long, value_name = "ID")]
    pub(crate) prefix: Option<String>,
    /// generator or jsonl:DIR (a row a line of its pin.jsonl, geo.jsonl and user.jsonl); sqlite:FILE, mysql://… and
    /// postgres://… in a program that was built with `cargo build --release --features databases` [default: generator]
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// The reference system's db_creds.yaml: database and URL in one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) creds: Option<PathBuf>,
    /// Events to post; endless where absent
    #[arg(long, value_name = "N")]
    pub(crate) posts: Option<u64>,
    /// Posts the ids of this file in their order: a JSON array, or one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["draw", "rows"], value_hint = ValueHint::FilePath)]
    pub(crate) ids: Option<PathBuf>,
    /// Seed of the generator and of the draws
    #[arg(long, value_name = "S", default_value_t = 100)]
    pub(crate) seed: u64,
    /// Which rows: drawn with replacement as the reference does, or each once in order
    #[arg(long, value_enum, default_value_t = Draw::Replacement)]
    pub(crate) draw: Draw,
    /// Ids are drawn from 0 to N-1 [default: 11001 for draws, or what a smaller source has; all for a sequence]
    #[arg(long, value_name = "N")]
    pub(crate) rows: Option<u64>,
    /// reference (0 or 1 second between events), RATE/s, or max
    #[arg(long, value_name = "PACE", default_value = "reference")]
    pub(crate) pace: String,
    /// Records a request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to(MOST_RECORDS))]
    pub(crate) records_per_request: usize,
    /// Connections to post over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to(MOST_CONNECTIONS))]
    pub(crate) connections: usize,
    /// Form of date-times on the wire: us (08/28/2020, 03:52:47), sql or iso
    #[arg(long, value_name = "FORM", default_value = "us")]
    pub(crate) date_form: String,
    /// Appends a line for every acknowledged record
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ack_log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Report,
}

#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// Into the tables of which half: batch from the archive, stream from the streams
    #[arg(long, value_parser = half(), default_value_t)]
    pub(crate) from: Half,
    /// Reads raw objects from here instead of the lake's own archive: an old S3 sink's bucket, say
    #[arg(long, value_name = "DIR|URL", conflicts_with = "from")]
    pub(crate) archive: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Answer {
    /// Answers to give; all where none is named. A name may be shortened: 03b
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// From the tables of which half
    #[arg(long, value_parser = half(), default_value_t)]
    pub(crate) from: Half,
    /// Writes the rows to this file instead of stdout; its ending decides the form: .parquet, .csv, .json, .ndjson, .jsonl
    /// or .md
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// The query; `-` reads it from standard input
    #[arg(value_name = "QUERY")]
    pub(crate) query: String,
    /// On the tables of which half
    #[arg(long, value_parser = half(), default_value_t)]
    pub(crate) from: Half,
    /// Writes the rows to this file instead of stdout; its ending decides the form: .parquet, .csv, .json, .ndjson, .jsonl
    /// or .md
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Where the raw objects are when they were cleaned from elsewhere: what `clean --archive` was given
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) archive: Option<String>,
    /// Reads every archived object again instead of trusting its manifest
    #[arg(long)]
    pub(crate) deep: bool,
    /// Records that a running system has accepted and not yet archived or cleaned do not count as missing
    #[arg(long)]
    pub(crate) allow_pending: bool,
    /// Both halves must hold the same rows, because every post went to both
    #[arg(long)]
    pub(crate) same_rows: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Topic or stream; `topics/NAME` or `streams/NAME` where both have the name
    #[arg(value_name = "TOPIC|STREAM")]
    pub(crate) name: String,
    /// Only this partition or shard
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// Records of each partition's end that are printed
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub(crate) records: u64,
    /// Prints from this offset of each partition on instead; `beginning` is the oldest record
    #[arg(long, value_name = "OFFSET|beginning", conflicts_with = "records")]
    pub(crate) from: Option<String>,
    /// Goes on until ctrl-c
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Shape of the data on stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Ndjson)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Tables {
    #[command(subcommand)]
    pub(crate) command: TablesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TablesCommand {
    /// What was done to a table, newest first
    History {
        /// The table: batch/pin, stream/geo, answers/…
        table: String,
        /// Commits listed at the most
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        output: Output,
    },
    /// How long streamed rows took from being accepted to being in their table
    Freshness {
        /// Only rows accepted this long ago or later
        #[arg(long, value_name = "TIME", default_value = "10m")]
        since: String,
        #[command(flatten)]
        output: Output,
    },
    /// Puts small files together
    Compact {
        /// The tables; all of both halves where none is named
        tables: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Removes files that no version needs that is younger than --older-than
    Vacuum {
        /// The tables; all of both halves, and the answers, where none is named
        tables: Vec<String>,
        /// How long replaced files stay; not shorter than the longest query
        #[arg(long, value_name = "TIME", default_value = "7d")]
        older_than: String,
        /// Names the files, one a line, and removes none
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    /// The quarantine of which half
    #[arg(long, value_parser = half(), value_name = "HALF", default_value_t, global = true)]
    pub(crate) from: Half,
    #[command(subcommand)]
    pub(crate) command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Reasons and how often each occurs; with --records, one line a record
    List {
        /// Only this dataset
        #[arg(long, value_name = "NAME")]
        dataset: Option<String>,
        /// One line a record
        #[arg(long)]
        records: bool,
        /// Records considered at the most: the oldest
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
        #[command(flatten)]
        output: Output,
    },
    /// One record's raw bytes on stdout
    Show {
        /// Topic of the record
        topic: String,
        /// Partition of the record
        partition: u32,
        /// Offset of the record
        offset: u64,
        /// Life of the topic's name that the record is of: 1 after the topic was first deleted and made again
        #[arg(long, value_name = "N", default_value_t = 0)]
        lineage: u32,
    },
    /// Cleans quarantined records again with the pipeline as it is now; those that pass move to their table
    Replay {
        /// Only this dataset
        #[arg(long, value_name = "NAME")]
        dataset: Option<String>,
        #[command(flatten)]
        output: Report,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The streams' log instead of the topics'
    #[arg(long, global = true)]
    pub(crate) streams: bool,
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Reads every batch and checks it; changes nothing
    Verify {
        #[command(flatten)]
        output: Report,
    },
    /// Writes a repaired copy that keeps every readable batch, and lists what was lost
    Repair {
        /// Folder for the copy; must not exist
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        to: PathBuf,
        #[command(flatten)]
        output: Report,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Folder to write
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Overwrites files that are there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The folder [default: --pipeline, else the built-in one]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Report,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every setting and its value
    Show {
        /// Says where each value came from
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// A number from 1 on.
fn up_to(most: usize) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most as u64)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

impl Cli {
    /// The settings that the command line sets, in the order of precedence within it: `--set` first, so that a named flag wins.
    pub(crate) fn flags(&self) -> Vec<(String, String)> {
        let mut flags = self.global.set.clone();
        let mut put = |key: &str, value: Option<&String>| {
            if let Some(value) = value {
                flags.push((key.to_owned(), value.clone()));
            }
        };
        put("data", self.global.data.as_ref());
        put("lake", self.global.lake.as_ref());
        put("pipeline", self.global.pipeline.as_ref());
        match &self.command {
            Command::Serve(serve) => {
                put("listen", serve.listen.as_ref());
                put("batch-every", serve.batch_every.as_ref());
                put("streams", serve.streams.as_ref());
                put("stream.commit-every", serve.commit_every.as_ref());
                put("durability", serve.durability.as_ref());
                if serve.allow_unauthenticated_remote {
                    put("allow-unauthenticated-remote", Some(&"true".to_owned()));
                }
            }
            Command::Emulate(emulate) => put("source", emulate.source.as_ref()),
            _ => {}
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_named_flag_wins_over_set() {
        let cli = Cli::parse_from(["pinmill", "serve", "--set", "listen=a:1", "--listen", "b:2"]);
        let flags = cli.flags();
        assert_eq!(flags.last(), Some(&("listen".to_owned(), "b:2".to_owned())));
    }
}
