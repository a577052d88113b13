//! What a topic may be called: Kafka's rules, so that every adapter can keep every name.

use crate::{Error, Result};

/// Longest topic name, in bytes.
pub const MAX_TOPIC_NAME: usize = 249;

/// Checks a topic name: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
///
/// The rules also make a name safe as one component of a path.
///
/// # Errors
/// [`Error::InvalidTopic`] with the rule that is broken. The name in it is cut to a printable length.
pub fn check_topic_name(name: &str) -> Result<()> {
    let broken = if name.is_empty() {
        Some("it is empty".to_owned())
    } else if name.len() > MAX_TOPIC_NAME {
        Some(format!("it has {} bytes, the limit is {MAX_TOPIC_NAME}", name.len()))
    } else if name == "." || name == ".." {
        Some("it names a folder".to_owned())
    } else {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let stranger = name.chars().find(|c| !allowed(c));
        stranger.map(|c| format!("only ASCII letters, digits, `.`, `_` and `-` are allowed, not {c:?}"))
    };
    match broken {
        None => Ok(()),
        Some(reason) => Err(Error::InvalidTopic { name: name.escape_debug().take(60).collect(), reason }),
    }
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
