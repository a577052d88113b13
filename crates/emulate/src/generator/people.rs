//! Users: who wrote a row, and what follows from who they are.

use super::countries::{COUNT, COUNTRIES};
use super::draw::{Draw, Lane, Ranks, Seed};
use super::words::{FIRST_NAMES, LAST_HEADS, LAST_TAILS};

/// 2015-10-21T00:00:00Z, the first second in which a user may join, in seconds since 1970.
const FIRST_JOINED: i64 = 1_445_385_600;
/// Two years: the last second in which a user may join is 2017-10-20T23:59:59Z.
const JOINING_SPAN: f64 = 731.0 * 86_400.0;
/// 2017-10-19T00:00:00Z, the first second of posts.
const FIRST_POST: i64 = 1_508_371_200;
/// 2022-10-20T00:00:00Z, the second after the last of posts.
const POSTS_END: i64 = 1_666_224_000;

/// People with several posts in a block of rows. Together with the next two constants it gives the shape of the reference:
/// 10,524 rows are 4,962 people on average, the busiest with 244 of them.
const REGULARS: usize = 5_000;
/// The share of posts that regulars write; everybody else writes one post.
const REGULAR_SHARE: f64 = 0.82;

/// A user.
///
/// Country, age and place are drawn from the name and the date of joining, because these two are the user: two people that
/// happen to agree in them are one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Person {
    pub(crate) first_name: &'static str,
    pub(crate) last_name: String,
    pub(crate) age: u8,
    /// Seconds since 1970.
    pub(crate) joined: i64,
    pub(crate) country: &'static str,
    /// In ten-thousandths of a degree.
    pub(crate) latitude: i32,
    pub(crate) longitude: i32,
}

#[derive(Debug)]
pub(crate) struct People {
    regulars: Ranks,
    countries: Ranks,
}

impl People {
    pub(crate) fn new() -> Self {
        Self {
            // (rank + 1/4) to the power of -3/4, by roots that are exact everywhere
            regulars: Ranks::new(REGULARS, |rank| {
                let root = (rank + 0.25).sqrt();
                1.0 / (root * root.sqrt())
            }),
            countries: Ranks::new(COUNT, |rank| 1.0 / (rank + 4.0)),
        }
    }

    /// The user who wrote row `id`; each `block` of rows has its own people.
    pub(crate) fn author(&self, seed: &Seed, id: u64, block: u64) -> Person {
        let mut draw = seed.draw(Lane::Author, id);
        // Even numbers are regulars and odd ones are the people with one post, so that nobody is both.
        let number = if draw.chance(REGULAR_SHARE) {
            (block * REGULARS as u64 + self.regulars.draw(&mut draw) as u64) * 2
        } else {
            id * 2 + 1
        };
        self.person(seed, &mut seed.draw(Lane::Person, number))
    }

    fn person(&self, seed: &Seed, draw: &mut Draw) -> Person {
        let first = draw.below(FIRST_NAMES.len() as u64);
        let last = draw.below((LAST_HEADS.len() * LAST_TAILS.len()) as u64);
        // u^2.5: two fifths join in the ten weeks of 2015, a fifth in 2017
        let u = draw.unit();
        let joined = (u * u * u.sqrt() * JOINING_SPAN) as i64;

        let mut identity = seed.draw(Lane::Identity, ((joined as u64) << 20) | (first << 12) | last);
        let (head, tail) = (last as usize / LAST_TAILS.len(), last as usize % LAST_TAILS.len());
        // u^2.25: every fifth post is by somebody of 20
        let u = identity.unit();
        Person {
            first_name: FIRST_NAMES[first as usize],
            last_name: format!("{}{}", LAST_HEADS[head], LAST_TAILS[tail]),
            age: 20 + (u * u * u.sqrt().sqrt() * 41.0) as u8,
            joined: FIRST_JOINED + joined,
            country: COUNTRIES[self.countries.draw(&mut identity)],
            latitude: identity.below(1_800_001) as i32 - 900_000,
            longitude: six_digits(identity.below(3_600_001) as i32 - 1_800_000),
        }
    }
}

/// The time of row `id`, in seconds since 1970: after its user has joined.
pub(crate) fn posted(seed: &Seed, id: u64, joined: i64) -> i64 {
    let from = FIRST_POST.max(joined + 1);
    from + seed.draw(Lane::Event, id).below((POSTS_END - from) as u64) as i64
}

/// Longitudes come from a column of six significant digits, and so lose the fourth decimal from 100 degrees on.
fn six_digits(ten_thousandths: i32) -> i32 {
    if ten_thousandths.abs() >= 1_000_000 { ten_thousandths / 10 * 10 } else { ten_thousandths }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longitudes_have_six_digits() {
        assert_eq!(six_digits(-1_701_888), -1_701_880);
        assert_eq!(six_digits(597_394), 597_394);
    }

    #[test]
    fn the_numbers_of_names_fit_their_bits() {
        assert!(FIRST_NAMES.len() <= 1 << 8 && LAST_HEADS.len() * LAST_TAILS.len() <= 1 << 12);
        // 26 bits of seconds on top stay below the 2^61 that a lane can tell apart
        assert!(JOINING_SPAN < f64::from(1 << 26));
    }
}
