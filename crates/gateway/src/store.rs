//! From posted records to the log's partitions and back: who goes where, and what became of each.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::join_all;
use pinmill_broker::{Error, EventLog, Record};

use crate::error::ApiError;
use crate::media::Embedded;
use crate::produce::{Outcome, Posted};
use crate::topics::Topic;

/// Records of one request by partition.
#[derive(Debug)]
pub(crate) struct Sorted {
    groups: Vec<Group>,
    /// One for each record, in the request's order; those to be appended are not decided yet.
    outcomes: Vec<Outcome>,
}

/// The records of one partition, in the request's order. They go in one append.
#[derive(Debug)]
struct Group {
    partition: u32,
    /// Where each record stood in the request.
    places: Vec<usize>,
    records: Vec<Record>,
    /// Bytes of the keys and values.
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
    embedded: Embedded,
    topic: &Topic,
    path_partition: Option<u32>,
    record_bytes: usize,
) -> Sorted {
    let mut sorted = Sorted { groups: Vec::new(), outcomes: vec![Outcome::UNANSWERED; posted.len()] };
    // The group of each partition, by its number. Most topics and requests have only one.
    let one_group = posted.len() == 1 || topic.partitions == 1;
    let mut group_of = vec![None; if one_group { 0 } else { topic.partitions as usize }];
    for (place, Posted { partition: own, record }) in posted.into_iter().enumerate() {
        let named = own.or(path_partition.map(i64::from));
        let (partition, bytes) = match place_for(&record, named, embedded, topic, record_bytes) {
            Ok(found) => found,
            Err(error) => {
                sorted.outcomes[place] = Outcome::Refused { retriable: false, error };
                continue;
            }
        };
        let next = sorted.groups.len();
        let index = group_of.get_mut(partition as usize).map_or(0, |group| *group.get_or_insert(next));
        if index == next {
            let (places, records) = (Vec::with_capacity(1), Vec::with_capacity(1));
            sorted.groups.push(Group { partition, places, records, bytes: 0 });
        }
        let group = &mut sorted.groups[index];
        group.places.push(place);
        group.records.push(record);
        group.bytes += bytes;
    }
    sorted
}

/// A record's partition and size, or why it is refused.
fn place_for(
    record: &Record,
    named: Option<i64>,
    embedded: Embedded,
    topic: &Topic,
    record_bytes: usize,
) -> Result<(u32, usize), Cow<'static, str>> {
    let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let bytes = len(&record.key) + len(&record.value);
    if bytes > record_bytes {
        return Err(format!("the record has {bytes} bytes, the limit is {record_bytes}").into());
    }
    let Some(named) = named else {
        return Ok((topic.partition_of(record.key.as_deref(), embedded), bytes));
    };
    let partition = u32::try_from(named).ok().filter(|partition| *partition < topic.partitions);
    let partition = partition
        .ok_or_else(|| format!("there is no partition {named}, the topic has {}", topic.partitions))?;
    Ok((partition, bytes))
}

/// Appends what was sorted, all partitions at once; returns when the log has made it durable (invariant I1).
///
/// # Errors
/// When the log took nothing and may take it later, so that the whole request can be sent again.
pub(crate) async fn append(log: &Arc<dyn EventLog>, name: &str, sorted: Sorted) -> Result<Stored, ApiError> {
    let Sorted { mut groups, outcomes } = sorted;
    let mut stored = Stored { outcomes, records: 0, bytes: 0 };
    let unavailable = if groups.len() == 1 {
        let Group { partition, places, records, bytes } = groups.swap_remove(0);
        let result = log.append(name, partition, records).await;
        stored.note(name, partition, &places, bytes, result)
    } else {
        let appends = groups.into_iter().map(|Group { partition, places, records, bytes }| async move {
            (partition, places, bytes, log.append(name, partition, records).await)
        });
        let mut unavailable = None;
        for (partition, places, bytes, result) in Box::pin(join_all(appends)).await {
            unavailable = stored.note(name, partition, &places, bytes, result).or(unavailable);
        }
        unavailable
    };
    match unavailable {
        Some(error) if stored.records == 0 => Err(error.into()),
        _ => Ok(stored),
    }
}

impl Stored {
    /// Takes down what became of one partition's records; gives back an error that says that the log is not there.
    fn note(
        &mut self,
        topic: &str,
        partition: u32,
        places: &[usize],
        bytes: usize,
        result: pinmill_broker::Result<Vec<u64>>,
    ) -> Option<Error> {
        match result {
            Ok(offsets) => {
                self.records += offsets.len();
                self.bytes += bytes;
                for (place, offset) in places.iter().zip(offsets) {
                    self.outcomes[*place] = Outcome::Stored { partition, offset };
                }
                None
            }
            Err(error) => {
                tracing::warn!(topic, partition, %error, "an append failed");
                let refusal = refusal(&error);
                for place in places {
                    self.outcomes[*place] = refusal.clone();
                }
                matches!(error, Error::Unavailable(_) | Error::Failed(_)).then_some(error)
            }
        }
    }
}

/// What the client is told of a record whose append failed. A topic or partition that went away since it was looked up,
/// and an append whose outcome is unknown, are worth another try; a record that is too large is not.
fn refusal(error: &Error) -> Outcome {
    let retriable = !matches!(error, Error::RecordTooLarge { .. } | Error::InvalidTopic { .. });
    Outcome::Refused { retriable, error: error.to_string().into() }
}
