//! What an answer, or none, means for the records that were sent, and how long to wait before they are sent again.
//!
//! Retried are: requests that found no connection, time-outs, connections that broke, statuses 408, 429 and 5xx, and single
//! records whose error code says that another try may help. Anything else would be refused again.
//!
//! A try is *ambiguous* when the records may be stored although nobody said so: the request was sent and then there was no
//! answer, or a status that a gateway may give after it has stored (5xx but for 503, which is given before).

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;

use crate::client::{Answer, SendError};

/// Longest wait between two tries, whatever the gateway asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest wait that grows by itself.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);
/// First wait.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored { partition: i32, offset: i64 },
    Retry(String),
    Refused(String),
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The fate of each of its records, in their order.
    Records(Vec<Fate>),
    /// All of it again.
    Retry { why: String, wait: Option<Duration>, ambiguous: bool },
    /// All of it refused.
    Refused { why: String, stop: bool },
}

#[derive(Deserialize)]
struct Produced {
    offsets: Vec<Position>,
}

#[derive(Deserialize)]
struct Position {
    partition: Option<i32>,
    offset: Option<i64>,
    error_code: Option<i64>,
    error: Option<String>,
}

/// Judges what came back for a request of `records` records.
pub(crate) fn judge(came_back: Result<Answer, SendError>, records: usize, now: DateTime<Utc>) -> Verdict {
    let answer = match came_back {
        Ok(answer) => answer,
        Err(SendError { maybe_received, why }) => {
            return Verdict::Retry { why, wait: None, ambiguous: maybe_received };
        }
    };
    let status = answer.status;
    let said = || format!("{status}: {}", excerpt(&answer.body));
    if status.is_success() {
        return fates(&answer, records);
    }
    if status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    {
        let wait = answer.retry_after.as_ref().and_then(|value| retry_after(value.to_str().ok()?, now));
        let ambiguous = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        return Verdict::Retry { why: said(), wait, ambiguous };
    }
    // What is wrong with one record need not be wrong with the next; the rest would be the same for all of them.
    let of_this_request = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    );
    Verdict::Refused { why: said(), stop: !of_this_request }
}

fn fates(answer: &Answer, records: usize) -> Verdict {
    let refuse = |why: &str| Verdict::Refused {
        why: format!("{}: {why}: {}", answer.status, excerpt(&answer.body)),
        stop: true,
    };
    let Ok(Produced { offsets }) = serde_json::from_slice(&answer.body) else {
        return refuse("the answer is not that of a Kafka REST proxy");
    };
    if offsets.len() != records {
        return refuse(&format!("{} positions for {records} records", offsets.len()));
    }
    Verdict::Records(offsets.iter().map(fate).collect())
}

fn fate(position: &Position) -> Fate {
    let error = |code: Option<i64>| {
        let code = code.map_or_else(String::new, |code| format!("error_code {code}: "));
        format!("{code}{}", position.error.as_deref().unwrap_or("no position and no error"))
    };
    match (position.error_code, position.partition, position.offset) {
        (None, Some(partition), Some(offset)) => Fate::Stored { partition, offset },
        // Confluent's code, and Karapace's
        (Some(code @ (50003 | 2)), ..) => Fate::Retry(error(Some(code))),
        (code, ..) => Fate::Refused(error(code)),
    }
}

/// The wait that a `Retry-After` header asks for: seconds or a date.
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(value.trim()).ok()?;
    Some((at.with_timezone(&Utc) - now).to_std().unwrap_or_default())
}

/// The wait before try `next` (the first retry is 1): what the gateway asked for, at least the back-off, which doubles from
/// 0.1 s to 10 s. `jitter` in 0..1 takes up to half of the back-off away, so that clients that fell together do not come
/// back together.
pub(crate) fn wait(next: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let grown = FIRST_BACK_OFF.saturating_mul(1 << next.saturating_sub(1).min(16)).min(LONGEST_BACK_OFF);
    let spread = grown.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
    match asked {
        // never before the time that was asked for
        Some(asked) => (asked + spread.min(asked / 4)).max(spread).min(LONGEST_WAIT),
        None => spread,
    }
}

/// The start of an answer, on one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str, retry_after: Option<&str>) -> Result<Answer, SendError> {
        Ok(Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(|value| value.parse().unwrap()),
            body: body.to_owned().into(),
        })
    }

    fn verdict(status: u16, body: &str) -> Verdict {
        judge(answered(status, body, None), 1, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_position_is_an_acknowledgement_and_an_error_code_is_none() {
        let body = r#"{"offsets":[{"partition":0,"offset":7,"error_code":null,"error":null},
            {"partition":null,"offset":null,"error_code":50003,"error":"later"},
            {"partition":null,"offset":null,"error_code":50002,"error":"never"},
            {"partition":0,"offset":null}],"key_schema_id":null,"value_schema_id":null}"#;
        let Verdict::Records(fates) = judge(answered(200, body, None), 4, DateTime::UNIX_EPOCH) else {
            panic!("{body}")
        };
        assert_eq!(fates[0], Fate::Stored { partition: 0, offset: 7 });
        assert_eq!(fates[1], Fate::Retry("error_code 50003: later".to_owned()));
        assert_eq!(fates[2], Fate::Refused("error_code 50002: never".to_owned()));
        assert_eq!(fates[3], Fate::Refused("no position and no error".to_owned()));
    }

    #[test]
    fn an_answer_that_does_not_fit_the_records_stops_everything() {
        for body in ["", "<html>", "{}", r#"{"offsets":[]}"#] {
            assert!(matches!(verdict(200, body), Verdict::Refused { stop: true, .. }), "{body}");
        }
    }

    #[test]
    fn statuses_are_retried_refused_or_stop_everything() {
        for status in [500, 502, 504] {
            assert!(matches!(verdict(status, ""), Verdict::Retry { ambiguous: true, .. }), "{status}");
        }
        for status in [408, 429, 503] {
            assert!(matches!(verdict(status, ""), Verdict::Retry { ambiguous: false, .. }), "{status}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(verdict(status, ""), Verdict::Refused { stop: false, .. }), "{status}");
        }
        for status in [301, 401, 403, 404, 405, 415] {
            assert!(matches!(verdict(status, ""), Verdict::Refused { stop: true, .. }), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::from_timestamp(1_598_586_767, 0).unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Fri, 28 Aug 2020 03:53:00 GMT", now), Some(Duration::from_secs(13)));
        assert_eq!(retry_after("Fri, 28 Aug 2020 03:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn waits_double_up_to_ten_seconds_and_never_end_before_the_time_asked_for() {
        let waits: Vec<_> = (1..=9).map(|next| wait(next, None, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(wait(1, None, 1.0).as_millis(), 50);
        assert!(wait(u32::MAX, None, 0.5) <= LONGEST_BACK_OFF);
        for jitter in [0.0, 0.5, 1.0] {
            let asked = Duration::from_secs(2);
            assert!((asked..asked * 2).contains(&wait(1, Some(asked), jitter)));
        }
        assert_eq!(wait(1, Some(Duration::from_secs(86_400)), 0.0), LONGEST_WAIT);
    }
}
