//! From posted records to the log's partitions and back: who goes where, and what became of each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use pinmill_broker::{Error, EventLog, Record};

use crate::error::ApiError;
use crate::produce::{Outcome, Posted};
use crate::topics::Topic;

/// Records of one request by partition. Records of one partition keep their order and go in one append.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    groups: BTreeMap<u32, Group>,
    refused: Vec<(usize, Cow<'static, str>)>,
    count: usize,
}

#[derive(Debug, Default)]
struct Group {
    /// Where each record stood in the request.
    places: Vec<usize>,
    records: Vec<Record>,
    bytes: usize,
}

/// What became of the records of a request, in its order.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) outcomes: Vec<Outcome>,
    /// How many were stored, and the bytes of their keys and values.
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// Gives each record its partition: its own, else the path's, else by its key or in turn. A record that cannot be stored
/// wherever it went is refused by itself.
pub(crate) fn sort(
    posted: Vec<Posted>,
    topic: &Topic,
    path_partition: Option<u32>,
    record_bytes: usize,
) -> Sorted {
    let mut sorted = Sorted { count: posted.len(), ..Sorted::default() };
    for (place, Posted { partition, record }) in posted.into_iter().enumerate() {
        let bytes = record.key.as_ref().map_or(0, |key| key.len())
            + record.value.as_ref().map_or(0, |value| value.len());
        if bytes > record_bytes {
            let error = format!("the record has {bytes} bytes, the limit is {record_bytes}");
            sorted.refused.push((place, error.into()));
            continue;
        }
        let partition = match (partition, path_partition) {
            (Some(own), _) => u32::try_from(own).ok().filter(|own| *own < topic.partitions).ok_or(own),
            (None, Some(path)) => Ok(path),
            (None, None) => Ok(topic.partition_of(record.key.as_deref())),
        };
        match partition {
            Ok(partition) => {
                let group = sorted.groups.entry(partition).or_default();
                group.places.push(place);
                group.records.push(record);
                group.bytes += bytes;
            }
            Err(own) => {
                let error = format!("there is no partition {own}, the topic has {}", topic.partitions);
                sorted.refused.push((place, error.into()));
            }
        }
    }
    sorted
}

/// Appends what was sorted, all partitions at once.
///
/// # Errors
/// When the log took nothing and may take it later, so that the whole request can be sent again.
pub(crate) async fn append(log: &Arc<dyn EventLog>, name: &str, sorted: Sorted) -> Result<Stored, ApiError> {
    let Sorted { groups, refused, count } = sorted;
    // Overwritten in each place that the log answers for.
    let unanswered = Outcome::Refused { retriable: true, error: "the log gave no offset".into() };
    let mut stored = Stored { outcomes: vec![unanswered; count], records: 0, bytes: 0 };
    for (place, error) in refused {
        stored.outcomes[place] = Outcome::Refused { retriable: false, error };
    }

    let appends = groups.into_iter().map(|(partition, Group { places, records, bytes })| async move {
        (partition, places, bytes, log.append(name, partition, records).await)
    });
    let mut unavailable = None;
    for (partition, places, bytes, result) in join_all(appends).await {
        match result {
            Ok(offsets) => {
                stored.records += offsets.len();
                stored.bytes += bytes;
                for (place, offset) in places.into_iter().zip(offsets) {
                    stored.outcomes[place] = Outcome::Stored { partition, offset };
                }
            }
            Err(error) => {
                let refusal = refusal(&error);
                for place in places {
                    stored.outcomes[place] = refusal.clone();
                }
                tracing::warn!(topic = name, partition, %error, "an append failed");
                if matches!(error, Error::Unavailable(_) | Error::Failed(_)) {
                    unavailable = Some(error);
                }
            }
        }
    }
    match unavailable {
        Some(error) if stored.records == 0 => Err(error.into()),
        _ => Ok(stored),
    }
}

/// What the client is told of a record whose append failed. A topic or partition that went away since it was looked up,
/// and an append whose outcome is unknown, are worth another try; a record that is too large is not.
fn refusal(error: &Error) -> Outcome {
    let retriable = !matches!(error, Error::RecordTooLarge { .. } | Error::InvalidTopic { .. });
    Outcome::Refused { retriable, error: error.to_string().into() }
}
