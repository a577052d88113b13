//! When a commit is due, and how many workers share a step: pure decisions, no I/O.

use std::collections::VecDeque;

use pinmill_lake::RangeSum;
use pinmill_lake::archive::Chunk;

/// How much goes into one commit: a large backlog is committed in steps, so that memory stays flat and a crash
/// costs little; a small one in a single commit, so that it makes few files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimit {
    /// Raw bytes (uncompressed JSON).
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Memory of records that are rejected: they wait for the commit with their reasons.
    pub rejected_bytes: u64,
}

impl Default for StepLimit {
    fn default() -> Self {
        Self { bytes: 256 << 20, records: 2_000_000, rejected_bytes: 64 << 20 }
    }
}

impl StepLimit {
    /// Whether a step that holds this much is to be committed now.
    pub(crate) fn reached(&self, bytes: u64, records: u64, rejected_bytes: u64) -> bool {
        bytes >= self.bytes || records >= self.records || self.rejects(rejected_bytes)
    }

    /// Whether a step must be committed now, wherever it is: no more rejected records may be held.
    pub(crate) fn rejects(&self, rejected_bytes: u64) -> bool {
        rejected_bytes >= self.rejected_bytes
    }
}

/// Records of a piece. What is under way to the workers when a step is found to be full is some pieces, whatever the
/// size of the records: a chunk of some megabytes may hold a million of them, each with a reason of its own.
pub(crate) const PIECE_RECORDS: usize = 8192;

/// A chunk in pieces of at most so many records, in their order. The first has what the chunk says of what comes before
/// its records, the last what it says of their end.
pub(crate) fn pieces(mut chunk: Chunk, most: usize) -> VecDeque<Chunk> {
    if chunk.records.len() <= most {
        return VecDeque::from([chunk]);
    }
    let (ends_object, objects) = (chunk.ends_object, std::mem::take(&mut chunk.objects));
    let records = std::mem::take(&mut chunk.records);
    let mut pieces = VecDeque::new();
    for part in records.chunks(most) {
        let mut sum = RangeSum::default();
        part.iter().for_each(|record| sum.add(record.offset, chunk.value(record)));
        let piece = Chunk {
            data: chunk.data.clone(),
            records: part.to_vec(),
            sum,
            skipped: std::mem::take(&mut chunk.skipped),
            repeated: std::mem::take(&mut chunk.repeated),
            gaps: std::mem::take(&mut chunk.gaps),
            ends_object: false,
            objects: 0,
        };
        pieces.push_back(piece);
    }
    if let Some(last) = pieces.back_mut() {
        (last.ends_object, last.objects) = (ends_object, objects);
    }
    pieces
}

/// Whether one more worker is worth starting when `bytes` were given to `running` ones. Each writes a file of its
/// own, and a small backlog shall not be torn into small files.
pub(crate) fn one_more_worker(bytes: u64, running: usize, at_most: usize) -> bool {
    const BYTES_PER_WORKER: u64 = 8 << 20;
    running == 0 || (running < at_most && bytes >= BYTES_PER_WORKER.saturating_mul(running as u64))
}

/// A topic whose records nearly all went into one of its partitions: the share of that partition in percent.
pub(crate) fn skew(records: &[u64]) -> Option<u64> {
    const ENOUGH: u64 = 1000;
    let total: u64 = records.iter().sum();
    let share = records.iter().max()?.saturating_mul(100) / total.max(1);
    (records.len() > 1 && total >= ENOUGH && share >= 90).then_some(share)
}

#[cfg(test)]
mod tests {
    use pinmill_lake::archive::{Gap, RecordAt};

    use super::*;

    #[test]
    fn a_step_is_full_at_any_limit() {
        let limit = StepLimit { bytes: 10, records: 3, rejected_bytes: 5 };
        assert!(!limit.reached(9, 2, 4));
        assert!(limit.reached(10, 1, 0));
        assert!(limit.reached(1, 3, 0));
        assert!(limit.reached(1, 1, 5));
    }

    #[test]
    fn a_chunk_in_pieces_is_the_same_chunk() {
        let records: Vec<RecordAt> = (0..10_u32)
            .map(|n| RecordAt {
                offset: 100 + u64::from(n),
                ingested_at_us: 7,
                start: n,
                end: n + 1,
                tombstone: n == 4,
            })
            .collect();
        let mut chunk = Chunk {
            data: "0123456789".into(),
            records: records.clone(),
            skipped: 5,
            repeated: 2,
            gaps: vec![Gap { from: 90, to: 100 }],
            ends_object: true,
            objects: 3,
            ..Chunk::default()
        };
        let mut all = RangeSum::default();
        records.iter().for_each(|record| all.add(record.offset, chunk.value(record)));
        chunk.sum = all;
        for most in 1..12 {
            let pieces = pieces(chunk.clone(), most);
            assert!(pieces.iter().all(|piece| piece.records.len() <= most));
            let mut sum = RangeSum::default();
            pieces.iter().for_each(|piece| sum.join(&piece.sum));
            assert_eq!(sum, chunk.sum);
            let of_all: Vec<RecordAt> = pieces.iter().flat_map(|piece| piece.records.clone()).collect();
            assert_eq!(of_all, records);
            assert_eq!((pieces[0].skipped, pieces[0].repeated, pieces[0].gaps.len()), (5, 2, 1));
            let ends: Vec<(bool, u64)> =
                pieces.iter().map(|piece| (piece.ends_object, piece.objects)).collect();
            let (last, others) = ends.split_last().unwrap();
            assert_eq!(*last, (true, 3));
            assert!(others.iter().all(|end| *end == (false, 0)));
        }
    }

    #[test]
    fn a_small_backlog_gets_one_worker() {
        assert!(one_more_worker(0, 0, 4));
        assert!(!one_more_worker((8 << 20) - 1, 1, 4));
        assert!(one_more_worker(8 << 20, 1, 4));
        assert!(!one_more_worker(u64::MAX, 4, 4));
    }

    #[test]
    fn skew_is_told_where_one_of_several_partitions_has_nearly_all() {
        assert_eq!(skew(&[5000]), None);
        assert_eq!(skew(&[990, 5]), None, "too few to tell");
        assert_eq!(skew(&[950, 50]), Some(95));
        assert_eq!(skew(&[800, 200]), None);
        assert_eq!(skew(&[]), None);
    }
}
