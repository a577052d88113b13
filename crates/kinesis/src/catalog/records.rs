//! What a record of the catalog says.
//!
//! The value is a JSON object: the members of [`StreamState`] but its shards, whole, and
//!
//! | member | |
//! | --- | --- |
//! | `changed_shards` | pairs of an index and a shard: those that this change made or closed. All others are as they were. They add to what earlier records say of the same life of the name (`created_ms`), so a stream of many shards may take several records |
//! | `shards` | all shards, in their order, in place of whatever was said before. Written by the first version alone, and still read |
//!
//! So the log grows by what changes and not by all shards that a stream ever had. The first version misses `shards` in such
//! a record, and says that a newer version wrote it.
//!
//! Reading may begin too early: the position was lost or is out of date, and the log holds only some of the records before
//! the last compaction. A stream is then incomplete until it reaches the records of that compaction, which hold every shard.

use std::collections::BTreeMap;

use bytes::Bytes;
use pinmill_broker::{Record, StoredRecord};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::model::{Shard, StreamState};

/// Most shards in one record: about 1 MiB.
const SHARDS_AT_ONCE: usize = 4096;

#[derive(Serialize)]
struct Written<'a> {
    changed_shards: &'a [(u32, &'a Shard)],
    #[serde(flatten)]
    state: &'a StreamState,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    shards: Option<Vec<Shard>>,
    #[serde(default)]
    changed_shards: Vec<(u32, Shard)>,
    #[serde(flatten)]
    state: StreamState,
}

/// The records that take a stream from `before`, or from nothing, to `after`. They may be appended one by one.
pub(super) fn of_change(before: Option<&StreamState>, after: &StreamState) -> Result<Vec<Record>, ApiError> {
    let old = before.map(|state| state.shards.as_slice()).unwrap_or_default();
    let is_new = |(index, shard): &(u32, &Shard)| old.get(*index as usize) != Some(*shard);
    let changed: Vec<_> = (0..).zip(&after.shards).filter(is_new).collect();
    if changed.is_empty() {
        return Ok(vec![record(after, &[])?]);
    }
    changed.chunks(SHARDS_AT_ONCE).map(|some| record(after, some)).collect()
}

fn record(state: &StreamState, changed_shards: &[(u32, &Shard)]) -> Result<Record, ApiError> {
    let value = serde_json::to_vec(&Written { changed_shards, state })
        .map_err(|error| ApiError::internal(Some(error.to_string())))?;
    Ok(Record { value: Some(value.into()), ..of_no_stream(&state.name) })
}

/// The record that says that there is no stream of this name any more.
pub(super) fn of_no_stream(name: &str) -> Record {
    Record { key: Some(Bytes::copy_from_slice(name.as_bytes())), ..Record::default() }
}

/// A stream as the records read so far describe it.
#[derive(Debug)]
pub(super) struct Partial {
    /// All but the shards.
    state: StreamState,
    shards: BTreeMap<u32, Shard>,
    /// Set while shards are missing.
    incomplete: Option<Incomplete>,
}

/// Why a stream cannot be used.
#[derive(Debug)]
pub(super) struct Incomplete {
    /// The first record that needs what is missing.
    pub(super) offset: u64,
    pub(super) reason: String,
}

impl Partial {
    /// The stream, once all records are read.
    pub(super) fn complete(self) -> Result<StreamState, Incomplete> {
        match self.incomplete {
            Some(incomplete) => Err(incomplete),
            None => Ok(StreamState { shards: self.shards.into_values().collect(), ..self.state }),
        }
    }
}

