//! What becomes of a stream's shards by a split, a merge, or a new number of them: pure functions from shards to shards.
//!
//! Clocks stand still, go back, and are coarser than two changes of shards. The times of shards do not: a child is made at
//! least a second after each of its parents in the sense of sequence numbers, so its numbers are above all of theirs, and
//! no shard is closed before it was opened.
//!
//! Shards that a plan closes get an end offset of 0; whoever carries the plan out puts the true one in, once nothing
//! is being written to them any more.

use crate::ids::hash::HashRange;
use crate::model::{Closed, Shard, seconds};

/// Why shards cannot be changed as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The shard was split or merged before.
    Closed(u32),
    /// The hash key does not divide the shard's range in two.
    KeyOutside(HashRange),
    /// The second range does not follow the first.
    NotAdjacent,
}

/// All shards after one of them was split in two at `key`, which starts the second.
pub(crate) fn split(shards: &[Shard], index: u32, key: u128, now_ms: i64) -> Result<Vec<Shard>, Refusal> {
    let mut after = shards.to_vec();
    split_in_place(&mut after, index, key, now_ms)?;
    Ok(after)
}

/// All shards after two neighbours were merged.
pub(crate) fn merge(shards: &[Shard], first: u32, second: u32, now_ms: i64) -> Result<Vec<Shard>, Refusal> {
    let mut after = shards.to_vec();
    merge_in_place(&mut after, first, second, now_ms)?;
    Ok(after)
}

/// All shards after their number was changed the way Amazon does it: where more are wanted, each open shard is split in
/// the middle; then neighbours are merged in pairs, from the lowest hash key on, until there are as many as wanted.
pub(crate) fn scale(shards: &[Shard], target: u32, now_ms: i64) -> Result<Vec<Shard>, Refusal> {
    let mut after = shards.to_vec();
    let target = target as usize;
    if open_by_range(&after).len() < target {
        for index in open_in_order(&after) {
            let range = open_shard(&after, index)?.range;
            split_in_place(&mut after, index, range.start + (range.end - range.start) / 2 + 1, now_ms)?;
        }
    }
    loop {
        let open = open_by_range(&after);
        let surplus = open.len().saturating_sub(target);
        if surplus == 0 {
            return Ok(after);
        }
        for pair in open.chunks_exact(2).take(surplus) {
            if let [first, second] = pair {
                merge_in_place(&mut after, *first, *second, now_ms)?;
            }
        }
        // One shard cannot be merged with anything.
        if open.len() < 2 {
            return Ok(after);
        }
    }
}

fn split_in_place(shards: &mut Vec<Shard>, index: u32, key: u128, now_ms: i64) -> Result<(), Refusal> {
    let range = open_shard(shards, index)?.range;
    if key <= range.start.saturating_add(1) || key >= range.end {
        return Err(Refusal::KeyOutside(range));
    }
    let birth = close(shards, &[index], now_ms);
    let child = |range| birth.child(range, index, None);
    shards.push(child(HashRange { start: range.start, end: key - 1 }));
    shards.push(child(HashRange { start: key, end: range.end }));
    Ok(())
}

fn merge_in_place(shards: &mut Vec<Shard>, first: u32, second: u32, now_ms: i64) -> Result<(), Refusal> {
    let (low, high) = (open_shard(shards, first)?.range, open_shard(shards, second)?.range);
    if low.end.checked_add(1) != Some(high.start) {
        return Err(Refusal::NotAdjacent);
    }
    let birth = close(shards, &[first, second], now_ms);
    shards.push(birth.child(HashRange { start: low.start, end: high.end }, first, Some(second)));
    Ok(())
}

/// The times of shards that are being made.
#[derive(Debug, Clone, Copy)]
struct Birth {
    created_s: u64,
    opened_ms: i64,
}

impl Birth {
    fn child(self, range: HashRange, parent: u32, adjacent_parent: Option<u32>) -> Shard {
        let Self { created_s, opened_ms } = self;
        Shard { range, created_s, opened_ms, parent: Some(parent), adjacent_parent, closed: None }
    }
}

/// Closes shards and says when their children are made.
fn close(shards: &mut [Shard], parents: &[u32], now_ms: i64) -> Birth {
    let of_parents = || parents.iter().filter_map(|index| shards.get(*index as usize));
    let newest_s = of_parents().map(|parent| parent.created_s).max().unwrap_or(0);
    let opened_ms = of_parents().map(|parent| parent.opened_ms).fold(now_ms, i64::max);
    for index in parents {
        if let Some(shard) = shards.get_mut(*index as usize) {
            shard.closed = Some(Closed { at_ms: opened_ms, end_offset: 0 });
        }
    }
    Birth { created_s: seconds(now_ms).max(newest_s) + 1, opened_ms }
}

fn open_shard(shards: &[Shard], index: u32) -> Result<&Shard, Refusal> {
    shards.get(index as usize).filter(|shard| shard.closed.is_none()).ok_or(Refusal::Closed(index))
}

fn open_in_order(shards: &[Shard]) -> Vec<u32> {
    (0..).zip(shards).filter(|(_, shard)| shard.closed.is_none()).map(|(index, _)| index).collect()
}

