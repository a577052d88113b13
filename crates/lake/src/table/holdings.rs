//! The rows that a table really holds, summed up by the partitions that they came from.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};

use super::{Table, row_hashes};
use crate::{Error, Result, TopicPartition};

/// Topic, lineage and partition, as a row has them.
type Key<'a> = (&'a str, i32, i32);

impl Table {
    /// The wrapping sum of the hashes of the rows (see [`row_hashes`]) of each of these partitions, from an offset on.
    /// Every file of this view is read; one batch is in memory at a time.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Store`], [`Error::Corrupt`].
    pub async fn row_sums(
        &self,
        from: &BTreeMap<TopicPartition, u64>,
    ) -> Result<BTreeMap<TopicPartition, u64>> {
        let mut sums = Sums::new(from);
        if sums.slots.is_empty() {
            return Ok(BTreeMap::new());
        }
        for file in self.files()? {
            for batch in self.batches(&file).await? {
                sums.add(&batch?).map_err(|why| Error::corrupt(&file.path, why))?;
            }
        }
        Ok(sums.slots.into_iter().map(|slot| (slot.place, slot.hash)).collect())
    }
}

/// One partition's sum.
struct Slot {
    place: TopicPartition,
    from: u64,
    hash: u64,
}

struct Sums {
    slots: Vec<Slot>,
    /// Slots by lineage, partition and topic.
    index: HashMap<(i32, i32), HashMap<String, usize>>,
}

impl Sums {
    fn new(from: &BTreeMap<TopicPartition, u64>) -> Self {
        let mut sums = Self { slots: Vec::new(), index: HashMap::new() };
        for (place, &from) in from {
            let key = (place.lineage.cast_signed(), place.partition.cast_signed());
            let of_topic = sums.index.entry(key).or_default();
            of_topic.insert(place.topic.clone(), sums.slots.len());
            sums.slots.push(Slot { place: place.clone(), from, hash: 0 });
        }
        sums
    }

    fn slot(&self, (topic, lineage, partition): Key<'_>) -> Option<usize> {
        self.index.get(&(lineage, partition))?.get(topic).copied()
    }

    /// Rows of pinmill 0.1 name no topic and have no hash; they are passed over.
    fn add(&mut self, batch: &RecordBatch) -> std::result::Result<(), String> {
        let column = |name: &str| batch.column_by_name(name);
        let topics = column("_topic").and_then(|column| column.as_string_opt::<i32>());
        let lineages = column("_lineage").and_then(|column| column.as_primitive_opt::<Int32Type>());
        let partitions = column("_partition").and_then(|column| column.as_primitive_opt::<Int32Type>());
        let offsets = column("_offset").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(topics), Some(partitions), Some(offsets)) = (topics, partitions, offsets) else {
            return Ok(());
        };
        let mut latest: Option<(Key<'_>, Option<usize>)> = None;
        for (row, hash) in row_hashes(batch)?.into_iter().enumerate() {
            if topics.is_null(row) || partitions.is_null(row) || offsets.is_null(row) {
                continue;
            }
            let lineage =
                lineages.filter(|lineages| lineages.is_valid(row)).map_or(0, |lineages| lineages.value(row));
            let key = (topics.value(row), lineage, partitions.value(row));
            // Neighbours are mostly of one partition.
            let slot = match latest {
                Some((known, slot)) if known == key => slot,
                _ => self.slot(key),
            };
            latest = Some((key, slot));
            if let Some(slot) = slot.and_then(|slot| self.slots.get_mut(slot))
                && u64::try_from(offsets.value(row)).is_ok_and(|offset| offset >= slot.from)
            {
                slot.hash = slot.hash.wrapping_add(hash);
            }
        }
        Ok(())
    }
}
