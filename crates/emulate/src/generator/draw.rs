//! Random draws that stay the same for ever: same seed, lane and number, same draws, on any machine and in any release.
//!
//! ChaCha8 is defined to the bit and jumps to any of its 2^64 streams at once, which gives every row its own numbers without
//! remembering any other row. What is made of them here uses integers and only those operations on floats that IEEE 754
//! rounds exactly (so no `powf` and no `ln`), and no distribution of a library, whose values may change from release to
//! release.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a number is the number of; the lanes never share draws.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lane {
    /// A row of pins.
    Pin,
    /// Whose post a row is.
    Author,
    /// A user before anything is known of them.
    Person,
    /// What follows from a user's name and date.
    Identity,
    /// A row's time.
    Event,
    /// An account that posts.
    Poster,
    /// What follows from an account's name.
    Account,
}

/// Where all draws of one seed come from.
#[derive(Clone, Debug)]
pub(crate) struct Seed(ChaCha8Rng);

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        let mut key = *b"........pinmill emulator rows v1";
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// The draws of one numbered thing. Numbers from 2^61 on share those of others.
    pub(crate) fn draw(&self, lane: Lane, number: u64) -> Draw {
        let mut rng = self.0.clone();
        rng.set_stream((number << 3) | lane as u64);
        Draw(rng)
    }
}

/// A row of draws.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Evenly in `0..n`, but for an error below n / 2^64.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Evenly in `0.0..1.0`, a multiple of 2^-53.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Ranks 0, 1, 2, … of falling weight, drawn by looking a unit up among the summed weights.
#[derive(Clone, Debug)]
pub(crate) struct Ranks(Vec<f64>);

impl Ranks {
    pub(crate) fn new(count: usize, weight: impl Fn(f64) -> f64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=count)
                .map(|rank| {
                    sum += weight(rank as f64);
                    sum
                })
                .collect(),
        )
    }

    pub(crate) fn draw(&self, draw: &mut Draw) -> usize {
        let total = self.0.last().copied().unwrap_or_default();
        let at = draw.unit() * total;
        self.0.partition_point(|&sum| sum <= at).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_by_seed_lane_and_number_and_by_nothing_else() {
        let mut draw = Seed::new(100).draw(Lane::Pin, 7528);
        let first = [draw.bits(), draw.bits()];
        assert_eq!(first, [Seed::new(100).draw(Lane::Pin, 7528).bits(), first[1]]);
        assert_ne!(first[0], Seed::new(100).draw(Lane::Event, 7528).bits());
        assert_ne!(first[0], Seed::new(101).draw(Lane::Pin, 7528).bits());
        assert_ne!(first[0], Seed::new(100).draw(Lane::Pin, 7529).bits());
    }

    #[test]
    fn ranks_follow_their_weights() {
        let ranks = Ranks::new(3, |r| 1.0 / r);
        let seed = Seed::new(pinmill_testkit::seed());
        let mut counts = [0u32; 3];
        for n in 0..11_000 {
            counts[ranks.draw(&mut seed.draw(Lane::Event, n))] += 1;
        }
        // 6 : 3 : 2, give or take six standard deviations
        for (count, expected) in counts.iter().zip([6000u32, 3000, 2000]) {
            assert!(count.abs_diff(expected) < 330, "{counts:?}");
        }
    }
}
