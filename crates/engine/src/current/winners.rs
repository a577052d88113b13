//! Which record of each key is the newest: a pure decision over key, place in the log and time of arrival.
//!
//! Two steps, since clocks go back: comparing pairs by offset *or* time would be no order. First the newest of each
//! partition of each topic is found, by offset alone (and before it by the life of the topic's name, as a topic that was
//! made again counts from 0); then the newest of these, by time.

use std::hash::Hash;

use arrow::buffer::{BooleanBuffer, MutableBuffer};
use arrow::util::bit_util;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Where a record is, and what decides whether it is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) lineage: i32,
    pub(super) offset: i64,
    pub(super) sub: i32,
    pub(super) ingested_at: i64,
    /// Number of the file or batch it is in.
    pub(super) part: u32,
    /// Its row there.
    pub(super) row: u32,
}

impl Candidate {
    /// Newer of the same key and place. Of two that are equal in all of that, which only rows without a topic are, the
    /// later one counts.
    fn beats_in_place(&self, other: &Self) -> bool {
        let rank = |c: &Self| (life(c.lineage), c.offset, c.sub, c.ingested_at, c.lineage, c.part, c.row);
        rank(self) > rank(other)
    }
}

/// Lineages from here on are directories of an archive that another sink left. They stand beside each other, and their
/// offsets are counted in common.
pub const FIRST_DIRECTORY: i32 = 1_000_000;

/// Whether a lineage is a directory of another sink's archive.
pub(super) fn is_directory(lineage: i32) -> bool {
    lineage >= FIRST_DIRECTORY
}

/// How a lineage ranks among the lives of its topic: directories rank alike.
fn life(lineage: i32) -> i32 {
    if is_directory(lineage) { 0 } else { lineage }
}

/// A topic (`None` is the one without a name), a partition, and whether it lies in directories of another sink.
type Place = (Option<String>, i32, bool);

/// The partitions of topics that were met, each with a small number.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    numbers: HashMap<Place, u32>,
}

impl Places {
    /// The number of a place.
    pub(super) fn number(&mut self, topic: Option<&str>, partition: i32, in_directories: bool) -> u32 {
        let place = (topic.map(str::to_owned), partition, in_directories);
        if let Some(&number) = self.numbers.get(&place) {
            return number;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a place takes more than a byte of memory")]
        let number = self.places.len() as u32;
        self.places.push(place.clone());
        self.numbers.insert(place, number);
        number
    }

    /// Of each place, by its number, how many are less than it by topic and partition.
    fn ranks(&self) -> Vec<u32> {
        let mut sorted: Vec<(&Place, usize)> = self.places.iter().zip(0..).collect();
        sorted.sort_unstable();
        let mut ranks = vec![0; sorted.len()];
        for (rank, (_, number)) in (0..).zip(sorted) {
            if let Some(place) = ranks.get_mut(number) {
                *place = rank;
            }
        }
        ranks
    }
}

/// The newest record so far of each key in each place.
#[derive(Debug)]
pub(super) struct Winners<K> {
    pub(super) places: Places,
    best: HashMap<(K, u32), Candidate>,
}

impl<K: Hash + Eq> Winners<K> {
    pub(super) fn new() -> Self {
        Self { places: Places::default(), best: HashMap::new() }
    }

