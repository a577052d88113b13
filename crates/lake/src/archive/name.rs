//! What an object of the archive is called. Pure.
//!
//! pinmill writes `<topic>+<partition>+<first offset, 10 digits>[.lineage<n>].json[.gz|.zst]`: the names of Confluent's S3
//! sink, and a mark for the later lives of a topic that was deleted and made again. It reads what the sink can write:
//!
//! | | |
//! | --- | --- |
//! | offset | of any number of digits (`filename.offset.zero.pad.width`) |
//! | between the parts | anything without digits, the same twice (`file.delim`) |
//! | ending | `.json`, `.bin`, each also with `.gz` or `.zst`, in upper or lower case |
//! | the whole | also as in a URL (`%2B` for `+`), as some tools save it |

use std::borrow::Cow;
use std::fmt;

use crate::TopicPartition;

/// How an object is compressed, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Compression {
    /// `.json`
    #[default]
    None,
    /// `.json.gz`
    Gzip,
    /// `.json.zst`
    Zstd,
}

impl Compression {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// The end of an object's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => ".json",
            Self::Gzip => ".json.gz",
            Self::Zstd => ".json.zst",
        }
    }
}

/// The name that pinmill gives an object: `<topic>+<partition>+<first offset>[.lineage<n>].json[.gz|.zst]`; the first life
/// of a topic's name has no `.lineage0`.
///
/// The offset is padded to 10 digits; longer ones are just longer, as with Confluent's sink, so that names sort
/// by offset only below 10^10 and readers here sort by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// The partition, in one life of its topic.
    pub place: TopicPartition,
    /// Offset of the first record in the object.
    pub first_offset: u64,
    /// From the end of the name.
    pub compression: Compression,
}

impl ObjectName {
    /// Reads a name that pinmill gives (no directories); `None` for any other.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (topic, _) = file_name.split_once('+')?;
        let Recognised::Object(Spelled { lineage, partition, first_offset, compression, .. }) =
            recognise(topic, file_name)
        else {
            return None;
        };
        let place = TopicPartition::new(topic, partition).in_lineage(lineage);
        let name = Self { place, first_offset, compression };
        (!topic.is_empty() && name.to_string() == file_name).then_some(name)
    }

    /// Where it lies below the topics directory: `<topic>/partition=<p>/<name>`.
    pub fn path(&self) -> String {
        format!("{}/{self}", directory(&self.place))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place: TopicPartition { topic, lineage, partition }, first_offset, compression } = self;
        write!(f, "{topic}+{partition}+{first_offset:010}")?;
        if *lineage > 0 {
            write!(f, ".lineage{lineage}")?;
        }
        f.write_str(compression.extension())
    }
}

/// What stands behind an object's name in the name of its manifest.
pub(crate) const MANIFEST: &str = ".manifest";
/// No part of a path on a local disk may have more bytes.
pub(crate) const MAX_FILE_NAME: usize = 255;
/// No key of an object in S3 may have more bytes.
pub(crate) const MAX_KEY: usize = 1024;

/// The most characters that a topic's name may have if all of its records are to be archived, in all its lives: the
/// longest file name that is ever written for it, the manifest of a compressed object of a late life, fits a local disk.
/// (A key in S3 has room for it, and for a long prefix: the topic stands in it twice. Staged files have names without
/// the topic.)
pub fn max_topic_name() -> usize {
    let longest = ObjectName {
        place: TopicPartition::new("", u32::MAX).in_lineage(u32::MAX),
        // Delta's BIGINT takes no more.
        first_offset: i64::MAX as u64,
        compression: Compression::Zstd,
    };
    MAX_FILE_NAME - longest.to_string().len() - MANIFEST.len()
}

/// What a file among a topic's objects is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recognised {
    /// An object of lines.
    Object(Spelled),
    /// Keys or headers of an object's records, which the sink may write beside it.
    Side,
    /// Hidden: its name begins with `_` or `.`, as `_SUCCESS` does. Readers pass over these everywhere.
    Hidden,
    /// An object in a format that is not read here.
    Format(&'static str),
    /// Something else.
    Unknown,
}

/// What the name of an object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spelled {
    pub(crate) lineage: u32,
    pub(crate) partition: u32,
    pub(crate) first_offset: u64,
    pub(crate) compression: Compression,
    /// `.bin`: values as they came, which are lines of JSON or are not.
    pub(crate) bytes: bool,
}

