//! What a record is called, wherever it lies.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One partition of one life of a topic.
///
/// A topic that is deleted and made again has the old name and other records at the old offsets. So each life of a name
/// has a number, its *lineage*: 0 is the first (see [`crate::lineage`]).
///
/// In JSON `lineage` is left out where it is 0, as 0.1 wrote it. As text: `124df56aef51.geo/0`, and
/// `124df56aef51.geo~1/0` in lineage 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// Which life of the topic's name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lineage: u32,
    /// The partition.
    pub partition: u32,
}

impl TopicPartition {
    /// A partition of a topic's first life.
    pub fn new(topic: impl Into<String>, partition: u32) -> Self {
        Self { topic: topic.into(), lineage: 0, partition }
    }

    /// The same partition of another life.
    #[must_use]
    pub fn in_lineage(self, lineage: u32) -> Self {
        Self { lineage, ..self }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.topic)?;
        if self.lineage > 0 {
            write!(f, "~{}", self.lineage)?;
        }
        write!(f, "/{}", self.partition)
    }
}

/// A record, by its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The partition that it lies in.
    #[serde(flatten)]
    pub place: TopicPartition,
    /// The offset.
    pub offset: u64,
    /// Which of the records that were sent as one, where a record holds several; 0 otherwise. Left out of JSON where it
    /// is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sub: u32,
}

impl RecordId {
    /// The record at an offset.
    pub fn new(place: TopicPartition, offset: u64) -> Self {
        Self { place, offset, sub: 0 }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}", self.place, self.offset)?;
        match self.sub {
            0 => Ok(()),
            sub => write!(f, " part {sub}"),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_life_is_written_as_0_1_wrote_it_and_read_from_what_it_wrote() {
        let place = TopicPartition::new("124df56aef51.geo", 0);
        let id = RecordId::new(place.clone(), 7);
        let text = r#"{"topic":"124df56aef51.geo","partition":0,"offset":7}"#;
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
        assert_eq!(serde_json::from_str::<RecordId>(text).unwrap(), id);
        assert_eq!(
            (place.to_string(), id.to_string().as_str()),
            ("124df56aef51.geo/0".to_owned(), "124df56aef51.geo/0 offset 7")
        );
    }

    #[test]
    fn a_later_life_and_a_part_of_a_record_come_back_and_show() {
        let id = RecordId { sub: 2, ..RecordId::new(TopicPartition::new("geo", 3).in_lineage(1), 7) };
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, r#"{"topic":"geo","lineage":1,"partition":3,"offset":7,"sub":2}"#);
        assert_eq!(serde_json::from_str::<RecordId>(&text).unwrap(), id);
        assert_eq!(id.to_string(), "geo~1/3 offset 7 part 2");
    }
}
