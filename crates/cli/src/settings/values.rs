//! Every setting there is, by section, with its default. The comment on a field is its help.

use std::collections::BTreeMap;
use std::time::Duration;

use pinmill_gateway::Cors;
use serde::{Deserialize, Serialize};

use super::forms::{AccountId, Count, Folder, Location, Names, OrOff, Pages, Size, Span, Switch, Text};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Below it no query gets through: each sort holds 10 MB in reserve for the time when it spills.
const LEAST_ENGINE_MEMORY: u64 = 16 * MIB;
const LEAST_ANSWER_MEMORY: u64 = pinmill_kinesis::LEAST_ANSWER_MEMORY as u64;
const LARGEST_STREAM_RECORD: u64 = pinmill_kinesis::MAX_DATA_BYTES as u64;
const DEEPEST_JSON: u64 = pinmill_gateway::MAX_JSON_DEPTH as u64;
const MOST_PARTITIONS: u64 = u32::MAX as u64;

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

/// Settings with a common prefix.
pub(super) trait Section {
    /// Each field with what it does.
    const HELP: &'static [(&'static str, &'static str)];
}

/// Makes a section of fields with their help, type and default.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident { $(#[doc = $help:literal] $field:ident: $type:ty = $default:expr),+ $(,)? }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub(crate) struct $name { $(#[doc = $help] pub(crate) $field: $type),+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl Section for $name {
            const HELP: &'static [(&'static str, &'static str)] = &[$((stringify!($field), $help)),+];
        }
    };
}

section! {
    /// All settings.
    Values {
        /// folder of the embedded parts: log/, streams/, lake/
        data: Folder = Folder("pinmill-data".to_owned()),
        /// folder or URL of archive and tables; empty: lake/ in the data folder
        lake: Location = Location::new(""),
        /// what keeps the topics
        topics: Topics = Topics::Embedded,
        /// what keeps the streams; off: no streaming half
        streams: Streams = Streams::Embedded,
        /// where the emulator's rows come from
        source: Location = Location::new("generator"),
        /// pipeline folder; empty: the built-in pipelines/pinterest
        pipeline: Text = Text(String::new()),
        /// address of the gateway, or a name of this machine with a port
        listen: Text = Text("127.0.0.1:8082".to_owned()),
        /// let anybody who can reach `listen` post, outside loopback too
        allow_unauthenticated_remote: Switch = Switch(false),
        /// time between two runs of the batch half in `serve`; off: none
        batch_every: OrOff<Span> = OrOff(Some(seconds(60))),
        /// fsync: an acknowledged record survives power loss; os: only the process's death
        durability: Durability = Durability::Fsync,
        /// the streaming half
        stream: Stream = Stream::default(),
        /// the Kinesis API
        kinesis: Kinesis = Kinesis::default(),
        /// the embedded logs
        log: Log = Log::default(),
        /// the raw archive
        archive: Archive = Archive::default(),
        /// the engine
        engine: Engine = Engine::default(),
        /// the gateway
        gateway: Gateway = Gateway::default(),
    }
}

section! {
    /// The streaming half.
    Stream {
        /// what the streaming half loads into tables: streams, topics, both, or off
        from: LoadedFrom = LoadedFrom::Streams,
        /// time after which a streamed record is committed to its table
        commit_every: Span = seconds(1),
        /// records after which a commit does not wait any longer
        max_records: Count = Count::new(50_000),
        /// raw bytes after which a commit does not wait any longer
        max_bytes: Size = Size::new(16 * MIB),
        /// time for which commits and replaced files stay for readers of older versions
        history: Span = seconds(3600),
        /// time between two looks for small files to be merged
        tidy_every: Span = seconds(20),
    }
}

section! {
    /// The Kinesis API.
    Kinesis {
        /// account in ARNs and messages
        account_id: AccountId = AccountId("000000000000".to_owned()),
        /// region in ARNs and of verified signatures; any: each request has its own
        region: Text = Text("us-east-1".to_owned()),
        /// any: signatures are not checked; else a file like ~/.aws/credentials
        credentials: Text = Text("any".to_owned()),
        /// time for which a stream shows CREATING, UPDATING or DELETING
        creation_delay: Span = seconds(0),
        /// open shards of all streams at the most
        shard_limit: Count<0, MOST_PARTITIONS> = Count::new(1000),
        /// largest record of a stream that sets no limit of its own
        max_record: Size<1, LARGEST_STREAM_RECORD> = Size::new(MIB),
        /// keep the limits of a real shard, for what is written to it and read from it
        enforce_throughput: Switch = Switch(false),
        /// make a stream when the façade is first posted to
        auto_create_streams: Switch = Switch(true),
        /// answer errors of the façade with status 200, as API Gateway's templates do
        facade_errors_are_200: Switch = Switch(false),
    }
}

section! {
    /// The embedded logs.
    Log {
        /// size at which a log segment is closed
        segment_bytes: Size = Size::new(128 * MIB),
        /// age at which a log segment is closed
        segment_age: Span = seconds(24 * 3600),
        /// bytes a partition keeps after every reader has passed them
        retention_bytes: OrOff<Size> = OrOff(None),
        /// age after which passed records are removed
        retention_age: OrOff<Span> = OrOff(None),
    }
}

