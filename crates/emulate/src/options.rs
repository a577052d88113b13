//! What a run is asked to do.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::ids::DrawOrder;
use crate::source::DateForm;
use crate::target::Target;

/// What a run is asked to do; [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where records go: each event to every one of them.
    pub targets: Vec<Target>,
    /// How date-times are written.
    pub date_form: DateForm,
    /// Which ids are posted.
    pub draw: DrawOrder,
    /// Draw ids below this; without it 0 to 11,000 as the reference, or those of a source that has fewer, and a sequence
    /// goes on to the end of the source.
    pub rows: Option<u64>,
    /// Events to post: a row of each table. Endless when absent.
    pub posts: Option<u64>,
    /// Of the draws (the generator has its own).
    pub seed: u64,
    /// How fast.
    pub pace: Pace,
    /// Records of one table that go into one request; at least 1. A stream takes 500 at most, so it gets no more.
    pub records_per_request: usize,
    /// Connections that post side by side; at least 1. With more than one, records may arrive in another order than that of
    /// the draws.
    pub connections: usize,
    /// For connecting, and for each answer.
    pub timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
    /// A file to which acknowledged records are appended (the layout is described in the module `ack_log`).
    pub ack_log: Option<PathBuf>,
    /// Whether to say on stderr how it goes: a bar on a terminal, else a line every 10 s.
    pub progress: bool,
}

impl Options {
    /// As the reference posts: its draws with seed 100, its date-times, one record a request; but as fast as it goes, over
    /// 16 connections, with ten retries in about half a minute. `targets` is one [`Target`] or several.
    pub fn new(targets: impl Into<Vec<Target>>) -> Self {
        Self {
            targets: targets.into(),
            date_form: DateForm::Us,
            draw: DrawOrder::Replacement,
            rows: None,
            posts: None,
            seed: 100,
            pace: Pace::Max,
            records_per_request: 1,
            connections: 16,
            timeout: Duration::from_secs(30),
            retries: 10,
            ack_log: None,
            progress: false,
        }
    }
}

/// How fast events are posted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// `reference`: a pause of 0 or 1 s before each event, by the seed.
    #[default]
    Reference,
    /// `RATE/s`: so many events a second.
    PerSecond(f64),
    /// `max`: as fast as it goes.
    Max,
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no pace; use reference, max or a number of events such as 50/s");
        match text {
            "reference" => Ok(Self::Reference),
            "max" => Ok(Self::Max),
            _ => {
                let rate: f64 =
                    text.strip_suffix("/s").and_then(|rate| rate.parse().ok()).ok_or_else(refuse)?;
                if (0.001..=1e6).contains(&rate) { Ok(Self::PerSecond(rate)) } else { Err(refuse()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_are_read() {
        assert_eq!("reference".parse(), Ok(Pace::Reference));
        assert_eq!("max".parse(), Ok(Pace::Max));
        assert_eq!("2.5/s".parse(), Ok(Pace::PerSecond(2.5)));
        for text in ["", "fast", "5", "0/s", "-1/s", "NaN/s", "inf/s"] {
            assert!(text.parse::<Pace>().unwrap_err().contains("50/s"), "{text}");
        }
    }
}