fn open_by_range(shards: &[Shard]) -> Vec<u32> {
    let mut open: Vec<_> = (0..).zip(shards).filter(|(_, shard)| shard.closed.is_none()).collect();
    open.sort_by_key(|(_, shard)| shard.range.start);
    open.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Mode, StreamState};

    const NOW: i64 = 1_733_333_333_123;

    fn shards(count: u32) -> Vec<Shard> {
        StreamState::new("s", count, Mode::Provisioned, NOW - 60_000).shards
    }

    /// Open shards cover all hash keys once, and every closed shard has children that cover its own range.
    fn assert_whole(shards: &[Shard]) {
        let open = open_by_range(shards);
        let ranges: Vec<_> = open.iter().map(|index| shards[*index as usize].range).collect();
        assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, u128::MAX));
        assert!(ranges.windows(2).all(|pair| pair[0].end + 1 == pair[1].start));
        for (index, shard) in (0_u32..).zip(shards) {
            let is_child =
                |child: &&Shard| child.parent == Some(index) || child.adjacent_parent == Some(index);
            let children: Vec<_> = shards.iter().filter(is_child).collect();
            assert_eq!(shard.closed.is_some(), !children.is_empty());
            if let Some(closed) = shard.closed {
                let start = children.iter().map(|child| child.range.start).min().unwrap();
                let end = children.iter().map(|child| child.range.end).max().unwrap();
                assert!(start <= shard.range.start && end >= shard.range.end);
                assert!(closed.at_ms >= shard.opened_ms);
                assert!(children.iter().all(|child| child.opened_ms >= closed.at_ms));
            }
        }
    }

    #[test]
    fn a_split_makes_two_children_that_share_the_range() {
        let after = split(&shards(2), 1, u128::MAX - 10, NOW).unwrap();
        assert_eq!(after.len(), 4);
        assert_eq!(after[1].closed, Some(Closed { at_ms: NOW, end_offset: 0 }));
        assert_eq!((after[2].parent, after[2].adjacent_parent), (Some(1), None));
        assert_eq!(after[2].range.end, u128::MAX - 11);
        assert_eq!(after[3].range, HashRange { start: u128::MAX - 10, end: u128::MAX });
        assert_eq!(after[3].created_s, seconds(NOW) + 1);
        assert_whole(&after);
    }

    #[test]
    fn a_split_outside_of_the_range_is_refused_at_its_edges() {
        let shards = shards(2);
        let range = shards[0].range;
        for key in [0, 1, range.end, range.end + 1] {
            assert_eq!(split(&shards, 0, key, NOW), Err(Refusal::KeyOutside(range)), "{key}");
        }
        for key in [2, range.end - 1] {
            assert_whole(&split(&shards, 0, key, NOW).unwrap());
        }
        let once = split(&shards, 0, 2, NOW).unwrap();
        assert_eq!(split(&once, 0, 3, NOW), Err(Refusal::Closed(0)));
    }

    #[test]
    fn only_neighbours_in_order_are_merged() {
        let shards = shards(3);
        let after = merge(&shards, 0, 1, NOW).unwrap();
        assert_eq!((after[3].parent, after[3].adjacent_parent), (Some(0), Some(1)));
        assert_eq!(after[3].range, HashRange { start: 0, end: shards[1].range.end });
        assert_whole(&after);
        for (first, second) in [(1, 0), (0, 2), (0, 0), (2, 0)] {
            assert_eq!(merge(&shards, first, second, NOW), Err(Refusal::NotAdjacent), "{first} {second}");
        }
        assert_eq!(merge(&after, 1, 2, NOW), Err(Refusal::Closed(1)));
    }

    #[test]
    fn a_new_count_leaves_as_many_shards_behind_as_at_amazon() {
        for (before, target, total) in
            [(2, 4, 6), (4, 5, 15), (10, 13, 37), (4, 2, 6), (5, 3, 7), (10, 3, 17), (3, 3, 3)]
        {
            let after = scale(&shards(before), target, NOW).unwrap();
            assert_eq!(after.len(), total, "{before} to {target}");
            assert_eq!(open_by_range(&after).len(), target as usize);
            assert_whole(&after);
        }
    }

    /// A shard's first number is above the last number of each of its parents.
    fn assert_numbers_ascend(shards: &[Shard]) {
        for (index, shard) in (0_u32..).zip(shards) {
            let starting = shard.starting_sequence_number(index);
            for parent in shard.parent.into_iter().chain(shard.adjacent_parent) {
                let ending = shards[parent as usize].ending_sequence_number(parent).unwrap();
                assert!(starting > ending, "shard {index} starts at or below the end of its parent {parent}");
            }
        }
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(100))]

        #[test]
        fn a_childs_numbers_are_above_its_parents_however_the_clock_goes(
            first in 1_u32..8,
            steps in prop::collection::vec((0_u8..3, any::<u32>(), any::<u128>(), -2000_i64..2000), 0..40),
            is_standing: bool,
        ) {
            let (mut shards, mut now_ms) = (shards(first), NOW);
            for (step, pick, key, passed_ms) in steps {
                now_ms += if is_standing { 0 } else { passed_ms };
                let open = open_by_range(&shards);
                let at = pick as usize % open.len();
                let after = match step {
                    0 => split(&shards, open[at], key, now_ms),
                    1 => merge(&shards, open[at], open[(at + 1) % open.len()], now_ms),
                    _ => scale(&shards, 1 + pick % 8, now_ms),
                };
                shards = after.unwrap_or(shards);
                assert_whole(&shards);
                assert_numbers_ascend(&shards);
            }
        }

        #[test]
        fn any_walk_of_changes_keeps_every_hash_key_in_one_open_shard(
            first in 1_u32..8, steps in prop::collection::vec((0_u8..3, any::<u32>(), any::<u128>()), 0..20)
        ) {
            let mut shards = shards(first);
            for (step, pick, key) in steps {
                let open = open_by_range(&shards);
                let at = pick as usize % open.len();
                let after = match step {
                    0 => split(&shards, open[at], key, NOW),
                    1 => merge(&shards, open[at], open[(at + 1) % open.len()], NOW),
                    _ => scale(&shards, 1 + pick % 8, NOW),
                };
                if let Ok(after) = after {
                    shards = after;
                }
                assert_whole(&shards);
            }
        }
    }
}
