//! Which record of each key is the newest: a pure decision over key, partition, offset and time of arrival.

use std::hash::Hash;

use arrow::buffer::{BooleanBuffer, MutableBuffer};
use arrow::util::bit_util;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Where a record is, and what decides whether it is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) offset: i64,
    pub(super) ingested_at: i64,
    /// Number of the file or batch it is in.
    pub(super) part: u32,
    /// Its row there.
    pub(super) row: u32,
}

impl Candidate {
    /// Newer of the same key and partition: the greater offset. Equal offsets can only come from different topics.
    fn beats_in_partition(&self, other: &Self) -> bool {
        let rank = |c: &Self| (c.offset, c.ingested_at, c.part, c.row);
        rank(self) > rank(other)
    }

    /// Newer of the same key: the later arrival, of equals the greater partition.
    fn beats(&self, partition: i32, other: &Self, other_partition: i32) -> bool {
        let rank = |c: &Self, partition: i32| (c.ingested_at, partition, c.offset, c.part, c.row);
        rank(self, partition) > rank(other, other_partition)
    }
}

/// The newest record so far of each key in each partition.
#[derive(Debug)]
pub(super) struct Winners<K> {
    best: HashMap<(K, i32), Candidate>,
}

impl<K: Hash + Eq> Winners<K> {
    pub(super) fn new() -> Self {
        Self { best: HashMap::new() }
    }

    pub(super) fn add(&mut self, key: K, partition: i32, candidate: Candidate) {
        match self.best.entry((key, partition)) {
            Entry::Occupied(mut best) => {
                if candidate.beats_in_partition(best.get()) {
                    best.insert(candidate);
                }
            }
            Entry::Vacant(place) => {
                place.insert(candidate);
            }
        }
    }

    /// Takes in what was found in other parts.
    pub(super) fn merge(&mut self, mut other: Self) {
        if other.best.len() > self.best.len() {
            std::mem::swap(&mut self.best, &mut other.best);
        }
        for ((key, partition), candidate) in other.best {
            self.add(key, partition, candidate);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.best.len()
    }

    /// Bytes that the table itself takes; what its keys own is not counted.
    pub(super) fn table_bytes(&self) -> usize {
        self.best.capacity() * (size_of::<((K, i32), Candidate)>() + 1) * 8 / 7
    }

    /// The rows of each part that are the newest of their keys. `rows` says how many rows each part has.
    pub(super) fn select(self, rows: &[usize]) -> Vec<Rows> {
        let mut masks: Vec<Rows> = rows.iter().map(|rows| Rows::none(*rows)).collect();
        let mut newest: HashMap<K, (i32, Candidate)> = HashMap::with_capacity(self.best.len());
        let one_partition = {
            let mut partitions = self.best.keys().map(|(_, partition)| *partition);
            let first = partitions.next();
            partitions.all(|partition| Some(partition) == first)
        };
        if one_partition {
            for candidate in self.best.into_values() {
                choose(&mut masks, candidate);
            }
            return masks;
        }
        for ((key, partition), candidate) in self.best {
            let best = newest.entry(key).or_insert((partition, candidate));
            if candidate.beats(partition, &best.1, best.0) {
                *best = (partition, candidate);
            }
        }
        for (_, candidate) in newest.into_values() {
            choose(&mut masks, candidate);
        }
        masks
    }
}

fn choose(masks: &mut [Rows], candidate: Candidate) {
    if let Some(mask) = masks.get_mut(candidate.part as usize) {
        mask.choose(candidate.row as usize);
    }
}

/// Chosen rows of one part: a bit a row.
#[derive(Debug)]
pub(super) struct Rows {
    bits: MutableBuffer,
    rows: usize,
}

impl Rows {
    fn none(rows: usize) -> Self {
        Self { bits: MutableBuffer::from_len_zeroed(rows.div_ceil(8)), rows }
    }

    fn choose(&mut self, row: usize) {
        if row < self.rows {
            bit_util::set_bit(self.bits.as_slice_mut(), row);
        }
    }

    pub(super) fn into_mask(self) -> BooleanBuffer {
        BooleanBuffer::new(self.bits.into(), 0, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(records: &[(i32, i32, i64, i64)]) -> Vec<usize> {
        // In every order, and split in every way: the same rows must win.
        let build = |range: std::ops::Range<usize>| {
            let mut winners = Winners::new();
            for row in range {
                let (key, partition, offset, ingested_at) = records[row];
                winners.add(key, partition, Candidate { offset, ingested_at, part: 0, row: row as u32 });
            }
            winners
        };
        let mut found: Option<Vec<usize>> = None;
        for split in 0..=records.len() {
            for swap in [false, true] {
                let (mut left, mut right) = (build(0..split), build(split..records.len()));
                if swap {
                    std::mem::swap(&mut left, &mut right);
                }
                left.merge(right);
                let rows: Vec<usize> =
                    left.select(&[records.len()]).remove(0).into_mask().set_indices().collect();
                assert_eq!(
                    found.get_or_insert_with(|| rows.clone()),
                    &rows,
                    "split at {split}, swapped {swap}"
                );
            }
        }
        found.unwrap()
    }

    #[test]
    fn within_a_partition_the_greatest_offset_wins_whatever_the_clock_says() {
        assert_eq!(selected(&[(1, 0, 5, 900), (1, 0, 7, 100), (1, 0, 6, 999)]), [1]);
    }

    #[test]
    fn across_partitions_the_latest_arrival_wins_and_then_the_greater_partition() {
        assert_eq!(selected(&[(1, 0, 50, 100), (1, 1, 3, 200), (1, 2, 9, 150)]), [1]);
        assert_eq!(selected(&[(1, 0, 50, 100), (1, 1, 3, 100)]), [1]);
        // The newest of partition 0 is its offset 8, though offset 7 arrived later than anything.
        assert_eq!(selected(&[(1, 0, 7, 900), (1, 0, 8, 100), (1, 1, 1, 500)]), [2]);
    }

    #[test]
    fn each_key_has_exactly_one_row() {
        let records: Vec<(i32, i32, i64, i64)> =
            (0..60).map(|n| (n % 7, n % 3, i64::from(n * 37 % 60), i64::from(n % 5))).collect();
        assert_eq!(selected(&records).len(), 7);
    }
}
