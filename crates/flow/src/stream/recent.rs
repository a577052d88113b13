//! What was odd about the records of a loop that does not end: gathered, and logged once a minute.

use std::time::Duration;

use tokio::time::Instant;

use crate::warnings::Warnings;

/// Time between two lines about one dataset.
const EVERY: Duration = Duration::from_secs(60);
/// How many different warnings a line names.
const NAMED: usize = 10;

/// The warnings of a dataset that were not logged yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    gathered: Warnings,
    logged: Option<Instant>,
}

impl Recent {
    /// Takes in what a step found, and logs what there is when it is time.
    pub(super) fn note(&mut self, dataset: &str, found: &Warnings, now: Instant) {
        self.gathered.join(found.clone());
        if let Some(line) = self.due(now) {
            log(dataset, &line);
        }
    }

    /// Logs what is left.
    pub(super) fn flush(&mut self, dataset: &str) {
        if let Some(line) = self.take() {
            log(dataset, &line);
        }
    }

    /// The line to be logged now: the first at once, the others a minute after the one before.
    fn due(&mut self, now: Instant) -> Option<String> {
        if self.logged.is_some_and(|logged| now < logged + EVERY) {
            return None;
        }
        let line = self.take()?;
        self.logged = Some(now);
        Some(line)
    }

    fn take(&mut self) -> Option<String> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            return None;
        }
        let mut parts: Vec<String> =
            gathered.iter().take(NAMED).map(|(what, count)| format!("{what} ({count})")).collect();
        if gathered.len() > NAMED {
            parts.push(format!("and {} more", gathered.len() - NAMED));
        }
        Some(parts.join("; "))
    }
}

fn log(dataset: &str, line: &str) {
    tracing::warn!(dataset, "{line}");
}

#[cfg(test)]
mod tests {
    use pinmill_engine::DriftKind;

    use super::*;
    use crate::warnings::Warning;

    fn found(names: std::ops::Range<u32>) -> Warnings {
        let mut found = Warnings::default();
        for name in names {
            found.add(Warning::Member { name: format!("m{name}"), kind: DriftKind::Unknown }, 3);
        }
        found
    }

    #[test]
    fn what_is_odd_is_logged_at_once_and_then_once_a_minute() {
        let (mut recent, begin) = (Recent::default(), Instant::now());
        assert_eq!(recent.due(begin), None, "nothing was odd");
        recent.note("pin", &Warnings::default(), begin);
        recent.gathered.join(found(0..1));
        assert_eq!(recent.due(begin).as_deref(), Some("field `m0`: no field is declared for it (3)"));
        recent.gathered.join(found(0..1));
        assert_eq!(recent.due(begin + EVERY / 2), None);
        recent.gathered.join(found(0..1));
        let minute = begin + EVERY;
        assert_eq!(recent.due(minute).as_deref(), Some("field `m0`: no field is declared for it (6)"));
        assert_eq!(recent.due(minute + EVERY), None, "nothing is logged twice");
    }

    #[test]
    fn a_line_names_a_few_and_counts_the_others() {
        let mut recent = Recent::default();
        for step in 0..1000 {
            recent.gathered.join(found(step * 100..step * 100 + 100));
        }
        let line = recent.take().unwrap();
        assert!(line.ends_with("; and 91 more") && line.len() < 1000, "{line}");
        assert_eq!(recent.take(), None);
    }
}
