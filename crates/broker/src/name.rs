//! What a topic may be called: the rule of the embedded log, which is Kafka's, so that every adapter can keep every name.

use pinmill_log::Error as LogError;

use crate::{Error, Result};

/// Most characters of a refused name that are shown.
const SHOWN: usize = 60;

/// Checks a topic name: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
///
/// The rules also make a name safe as one component of a path.
///
/// # Errors
/// [`Error::InvalidTopic`] with the rule that is broken. The name in it is cut to a printable length.
pub fn check_topic_name(name: &str) -> Result<()> {
    pinmill_log::check_topic_name(name).map_err(|error| match error {
        LogError::InvalidTopic { reason, .. } => {
            Error::InvalidTopic { name: name.escape_debug().take(SHOWN).collect(), reason }
        }
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_reference_system_and_of_kafka_are_allowed() {
        for name in ["124df56aef51.pin", "_schemas", "a", "A-b_c.9", "...", &"x".repeat(249)] {
            check_topic_name(name).unwrap();
        }
    }

    #[test]
    fn names_that_kafka_refuses_or_that_leave_a_folder_are_refused() {
        for name in ["", ".", "..", "../etc", "a/b", "a b", "ä", "a\0", "a\n", &"x".repeat(250)] {
            let error = check_topic_name(name).unwrap_err();
            assert!(matches!(error, Error::InvalidTopic { .. }), "{name:?}: {error}");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }
}