    /// Takes a record in; `place` is a number of [`Winners::places`].
    pub(super) fn add(&mut self, key: K, place: u32, candidate: Candidate) {
        match self.best.entry((key, place)) {
            Entry::Occupied(mut best) => {
                if candidate.beats_in_place(best.get()) {
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
            std::mem::swap(self, &mut other);
        }
        let here: Vec<u32> = other
            .places
            .places
            .iter()
            .map(|(topic, partition, directories)| {
                self.places.number(topic.as_deref(), *partition, *directories)
            })
            .collect();
        for ((key, place), candidate) in other.best {
            if let Some(&place) = here.get(place as usize) {
                self.add(key, place, candidate);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.best.len()
    }

    /// Bytes that the table itself takes; what its keys own is not counted.
    pub(super) fn table_bytes(&self) -> usize {
        self.best.capacity() * (size_of::<((K, u32), Candidate)>() + 1) * 8 / 7
    }

    /// The rows of each part that are the newest of their keys. `rows` says how many rows each part has.
    pub(super) fn select(self, rows: &[usize]) -> Vec<Rows> {
        let mut masks: Vec<Rows> = rows.iter().map(|rows| Rows::none(*rows)).collect();
        let ranks = self.places.ranks();
        if ranks.len() < 2 {
            for candidate in self.best.into_values() {
                choose(&mut masks, candidate);
            }
            return masks;
        }
        let mut newest: HashMap<K, (u32, Candidate)> = HashMap::with_capacity(self.best.len());
        for ((key, place), candidate) in self.best {
            let rank = ranks.get(place as usize).copied().unwrap_or_default();
            let best = newest.entry(key).or_insert((rank, candidate));
            if (candidate.ingested_at, rank) > (best.1.ingested_at, best.0) {
                *best = (rank, candidate);
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

    /// Key, topic, lineage, partition, offset, sub and time.
    type Record = (i32, Option<&'static str>, i32, i32, i64, i32, i64);

    fn selected(records: &[Record]) -> Vec<usize> {
        // In every order, and split in every way: the same rows must win.
        let build = |range: std::ops::Range<usize>| {
            let mut winners = Winners::new();
            for row in range {
                let (key, topic, lineage, partition, offset, sub, ingested_at) = records[row];
                let place = winners.places.number(topic, partition, is_directory(lineage));
                let candidate = Candidate { lineage, offset, sub, ingested_at, part: 0, row: row as u32 };
                winners.add(key, place, candidate);
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

    const A: Option<&str> = Some("a.geo");
    const B: Option<&str> = Some("b.geo");

    #[test]
    fn within_a_partition_the_greatest_offset_wins_whatever_the_clock_says() {
        assert_eq!(
            selected(&[(1, A, 0, 0, 5, 0, 900), (1, A, 0, 0, 7, 0, 100), (1, A, 0, 0, 6, 0, 999)]),
            [1]
        );
        assert_eq!(selected(&[(1, A, 0, 0, 7, 1, 900), (1, A, 0, 0, 7, 2, 100)]), [1], "parts of one record");
    }

    #[test]
    fn across_partitions_the_latest_arrival_wins_and_then_the_greater_partition() {
        assert_eq!(
            selected(&[(1, A, 0, 0, 50, 0, 100), (1, A, 0, 1, 3, 0, 200), (1, A, 0, 2, 9, 0, 150)]),
            [1]
        );
        assert_eq!(selected(&[(1, A, 0, 0, 50, 0, 100), (1, A, 0, 1, 3, 0, 100)]), [1]);
        // The newest of partition 0 is its offset 8, though offset 7 arrived later than anything.
        assert_eq!(
            selected(&[(1, A, 0, 0, 7, 0, 900), (1, A, 0, 0, 8, 0, 100), (1, A, 0, 1, 1, 0, 500)]),
            [2]
        );
    }

    #[test]
    fn directories_of_another_sink_rank_by_offset_whatever_their_numbers() {
        let directory = |number| FIRST_DIRECTORY + number;
        let rows = [(1, A, directory(9), 0, 3, 0, 900), (1, A, directory(0), 0, 50, 0, 100)];
        assert_eq!(selected(&rows), [1]);
        // Of two at one offset the later arrival, and then the greater number.
        let at = |number, ingested_at| (1, A, directory(number), 0, 7, 0, ingested_at);
        assert_eq!(selected(&[at(0, 200), at(9, 100)]), [0]);
        assert_eq!(selected(&[at(9, 100), at(0, 100)]), [0]);
        // Beside the lives of the topic, which they neither follow nor precede.
        assert_eq!(selected(&[rows[1], (1, A, 2, 0, 0, 0, 200)]), [1]);
        assert_eq!(selected(&[rows[1], (1, A, 2, 0, 0, 0, 50)]), [0]);
    }

    #[test]
    fn offsets_of_different_topics_are_not_compared() {
        let five_then_one = |first: Option<&'static str>| {
            let old = (0..5).map(|offset| (7, first, 0, 0, offset, 0, 100 + offset));
            selected(&old.chain([(7, B, 0, 0, 0, 0, 200)]).collect::<Vec<_>>())
        };
        assert_eq!(five_then_one(A), [5]);
        assert_eq!(five_then_one(None), [5], "rows of 0.1 are of a topic of their own");
        assert_eq!(five_then_one(B), [4], "and of one topic they are");
        assert_eq!(selected(&[(1, B, 0, 0, 3, 0, 100), (1, A, 0, 9, 3, 0, 100)]), [0], "ties by topic first");
    }

    #[test]
    fn a_later_life_of_a_topic_beats_an_earlier_one_at_any_offset_and_time() {
        assert_eq!(selected(&[(1, A, 0, 0, 50, 0, 900), (1, A, 1, 0, 0, 0, 100)]), [1]);
        // But not the newest of another topic that came later.
        assert_eq!(
            selected(&[(1, A, 0, 0, 5, 0, 900), (1, A, 1, 0, 0, 0, 100), (1, B, 0, 0, 0, 0, 101)]),
            [2]
        );
    }

    #[test]
    fn each_key_has_exactly_one_row() {
        let topic = |n: i32| [None, A, B][(n % 3) as usize];
        let records: Vec<Record> = (0..60)
            .map(|n| (n % 7, topic(n), n / 5 % 2, n / 3 % 3, i64::from(n * 37 % 60), 0, i64::from(n % 5)))
            .collect();
        assert_eq!(selected(&records).len(), 7);
    }
}
