//! Which ids are posted, and how long the reference pauses before each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand_mt::Mt;

use crate::source::Source;

/// Ids of the reference's draws: `randint(0, 11000)`, both ends included.
pub const REFERENCE_ROWS: u64 = 11_001;

/// The order in which ids are posted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DrawOrder {
    /// Random ids with replacement, as the reference draws them: the same rows come again and again. Of a source that has
    /// fewer rows than the reference's, from those that it has.
    #[default]
    Replacement,
    /// 0, 1, 2, …
    Sequence,
    /// These, in this order.
    Ids(Vec<u64>),
}

/// An `--ids` file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IdsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something else than ids.
    #[error("{}: {why}; ids are a JSON array of whole numbers, or one a line", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it holds.
        why: String,
    },
}

/// Reads ids from a file: a JSON array, or one id a line.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read_ids(path: &Path) -> Result<Vec<u64>, IdsError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| IdsError::File { path: path.to_owned(), source })?;
    parse_ids(&text).map_err(|why| IdsError::Content { path: path.to_owned(), why })
}

fn parse_ids(text: &str) -> Result<Vec<u64>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|e| e.to_string());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| line.trim().parse().map_err(|_| format!("line {} is `{}`", n + 1, line.trim())))
        .collect()
}

/// One event to post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    /// The reference's pause before it: 0 or 1 s.
    pub(crate) pause: Duration,
}

/// The events of a run, one after the other.
#[derive(Debug)]
pub(crate) struct Plan {
    random: PythonRandom,
    order: DrawOrder,
    rows: Option<u64>,
    /// The ids to draw from, where they are not all below `rows`.
    held: Option<Vec<u64>>,
    left: Option<u64>,
    next: u64,
}

impl Plan {
    /// `posts` events (no end when `None`) of ids below `rows`. Without `rows` draws go up to 11,000 as the reference's, and
    /// a sequence has no end of its own.
    pub(crate) fn new(order: DrawOrder, rows: Option<u64>, posts: Option<u64>, seed: u64) -> Self {
        Self { random: PythonRandom::new(seed), order, rows, held: None, left: posts, next: 0 }
    }

    /// The events of a run over a source. Draws from one that is smaller than the reference's stay within what it has:
    /// nearly all others would find no row.
    pub(crate) fn over(
        source: &dyn Source,
        order: DrawOrder,
        rows: Option<u64>,
        posts: Option<u64>,
        seed: u64,
    ) -> Self {
        let is_small = |rows: &u64| *rows < REFERENCE_ROWS;
        let (rows, held) = match (&order, rows) {
            (DrawOrder::Sequence, rows) => (rows.or(source.rows()), None),
            // Where the ids are known, it is they that count: few of them may be large numbers.
            (DrawOrder::Replacement, None) => match source.held_ids() {
                Some(held) => (None, Some(held).filter(|held| is_small(&(held.len() as u64)))),
                None => (source.rows().filter(is_small), None),
            },
            (_, rows) => (rows, None),
        };
        Self { held, ..Self::new(order, rows, posts, seed) }
    }

    /// A random id; `None` where there is none to draw from.
    fn drawn(&mut self) -> Option<u64> {
        let count = self.held.as_ref().map_or(self.rows.unwrap_or(REFERENCE_ROWS), |held| held.len() as u64);
        if count == 0 {
            return None;
        }
        let place = self.random.below(count);
        match &self.held {
            None => Some(place),
            Some(held) => held.get(usize::try_from(place).ok()?).copied(),
        }
    }

    /// How many events there are, when that is known.
    pub(crate) fn len(&self) -> Option<u64> {
        let own = match &self.order {
            DrawOrder::Replacement => None,
            DrawOrder::Sequence => self.rows,
            DrawOrder::Ids(ids) => Some(ids.len() as u64),
        };
        match (own, self.left) {
            (Some(own), Some(left)) => Some(own.min(left)),
            (own, left) => own.or(left),
        }
    }
}

impl Iterator for Plan {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.left == Some(0) {
            return None;
        }
        // the order of the reference's calls: randrange(0, 2), then randint(0, 11000)
        let pause = Duration::from_secs(self.random.below(2));
        let id = match &self.order {
            DrawOrder::Replacement => self.drawn()?,
            DrawOrder::Sequence if self.rows.is_some_and(|rows| self.next >= rows) => return None,
            DrawOrder::Sequence => self.next,
            DrawOrder::Ids(ids) => *usize::try_from(self.next).ok().and_then(|n| ids.get(n))?,
        };
        self.next += 1;
        self.left = self.left.map(|left| left - 1);
        Some(Event { id, pause })
    }
}

