//! When a simulated disk fails at random.

use std::io;

/// How often a disk that is going bad fails, in calls of a thousand; each kind of call for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Seeds the dice.
    pub seed: u64,
    /// Reads and writes that take a random part only.
    pub short: u16,
    /// Reads that fail (EIO).
    pub reads: u16,
    /// Writes and cuts that fail (EIO), having changed some of what they should, or nothing.
    pub writes: u16,
    /// Writes and new files for which there is no room (ENOSPC).
    pub full: u16,
    /// Syncs that fail (EIO).
    pub syncs: u16,
    /// Calls that open, make, name, rename or remove something and fail (EIO, or no descriptor is left).
    pub names: u16,
}

/// A small generator of random numbers (splitmix64).
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides.max(1) as u64).unwrap_or(0)
    }
}

/// The faults of a disk, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Striking {
    now: Option<(Faults, Dice)>,
    met: u64,
}

impl Striking {
    pub(super) fn set(&mut self, faults: Option<Faults>) {
        self.now = faults.map(|faults| (faults, Dice(faults.seed)));
    }

    pub(super) fn met(&self) -> u64 {
        self.met
    }

    /// True where a kind of call fails this time.
    pub(super) fn strikes(&mut self, of_thousand: impl Fn(&Faults) -> u16) -> bool {
        let Some((faults, dice)) = &mut self.now else { return false };
        let strikes = dice.roll(1000) < usize::from(of_thousand(faults));
        self.met += u64::from(strikes);
        strikes
    }

    /// A part of `len`, at least 1 where there is anything.
    pub(super) fn part_of(&mut self, len: usize) -> usize {
        match &mut self.now {
            Some((_, dice)) => len.min(1 + dice.roll(len)),
            None => len,
        }
    }

    /// Fails where a call that names something does.
    pub(super) fn names_something(&mut self) -> io::Result<()> {
        if !self.strikes(|faults| faults.names) {
            return Ok(());
        }
        let errno = if self.part_of(2) == 1 { rustix::io::Errno::IO } else { rustix::io::Errno::MFILE };
        Err(errno.into())
    }
}