/// Recognises a file that lies among the objects of a topic.
pub(crate) fn recognise(topic: &str, file_name: &str) -> Recognised {
    let name = decoded(file_name);
    let lower = name.to_ascii_lowercase();
    if let Some(spelled) = name.strip_prefix(topic).and_then(|rest| spelled(rest, &lower)) {
        return Recognised::Object(spelled);
    }
    let has = |part: &str| lower.contains(part);
    match () {
        () if has(".keys.") || has(".headers.") => Recognised::Side,
        () if lower.is_empty() || lower.starts_with(['_', '.']) => Recognised::Hidden,
        () if lower.ends_with(".avro") => Recognised::Format("Avro"),
        () if lower.ends_with(".parquet") => Recognised::Format("Parquet"),
        () => Recognised::Unknown,
    }
}

/// Reads what follows the topic in an object's name; `lower` is the whole name in lower case.
fn spelled(rest: &str, lower: &str) -> Option<Spelled> {
    const ENDS: [(&str, Compression, bool); 6] = [
        (".json", Compression::None, false),
        (".json.gz", Compression::Gzip, false),
        (".json.zst", Compression::Zstd, false),
        (".bin", Compression::None, true),
        (".bin.gz", Compression::Gzip, true),
        (".bin.zst", Compression::Zstd, true),
    ];
    let &(end, compression, bytes) = ENDS.iter().find(|(end, ..)| lower.ends_with(end))?;
    let stem = rest.get(..rest.len().checked_sub(end.len())?)?;
    let (stem, lineage) = match stem.rsplit_once(".lineage") {
        Some((stem, number)) => (stem, number.parse().ok().filter(|&lineage| lineage > 0)?),
        None => (stem, 0),
    };
    let (stem, first_offset) = trailing_digits(stem)?;
    let delimiter = &stem[..stem.find(|c: char| c.is_ascii_digit())?];
    let partition =
        stem.strip_prefix(delimiter)?.strip_suffix(delimiter).filter(|_| !delimiter.is_empty())?;
    let partition = digits(partition)?.try_into().ok()?;
    Some(Spelled { lineage, partition, first_offset, compression, bytes })
}

/// A text that ends in a number: what stands before it, and the number.
fn trailing_digits(text: &str) -> Option<(&str, u64)> {
    let before = text.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((before, digits(&text[before.len()..])?))
}

/// A name as it was before somebody wrote it as in a URL. Names of ours hold no `%`.
pub(crate) fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return name.into();
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let escaped = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(b'%'));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_or(name.into(), Cow::Owned)
}

/// `<topic>/partition=<p>`: all lives of a topic's name share it.
pub(crate) fn directory(place: &TopicPartition) -> String {
    format!("{}/partition={}", place.topic, place.partition)
}

/// The number in a directory's name, `partition=<p>`, as pinmill and the sink's default partitioner write it.
pub(crate) fn parse_partition(directory: &str) -> Option<u32> {
    let partition = digits(directory.strip_prefix("partition=")?)?.try_into().ok()?;
    (directory == format!("partition={partition}")).then_some(partition)
}