/// Python's `random.seed(n)` and `random.randrange(n)`, so that a seed draws the ids here that it draws in the reference.
#[derive(Debug)]
struct PythonRandom(Mt);

impl PythonRandom {
    fn new(seed: u64) -> Self {
        // Python splits the seed into 32-bit words, lowest first, without zeros on top
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        Self(if high == 0 { Mt::new_with_key([low]) } else { Mt::new_with_key([low, high]) })
    }

    /// Evenly in `0..n`, n > 0: as many random bits as `n` has, again until they are below it.
    fn below(&mut self, n: u64) -> u64 {
        let bits = u64::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `getrandbits(1..=64)`: words of 32, lowest first, the last one's upper bits.
    fn bits(&mut self, bits: u32) -> u64 {
        if bits <= 32 {
            return u64::from(self.0.next_u32() >> (32 - bits));
        }
        let low = u64::from(self.0.next_u32());
        low | u64::from(self.0.next_u32() >> (64 - bits)) << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(plan: Plan) -> Vec<u64> {
        plan.map(|event| event.id).collect()
    }

    #[test]
    fn seed_100_draws_the_ids_of_the_reference() {
        let plan = Plan::new(DrawOrder::Replacement, None, Some(8), 100);
        assert_eq!(ids(plan), [7528, 2863, 5730, 8304, 8731, 1313, 4315, 10794]);
    }

    #[test]
    fn seeds_and_ranges_beyond_32_bits_draw_what_python_draws() {
        // random.seed(2**40 + 5); [(randrange(0, 2), randint(0, 2**35)) for _ in range(3)]
        let plan = Plan::new(DrawOrder::Replacement, Some((1 << 35) + 1), Some(3), (1 << 40) + 5);
        let drawn: Vec<_> = plan.map(|event| (event.pause.as_secs(), event.id)).collect();
        assert_eq!(drawn, [(1, 8790052653), (0, 13459821711), (0, 29249177482)]);
    }

    #[test]
    fn the_first_1008_draws_are_those_of_the_golden_answers() {
        let Some(shared) = pinmill_testkit::shared_dir() else { return };
        let golden = read_ids(&shared.join("golden/first_1008_draws.ids.json")).unwrap();
        assert_eq!(ids(Plan::new(DrawOrder::Replacement, None, Some(1008), 100)), golden);
    }

    #[test]
    fn a_sequence_ends_with_its_rows_or_its_posts() {
        assert_eq!(ids(Plan::new(DrawOrder::Sequence, Some(3), None, 100)), [0, 1, 2]);
        assert_eq!(ids(Plan::new(DrawOrder::Sequence, None, Some(2), 100)), [0, 1]);
        assert_eq!(Plan::new(DrawOrder::Sequence, Some(3), Some(2), 100).len(), Some(2));
        assert_eq!(Plan::new(DrawOrder::Replacement, Some(3), None, 100).len(), None);
    }

    #[test]
    fn draws_from_held_ids_are_those_alone_and_draws_from_none_end() {
        let from = |held: Vec<u64>| {
            let plan = Plan::new(DrawOrder::Replacement, None, Some(200), 100);
            ids(Plan { held: Some(held), ..plan })
        };
        let drawn = from(vec![3, 5000, 9000]);
        assert_eq!(drawn.len(), 200);
        assert!(drawn.iter().all(|id| [3, 5000, 9000].contains(id)), "{drawn:?}");
        assert!([3, 5000, 9000].iter().all(|id| drawn.contains(id)), "{drawn:?}");
        assert_eq!(from(Vec::new()), Vec::<u64>::new());
        assert_eq!(ids(Plan::new(DrawOrder::Replacement, Some(0), None, 100)), Vec::<u64>::new());
    }

    #[test]
    fn given_ids_come_in_their_order_and_no_more_often() {
        let given = DrawOrder::Ids(vec![5, 2, 5]);
        assert_eq!(ids(Plan::new(given.clone(), None, None, 100)), [5, 2, 5]);
        assert_eq!(ids(Plan::new(given, None, Some(2), 100)), [5, 2]);
    }

    #[test]
    fn ids_are_read_from_an_array_or_from_lines() {
        assert_eq!(parse_ids("[7528, 2863]").unwrap(), [7528, 2863]);
        assert_eq!(parse_ids("7528\n\n 2863 \n").unwrap(), [7528, 2863]);
        assert_eq!(parse_ids("1\nx\n").unwrap_err(), "line 2 is `x`");
        assert!(parse_ids("[1, -2]").is_err());
    }
}
