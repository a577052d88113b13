//! `GET /readyz`: whether the gateway, and every other part of its process, does its work.
//!
//! The answer lists the parts: 200 where all of them work, 503 where one does not. `?part=NAME` asks for one part alone,
//! and `?part=stream` for all whose name begins with `stream/`. The gateway takes records whatever the others do, so
//! `?part=gateway` is what a load balancer asks.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use pinmill_broker::{EventLog, Health};
use serde::Serialize;

/// The name of the gateway's own part.
const GATEWAY: &str = "gateway";

/// How a part of the process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// Its name: `archive`, `stream/pin`.
    pub part: String,
    /// Whether it does its work.
    pub works: bool,
    /// How it is, in a word: `working`, `failing`.
    pub state: String,
    /// How often it began again after an error.
    pub restarts: u64,
    /// The latest error, also where the part works again.
    pub last_error: Option<String>,
}

/// Who knows how the other parts of the process are.
pub trait Readiness: fmt::Debug + Send + Sync {
    /// Tells this process from every other one that may listen at the same address later.
    fn instance(&self) -> &str;

    /// The parts beside the gateway.
    fn parts(&self) -> Vec<PartReport>;
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    parts: &'a [PartReport],
}

/// How the gateway is: it is ready while its logs take records and nobody has told it to stop.
pub(crate) fn gateway(logs: &[Arc<dyn EventLog>], stopping: bool) -> PartReport {
    let refusal = |log: &Arc<dyn EventLog>| match log.health() {
        Health::Writable => None,
        Health::ReadOnly { reason } => Some(("failing", format!("the log refuses writes for now: {reason}"))),
        Health::Poisoned { reason } => {
            Some(("stopped", format!("the log refuses writes until a restart: {reason}")))
        }
    };
    let refused = if stopping {
        Some(("stopping", "the gateway is stopping".to_owned()))
    } else {
        logs.iter().find_map(refusal)
    };
    PartReport {
        part: GATEWAY.to_owned(),
        works: refused.is_none(),
        state: refused.as_ref().map_or("working", |(state, _)| *state).to_owned(),
        restarts: 0,
        last_error: refused.map(|(_, why)| why),
    }
}

/// The answer about all parts, or about those that are asked for; `None` where there is no such part.
pub(crate) fn answer(
    mut parts: Vec<PartReport>,
    asked: Option<&str>,
    instance: Option<&str>,
) -> Option<Response<Body>> {
    if let Some(asked) = asked {
        parts.retain(|part| is_asked_for(&part.part, asked));
        if parts.is_empty() {
            return None;
        }
    }
    let why_not: Vec<String> = parts.iter().filter(|part| !part.works).map(why).collect();
    let ready = why_not.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = Answer {
        error_code: (!ready).then(|| status.as_u16()),
        message: (!ready).then(|| why_not.join("; ")),
        status: if ready { "ready" } else { "not ready" },
        instance,
        parts: &parts,
    };
    // It is made of strings and numbers, which always serialize.
    let mut response = Response::new(Body::from(serde_json::to_vec(&answer).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !ready {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Some(response)
}

fn is_asked_for(part: &str, asked: &str) -> bool {
    part.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn why(part: &PartReport) -> String {
    let PartReport { part, state, last_error, .. } = part;
    match last_error {
        Some(error) => format!("{part}: {state}: {error}"),
        None => format!("{part}: {state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, works: bool) -> PartReport {
        let state = if works { "working" } else { "failing" }.to_owned();
        PartReport { part: name.to_owned(), works, state, restarts: 3, last_error: Some("gone".to_owned()) }
    }

    #[test]
    fn one_part_that_does_not_work_is_enough_and_each_can_be_asked_for_alone() {
        let parts = || vec![part("gateway", true), part("stream/geo", true), part("stream/pin", false)];
        for (asked, status) in [
            (None, Some(503)),
            (Some("gateway"), Some(200)),
            (Some("stream/geo"), Some(200)),
            (Some("stream/pin"), Some(503)),
            (Some("stream"), Some(503)),
            (Some("stream/p"), None),
            (Some(""), None),
        ] {
            let answered = answer(parts(), asked, None).map(|answer| answer.status().as_u16());
            assert_eq!(answered, status, "{asked:?}");
        }
    }
}