/// Digits only: `u64::from_str` takes a plus sign too.
fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(topic: &str, lineage: u32, partition: u32, first_offset: u64) -> ObjectName {
        let place = TopicPartition::new(topic, partition).in_lineage(lineage);
        ObjectName { place, first_offset, compression: Compression::None }
    }

    fn object(topic: &str, file_name: &str) -> Spelled {
        match recognise(topic, file_name) {
            Recognised::Object(spelled) => spelled,
            other => panic!("{file_name} of {topic} is {other:?}"),
        }
    }

    #[test]
    fn names_are_those_of_the_confluent_sink() {
        let first = name("124df56aef51.pin", 0, 3, 4200);
        assert_eq!(first.path(), "124df56aef51.pin/partition=3/124df56aef51.pin+3+0000004200.json");
        let later = name("124df56aef51.pin", 2, 3, 4200);
        assert_eq!(later.path(), "124df56aef51.pin/partition=3/124df56aef51.pin+3+0000004200.lineage2.json");
    }

    /// The rule for topics, `broker::check_topic_name`.
    const TOPIC: &str = "[a-zA-Z0-9._-]{1,188}";

    proptest! {
        #![proptest_config(pinmill_testkit::property(512))]

        #[test]
        fn every_name_reads_back_whatever_its_topic_is_called(
            topic in TOPIC, lineage in prop_oneof![Just(0), any::<u32>()], partition in any::<u32>(),
            first_offset in any::<u64>(), compression in 0..3_usize,
        ) {
            let compression = Compression::ALL[compression];
            let place = TopicPartition::new(topic, partition).in_lineage(lineage);
            let name = ObjectName { place, first_offset, compression };
            prop_assert_eq!(ObjectName::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn every_topic_of_the_longest_name_has_names_that_fit_a_disk(
            lineage in any::<u32>(), partition in any::<u32>(), first_offset in 0..=i64::MAX as u64,
        ) {
            let name = name(&"x".repeat(max_topic_name()), lineage, partition, first_offset);
            let file = format!("{name}{MANIFEST}");
            prop_assert!(file.len() <= MAX_FILE_NAME);
        }

        #[test]
        fn any_spelling_of_the_sink_is_read(
            topic in TOPIC, partition in any::<u32>(), offset in any::<u64>(), width in 1..21_usize,
            delimiter in "[+_.~-]{1,3}", ending in "[.](json|JSON|Json)([.](gz|GZ|zst))?", encoded in any::<bool>(),
        ) {
            let mut file = format!("{topic}{delimiter}{partition}{delimiter}{offset:0width$}{ending}");
            if encoded {
                file = file.replace('+', "%2B");
            }
            let spelled = object(&topic, &file);
            prop_assert_eq!((spelled.partition, spelled.first_offset), (partition, offset));
        }

        #[test]
        fn any_text_is_recognised_as_something(topic in TOPIC, file in ".{0,40}") {
            let _ = recognise(&topic, &file);
            let _ = recognise(&topic, &format!("{topic}{file}"));
        }
    }

    #[test]
    fn the_limit_of_a_topics_name_is_what_the_documentation_says() {
        assert_eq!(max_topic_name(), 188);
    }

    #[test]
    fn objects_are_known_by_the_topic_of_their_directory() {
        assert_eq!(object("a-1", "a-1-2-0000000007.json").partition, 2);
        assert_eq!(object("a", "a%2b3%2B7.JSON.GZ").compression, Compression::Gzip);
        assert!(object("a", "a+3+7.bin").bytes);
        for file in
            ["b+0+0000000000.json", "a.b+0+0000000000.json", "a0+0000000000.json", "a+0-0000000000.json"]
        {
            assert_eq!(recognise("a", file), Recognised::Unknown, "{file}");
        }
    }

    #[test]
    fn what_lies_beside_objects_is_told_apart() {
        for file in ["a+0+0000000000.keys.avro", "a+0+0000000000.headers.json", "a+0+0.KEYS.json.gz"] {
            assert_eq!(recognise("a", file), Recognised::Side, "{file}");
        }
        for file in ["_SUCCESS", ".DS_Store", "._a+0+0000000000.json"] {
            assert_eq!(recognise("a", file), Recognised::Hidden, "{file}");
        }
        assert_eq!(recognise("a", "a+0+0000000000.avro"), Recognised::Format("Avro"));
        assert_eq!(recognise("a", "a+0+0000000000.snappy.parquet"), Recognised::Format("Parquet"));
        assert!(matches!(recognise("_a", "_a+0+0000000000.json"), Recognised::Object(_)));
    }

    #[test]
    fn other_names_are_no_objects_of_ours() {
        for name in [
            "",
            "_SUCCESS",
            "a+0+0.avro",
            "a+0+0.json",
            "a+0+0000000000.keys.avro",
            "a+0+0000000000.JSON",
            "a%2B0%2B0000000000.json",
            "a+0.json",
            "+0+0000000000.json",
            "a++0000000000.json",
            "a+0+.json",
            "a+x+0000000000.json",
            "a+0+-1.json",
            "a+0++1.json",
            "a+00+0000000000.json",
            "a+4294967296+0000000000.json",
            "a+0+99999999999999999999.json",
            "a+0+0000000000.lineage0.json",
            "a+0+0000000000.lineage01.json",
            "a+0+0000000000.lineage4294967296.json",
            "a+0+0000000000.json.manifest",
            "a+0+0000000000.json#17",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn partition_directories_read_back() {
        assert_eq!(parse_partition("partition=12"), Some(12));
        for other in
            ["partition=", "partition=1x", "partition=01", "partition=+1", "year=2022", "partition%3D1"]
        {
            assert_eq!(parse_partition(other), None, "{other}");
        }
    }
}
