//! What an object of the archive is called. Pure.

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
    /// The end of an object's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => ".json",
            Self::Gzip => ".json.gz",
            Self::Zstd => ".json.zst",
        }
    }
}

/// The name of an object: `<topic>+<partition>+<first offset>[.lineage<n>].json[.gz|.zst]`; the first life of a topic's
/// name has no `.lineage0`.
///
/// The offset is padded to 10 digits; longer ones are just longer, as with Confluent's sink, so that names sort
/// by offset only below 10^10 and readers here sort by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// The partition.
    pub place: TopicPartition,
    /// Offset of the first record in the object.
    pub first_offset: u64,
    /// From the end of the name.
    pub compression: Compression,
}

impl ObjectName {
    /// Reads a file name (no directories). `None` for anything that is not an object of an archive, such as
    /// Confluent's `.keys.avro` side files, `_SUCCESS`, or a name whose offset is not a number.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (stem, compression) = [Compression::Gzip, Compression::Zstd, Compression::None]
            .into_iter()
            .find_map(|c| Some((file_name.strip_suffix(c.extension())?, c)))?;
        let (rest, offset) = stem.rsplit_once('+')?;
        let (offset, lineage) = match offset.split_once(".lineage") {
            None => (offset, 0),
            Some((offset, lineage)) => (offset, later_life(lineage)?),
        };
        let (topic, partition) = rest.rsplit_once('+')?;
        if topic.is_empty() {
            return None;
        }
        let place = TopicPartition::new(topic, digits(partition)?.try_into().ok()?).in_lineage(lineage);
        Some(Self { place, first_offset: digits(offset)?, compression })
    }

    /// Where it lies below the topics directory: `<topic>/partition=<p>/<name>`.
    pub fn path(&self) -> String {
        format!("{}/{self}", directory(&self.place))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TopicPartition { topic, lineage, partition } = &self.place;
        write!(f, "{topic}+{partition}+{:010}", self.first_offset)?;
        if *lineage > 0 {
            write!(f, ".lineage{lineage}")?;
        }
        f.write_str(self.compression.extension())
    }
}

/// `<topic>/partition=<p>`: all lives of a topic's name share it.
pub(crate) fn directory(place: &TopicPartition) -> String {
    format!("{}/partition={}", place.topic, place.partition)
}

/// The number of a lineage as names have it: from 1 on, and without zeros before it, so that a lineage has one name.
fn later_life(text: &str) -> Option<u32> {
    let number: u32 = digits(text)?.try_into().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

/// The number in a directory's name, `partition=<p>`.
pub(crate) fn parse_partition(directory: &str) -> Option<u32> {
    digits(directory.strip_prefix("partition=")?)?.try_into().ok()
}

/// Digits only: `u64::from_str` takes a plus sign too.
fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_confluent_sink() {
        let name = ObjectName {
            place: TopicPartition::new("124df56aef51.pin", 3),
            first_offset: 4200,
            compression: Compression::None,
        };
        assert_eq!(name.path(), "124df56aef51.pin/partition=3/124df56aef51.pin+3+0000004200.json");
        let later = ObjectName { place: name.place.in_lineage(2), compression: Compression::Gzip, ..name };
        assert_eq!(
            later.path(),
            "124df56aef51.pin/partition=3/124df56aef51.pin+3+0000004200.lineage2.json.gz"
        );
    }

    #[test]
    fn every_name_reads_back() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for (topic, partition, first_offset) in [
                ("a", 0, 0),
                ("a.b-c_d", 4_294_967_295, 9_999_999_999),
                ("a+1+2", 7, 10_000_000_000),
                ("x", 1, u64::MAX),
            ] {
                for lineage in [0, 1, u32::MAX] {
                    let place = TopicPartition::new(topic, partition).in_lineage(lineage);
                    let name = ObjectName { place, first_offset, compression };
                    assert_eq!(ObjectName::parse(&name.to_string()), Some(name));
                }
            }
        }
    }

    #[test]
    fn other_names_are_no_objects() {
        for name in [
            "",
            "_SUCCESS",
            "a+0+0.avro",
            "a+0+0000000000.keys.avro",
            "a+0.json",
            "+0+0.json",
            "a++0.json",
            "a+0+.json",
            "a+x+0.json",
            "a+0+-1.json",
            "a+0++1.json",
            "a+4294967296+0.json",
            "a+0+99999999999999999999.json",
            "a+0+0.json.manifest",
            "a+0+0.json#17",
            "a+0+0.lineage0.json",
            "a+0+0.lineage01.json",
            "a+0+0.lineage.json",
            "a+0+0.lineage4294967296.json",
            "a+0+0.lineage1.lineage1.json",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn partition_directories_read_back() {
        assert_eq!(parse_partition("partition=12"), Some(12));
        assert_eq!(parse_partition("partition="), None);
        assert_eq!(parse_partition("partition=1x"), None);
        assert_eq!(parse_partition("year=2022"), None);
    }
}