/// Adds what a record says; `Err` says what is wrong with it. Whether a stream has all its shards shows at the end only:
/// [`Partial::complete`].
pub(super) fn apply(record: &StoredRecord, streams: &mut BTreeMap<String, Partial>) -> Result<(), String> {
    let key = record.key.as_deref().ok_or("it has no key")?;
    let name = std::str::from_utf8(key).map_err(|error| error.to_string())?;
    let before = streams.remove(name);
    let Some(value) = &record.value else { return Ok(()) };
    let read: Read = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let state = read.state;
    let before = before.filter(|before| before.state.created_ms == state.created_ms);
    let (mut shards, incomplete) =
        before.map(|before| (before.shards, before.incomplete)).unwrap_or_default();
    if let Some(all) = read.shards {
        shards = (0..).zip(all).collect();
    }
    shards.extend(read.changed_shards);
    let is_complete = shards.last_key_value().is_some_and(|(last, _)| shards.len() == *last as usize + 1);
    let found = || Incomplete { offset: record.offset, reason: missing(&shards) };
    let incomplete = if is_complete { None } else { incomplete.or_else(|| Some(found())) };
    streams.insert(name.to_owned(), Partial { state, shards, incomplete });
    Ok(())
}

/// What is missing after the first record that leaves a stream incomplete.
fn missing(shards: &BTreeMap<u32, Shard>) -> String {
    let known = (0..).zip(shards.keys()).take_while(|(expected, index)| expected == *index).count();
    match shards.keys().nth(known) {
        Some(index) => format!("it changes shard {index}, but shards from {known} on are missing"),
        None => "its stream has no shards".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Mode;
    use crate::reshard;

    const NOW: i64 = 1_733_333_333_123;

    fn stored(record: Record) -> StoredRecord {
        StoredRecord {
            offset: 0,
            timestamp_ms: 0,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    /// What is read of records, twice over, as if a crash had kept a compaction from its end.
    fn read(records: &[Record]) -> BTreeMap<String, StreamState> {
        read_once(&[records, records].concat()).unwrap()
    }

    fn read_once(records: &[Record]) -> Result<BTreeMap<String, StreamState>, Incomplete> {
        let mut streams = BTreeMap::new();
        for (offset, record) in (0..).zip(records) {
            apply(&StoredRecord { offset, ..stored(record.clone()) }, &mut streams).unwrap();
        }
        streams.into_iter().map(|(name, partial)| Ok((name, partial.complete()?))).collect()
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(50))]

        #[test]
        fn changes_written_one_by_one_give_the_state_after_them(
            first in 1_u32..5, targets in prop::collection::vec(1_u32..20, 0..8)
        ) {
            let mut state = StreamState::new("s", first, Mode::Provisioned, NOW);
            let mut records = of_change(None, &state).unwrap();
            for target in targets {
                let shards = reshard::scale(&state.shards, target, NOW).unwrap();
                let after = StreamState { shards, retention_hours: 24 + i64::from(target), ..state.clone() };
                records.extend(of_change(Some(&state), &after).unwrap());
                state = after;
            }
            prop_assert_eq!(&read(&records)["s"], &state);
            prop_assert_eq!(&read(&of_change(None, &state).unwrap())["s"], &state);
        }
    }

    #[test]
    fn a_stream_of_many_shards_takes_several_records_and_a_change_of_it_a_small_one() {
        let state = StreamState::new("s", 10_000, Mode::Provisioned, NOW);
        let mut records = of_change(None, &state).unwrap();
        assert_eq!(records.len(), 3);
        let shards = reshard::split(&state.shards, 7, state.shards[7].range.start + 2, NOW).unwrap();
        let after = StreamState { shards, ..state.clone() };
        let change = of_change(Some(&state), &after).unwrap();
        assert_eq!(change.len(), 1);
        let bytes = change[0].value.as_ref().unwrap().len();
        assert!(bytes < 2000, "{bytes} bytes");
        records.extend(change);
        assert_eq!(read(&records)["s"], after);
    }

    #[test]
    fn a_name_that_is_used_again_has_the_shards_of_its_new_life_alone() {
        let old = StreamState::new("s", 3, Mode::Provisioned, NOW);
        let new = StreamState::new("s", 1, Mode::Provisioned, NOW + 1);
        let mut records = of_change(None, &old).unwrap();
        records.push(of_no_stream("s"));
        records.extend(of_change(None, &new).unwrap());
        assert_eq!(read(&records)["s"], new);
    }

    #[test]
    fn a_record_of_the_first_version_is_read() {
        let value = br#"{"name":"s","created_ms":1733333333123,"mode":"PROVISIONED","retention_hours":48,
            "shards":[{"range":{"start":"0","end":"9"},"created_s":1733333331,"opened_ms":1733333333123,
            "closed":{"at_ms":1733333334000,"end_offset":7}},
            {"range":{"start":"0","end":"9"},"created_s":1733333335,"opened_ms":1733333334000,"parent":0}],
            "tags":{"a":"b"},"consumers":{"c":{"created_ms":1,"tags":{}}},"is_deleting":false}"#;
        let record = Record { value: Some(Bytes::from_static(value)), ..of_no_stream("s") };
        let state = read(std::slice::from_ref(&record)).remove("s").unwrap();
        assert_eq!((state.shards.len(), state.retention_hours), (2, 48));
        assert_eq!(state.shards[0].closed.unwrap().end_offset, 7);
        let tagged = StreamState { retention_hours: 24, ..state.clone() };
        let mut records = vec![record];
        records.extend(of_change(Some(&state), &tagged).unwrap());
        assert_eq!(read(&records)["s"], tagged, "what is written now adds to it");
    }

    #[test]
    fn reading_may_begin_anywhere_before_a_compaction() {
        let mut state = StreamState::new("s", 5000, Mode::Provisioned, NOW);
        let mut records = of_change(None, &state).unwrap();
        for hours in 30_u32..33 {
            let start = state.shards[hours as usize].range.start;
            let shards = reshard::split(&state.shards, hours, start + 2, NOW).unwrap();
            let split = StreamState { shards, ..state.clone() };
            let longer = StreamState { retention_hours: hours.into(), ..split.clone() };
            records.extend(of_change(Some(&state), &split).unwrap());
            records.extend(of_change(Some(&split), &longer).unwrap());
            state = longer;
        }
        let compacted = records.len();
        records.extend(of_change(None, &state).unwrap());
        records
            .extend(of_change(Some(&state), &StreamState { retention_hours: 48, ..state.clone() }).unwrap());
        state.retention_hours = 48;
        for first in 0..=compacted {
            assert_eq!(read_once(&records[first..]).unwrap()["s"], state, "from record {first} on");
        }
        for first in compacted + 1..records.len() {
            read_once(&records[first..]).unwrap_err();
        }
    }

    #[test]
    fn what_cannot_be_true_is_refused_with_its_reason() {
        let state = StreamState::new("s", 4, Mode::Provisioned, NOW);
        let of_shards = |some: &[u32]| {
            let shards: Vec<_> = some.iter().map(|index| (*index, &state.shards[*index as usize])).collect();
            record(&state, &shards).unwrap()
        };
        for (records, offset, reason) in [
            (vec![of_shards(&[1])], 0, "it changes shard 1, but shards from 0 on are missing"),
            (
                vec![of_shards(&[0]), of_shards(&[1, 3])],
                1,
                "it changes shard 3, but shards from 2 on are missing",
            ),
            (vec![of_shards(&[]), of_shards(&[2])], 0, "its stream has no shards"),
        ] {
            let incomplete = read_once(&records).unwrap_err();
            assert_eq!((incomplete.offset, incomplete.reason.as_str()), (offset, reason));
        }
        assert_eq!(apply(&stored(Record::default()), &mut BTreeMap::new()).unwrap_err(), "it has no key");
        let broken = Record { value: Some(Bytes::from_static(b"{")), ..of_no_stream("s") };
        apply(&stored(broken), &mut BTreeMap::new()).unwrap_err();
    }
}
