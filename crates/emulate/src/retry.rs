//! What an answer, or none, means for the records that were sent, and how long to wait before they are sent again.
//!
//! Retried are: requests that found no connection, time-outs, connections that broke, statuses 408, 429 and 5xx, and single
//! records whose error code says that another try may help. Anything else would be refused again. Kinesis' exceptions count
//! by their names where they come with 200 or 400.
//!
//! A try is *ambiguous* when the records may be stored although nobody said so: the request was sent and then there was no
//! answer, or a status that a gateway may give after it has stored (5xx but for 503, which is given before).

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;

use crate::client::{Answer, SendError};
use crate::fate::{self, Fate, Passing};
use crate::outlet::Wire;

/// Longest wait between two tries, whatever the gateway asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest wait that grows by itself.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);
/// First wait.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

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

/// An exception of Kinesis, as the body of an answer.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "__type")]
    kind: String,
}

/// Judges what came back for a request of `records` records.
pub(crate) fn judge(
    wire: Wire,
    came_back: Result<Answer, SendError>,
    records: usize,
    now: DateTime<Utc>,
) -> Verdict {
    let answer = match came_back {
        Ok(answer) => answer,
        Err(SendError { maybe_received, why }) => {
            return Verdict::Retry { why, wait: None, ambiguous: maybe_received };
        }
    };
    let wrong = match answer.status.is_success().then(|| fate::read(wire, &answer.body, records)) {
        Some(Ok(fates)) => return Verdict::Records(fates),
        Some(Err(wrong)) => Some(wrong),
        None => None,
    };
    if let Some(exception) = exception(wire, &answer) {
        return match Passing::of(exception.name()) {
            Some(Passing { ambiguous }) => answer.again(ambiguous, now),
            None => Verdict::Refused { why: answer.said(), stop: !exception.is_of_this_request() },
        };
    }
    match wrong {
        Some(wrong) => Verdict::Refused { why: format!("{wrong}: {}", answer.said()), stop: true },
        None => by_status(&answer, now),
    }
}

fn by_status(answer: &Answer, now: DateTime<Utc>) -> Verdict {
    let status = answer.status;
    if status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    {
        let ambiguous = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        return answer.again(ambiguous, now);
    }
    // What is wrong with one record need not be wrong with the next; the rest would be the same for all of them.
    let of_this_request = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    );
    Verdict::Refused { why: answer.said(), stop: !of_this_request }
}

impl Answer {
    /// Its status and its first words.
    fn said(&self) -> String {
        format!("{}: {}", self.status, excerpt(&self.body))
    }

    /// All of the request again, when it says.
    fn again(&self, ambiguous: bool, now: DateTime<Utc>) -> Verdict {
        let wait = self.retry_after.as_ref().and_then(|value| retry_after(value.to_str().ok()?, now));
        Verdict::Retry { why: self.said(), wait, ambiguous }
    }
}

/// The exception that an answer holds where its status does not tell: the well-known API Gateway templates pass all of them
/// on with 200, and Kinesis itself gives 400 for nearly all of them, throttling included.
fn exception(wire: Wire, answer: &Answer) -> Option<Exception> {
    let is_hidden =
        wire != Wire::Produce && matches!(answer.status, StatusCode::OK | StatusCode::BAD_REQUEST);
    is_hidden.then(|| serde_json::from_slice(&answer.body).ok()).flatten()
}

impl Exception {
    /// Without the name space that some answers put before it.
    fn name(&self) -> &str {
        self.kind.rsplit_once('#').map_or(&self.kind, |(_, name)| name)
    }

    /// Whether the next request may fare better.
    fn is_of_this_request(&self) -> bool {
        matches!(self.name(), "ValidationException" | "SerializationException" | "InvalidArgumentException")
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

    fn verdict(wire: Wire, status: u16, body: &str) -> Verdict {
        judge(wire, answered(status, body, None), 1, DateTime::UNIX_EPOCH)
    }

    const WIRES: [Wire; 3] = [Wire::Produce, Wire::PutRecord, Wire::PutRecords];

    #[test]
    fn an_answer_that_does_not_fit_the_records_stops_everything() {
        for (wire, body) in WIRES.into_iter().flat_map(|wire| ["", "<html>", "{}"].map(|body| (wire, body))) {
            assert!(
                matches!(verdict(wire, 200, body), Verdict::Refused { stop: true, .. }),
                "{wire:?} {body}"
            );
        }
    }

    #[test]
    fn statuses_are_retried_refused_or_stop_everything() {
        for wire in WIRES {
            for status in [500, 502, 504] {
                let verdict = verdict(wire, status, "");
                assert!(matches!(verdict, Verdict::Retry { ambiguous: true, .. }), "{wire:?} {status}");
            }
            for status in [408, 429, 503] {
                let verdict = verdict(wire, status, "");
                assert!(matches!(verdict, Verdict::Retry { ambiguous: false, .. }), "{wire:?} {status}");
            }
            for status in [400, 413, 422] {
                let verdict = verdict(wire, status, "");
                assert!(matches!(verdict, Verdict::Refused { stop: false, .. }), "{wire:?} {status}");
            }
            for status in [301, 401, 403, 404, 405, 415] {
                let verdict = verdict(wire, status, "");
                assert!(matches!(verdict, Verdict::Refused { stop: true, .. }), "{wire:?} {status}");
            }
        }
    }

    #[test]
    fn exceptions_of_kinesis_count_by_their_names_where_the_status_hides_them() {
        let body = |name| format!(r#"{{"__type":"{name}","message":"in its own words"}}"#);
        for status in [200, 400] {
            for wire in [Wire::PutRecord, Wire::PutRecords] {
                let verdict = |name| verdict(wire, status, &body(name));
                for name in
                    ["ProvisionedThroughputExceededException", "com.amazon.coral.service#ThrottlingException"]
                {
                    let verdict = verdict(name);
                    assert!(matches!(verdict, Verdict::Retry { ambiguous: false, .. }), "{status} {name}");
                }
                assert!(matches!(verdict("InternalFailure"), Verdict::Retry { ambiguous: true, .. }));
                for (name, stops) in [("ValidationException", false), ("ResourceNotFoundException", true)] {
                    let Verdict::Refused { why, stop } = verdict(name) else { panic!("{status} {name}") };
                    assert!(why.contains(name) && why.contains("in its own words"), "{why}");
                    assert_eq!(stop, stops, "{status} {name}");
                }
            }
        }
        // A proxy of Kafka has no exceptions.
        let verdict = verdict(Wire::Produce, 400, &body("InternalFailure"));
        assert!(matches!(verdict, Verdict::Refused { stop: false, .. }), "{verdict:?}");
    }

    #[test]
    fn the_wait_that_is_asked_for_comes_with_the_verdict() {
        for wire in WIRES {
            for status in [429, 503] {
                let verdict = judge(wire, answered(status, "", Some("7")), 1, DateTime::UNIX_EPOCH);
                let Verdict::Retry { wait, .. } = verdict else { panic!("{verdict:?}") };
                assert_eq!(wait, Some(Duration::from_secs(7)));
            }
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