section! {
    /// The raw archive.
    Archive {
        /// records after which an archive object is closed
        max_records: Count = Count::new(100_000),
        /// raw bytes after which an archive object is closed
        max_bytes: Size = Size::new(64 * MIB),
        /// age of its first record after which an archive object is closed
        max_age: Span = seconds(60),
        /// none, gzip or zstd
        compression: Compression = Compression::None,
    }
}

section! {
    /// The engine that runs the SQL.
    Engine {
        /// what runs the SQL
        url: EngineKind = EngineKind::Embedded,
        /// memory that SQL may use before it spills to disk
        memory: Size<LEAST_ENGINE_MEMORY> = Size::new(GIB),
        /// threads for cleaning and SQL; 0: one a core
        threads: Count = Count::new(0),
    }
}

section! {
    /// The gateway.
    Gateway {
        /// largest request body
        max_body: Size = Size::new(10 * MIB),
        /// largest record
        max_record: Size = Size::new(1024 * KIB),
        /// deepest nesting of a JSON body
        max_json_depth: Count<1, DEEPEST_JSON> = Count::new(64),
        /// time a client has for its request head
        header_timeout: Span = seconds(30),
        /// time a client has for its request body
        body_timeout: Span = seconds(30),
        /// time a client has for each 64 KiB of an answer
        write_timeout: Span = seconds(30),
        /// time after which a connection without requests is closed
        idle_timeout: Span = seconds(60),
        /// memory for request bodies; beyond it, the answer is 503
        body_memory: Size = Size::new(256 * MIB),
        /// memory for answers that clients have not read yet
        answer_memory: Size<LEAST_ANSWER_MEMORY> = Size::new(256 * MIB),
        /// connections held at once
        max_connections: Count<1> = Count::new(4096),
        /// requests at once on one connection of HTTP/2
        max_streams: Count<1, MOST_PARTITIONS> = Count::new(128),
        /// what web pages of other origins may do: records (post them), off, any, or origins such as https://a.example
        cors: Pages = Pages(Cors::Records),
        /// host names of this server besides localhost, separated by commas; *: any
        hosts: Names = Names(Vec::new()),
        /// make a topic when it is first posted to
        auto_create_topics: Switch = Switch(true),
        /// partitions of a topic made that way
        default_partitions: Count<1, MOST_PARTITIONS> = Count::new(1),
        /// topics made that way at the most
        max_topics: Count = Count::new(1000),
        /// time from the signal to the end of a server that is stopped
        drain_timeout: Span = seconds(30),
    }
}

impl Engine {
    /// Threads, where a number is set.
    pub(crate) fn workers(&self) -> Option<usize> {
        Some(self.threads.get::<usize>()).filter(|threads| *threads > 0)
    }
}

/// What each setting does, by its dotted name.
pub(super) fn help() -> BTreeMap<String, String> {
    let sections: [(&str, &[(&str, &str)]); 7] = [
        ("", Values::HELP),
        ("stream.", Stream::HELP),
        ("kinesis.", Kinesis::HELP),
        ("log.", Log::HELP),
        ("archive.", Archive::HELP),
        ("engine.", Engine::HELP),
        ("gateway.", Gateway::HELP),
    ];
    let all = sections.into_iter().flat_map(|(prefix, fields)| {
        fields.iter().map(move |(field, help)| {
            (format!("{prefix}{}", field.replace('_', "-")), help.trim().to_owned())
        })
    });
    all.collect()
}

/// Makes an enum of words that are settings.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) enum $name { $($(#[$each])* $variant),+ }
    };
}

words! {
    /// What keeps the topics.
    Topics {
        /// The log in the data folder.
        Embedded,
    }
}

words! {
    /// What keeps the streams.
    Streams {
        /// The log in the data folder.
        Embedded,
        /// Nothing. The streaming half is off.
        Off,
    }
}

words! {
    /// What runs the SQL.
    EngineKind {
        /// DataFusion, in this process.
        Embedded,
    }
}

words! {
    /// What an acknowledgement means.
    Durability {
        /// The record survives power loss.
        Fsync,
        /// The record survives the process's death.
        Os,
    }
}

words! {
    /// How archive objects are compressed.
    Compression {
        /// Not at all.
        None,
        /// gzip.
        Gzip,
        /// Zstandard.
        Zstd,
    }
}

words! {
    /// What the streaming half loads.
    LoadedFrom {
        /// Streams.
        Streams,
        /// Topics.
        Topics,
        /// Streams and topics.
        Both,
        /// Nothing.
        Off,
    }
}

impl LoadedFrom {
    /// True where streams are loaded.
    pub(crate) fn has_streams(self) -> bool {
        matches!(self, Self::Streams | Self::Both)
    }

    /// True where topics are loaded.
    pub(crate) fn has_topics(self) -> bool {
        matches!(self, Self::Topics | Self::Both)
    }
}
