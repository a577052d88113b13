//! Where the rows of one table go, and how they are written into a request.
//!
//! Bodies are put together as text around the rows' own, so that a row is on the wire what its source said, byte for byte.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderValue, Method};

use crate::client::Endpoint;
use crate::source::Table;
use crate::target::Target;
use pinmill_broker::Plane;

/// What the reference sends, and so what a gateway must take.
const KAFKA_JSON: HeaderValue = HeaderValue::from_static("application/vnd.kafka.json.v2+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Records in one `PutRecords` at most.
const MOST_PUT_RECORDS: usize = 500;

/// A topic or a stream of one target.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) endpoint: Endpoint,
    pub(crate) wire: Wire,
    /// As messages and the log of acknowledged records call it; a colon is in no topic's name, so the two are told apart.
    pub(crate) label: String,
    /// Records in one request at most.
    pub(crate) most: usize,
    /// The topic's or the stream's name.
    name: String,
}

/// What is asked of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Kafka REST's produce request.
    Produce,
    /// Kinesis' `PutRecord` behind REST: one record.
    PutRecord,
    /// Kinesis' `PutRecords` behind REST.
    PutRecords,
}

/// A row on its way.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) value: String,
    /// A try of it may have been stored.
    pub(crate) ambiguous: bool,
}

impl Outlet {
    /// For the rows of `table` in `target`, `records_per_request` at a time or as many as the other side takes.
    pub(crate) fn new(target: &Target, table: Table, records_per_request: usize) -> Result<Self, String> {
        let name = target.name(table);
        let path = target.path(table);
        let (wire, path, most) = match target.plane {
            Plane::Topics => (Wire::Produce, path, records_per_request),
            Plane::Streams if records_per_request == 1 => (Wire::PutRecord, format!("{path}/record"), 1),
            Plane::Streams => {
                (Wire::PutRecords, format!("{path}/records"), records_per_request.min(MOST_PUT_RECORDS))
            }
        };
        let (method, content_type, label) = match target.plane {
            Plane::Topics => (Method::POST, KAFKA_JSON, name.clone()),
            Plane::Streams => (Method::PUT, JSON, format!("stream:{name}")),
        };
        let path = path.parse().map_err(|e| format!("{path} is no path: {e}"))?;
        Ok(Self { endpoint: Endpoint { method, path, content_type }, wire, label, most, name })
    }

    /// The body of a request, as the reference sends it. A record's partition key is its row's id: all that is posted of an
    /// id goes to one shard, in its order, and different ids spread over the shards.
    pub(crate) fn body(&self, records: &[Record]) -> Bytes {
        let size = records.iter().map(|record| record.value.len() + 64).sum::<usize>() + self.name.len() + 64;
        let mut body = String::with_capacity(size);
        // writing to a string cannot fail
        let _ = match (self.wire, records) {
            // names have no characters that JSON would escape
            (Wire::PutRecord, [Record { id, value, .. }]) => write!(
                body,
                "{{\"StreamName\":\"{}\",\"Data\":{value},\"PartitionKey\":\"{id}\"}}",
                self.name
            ),
            (Wire::PutRecord | Wire::PutRecords, records) => list(&mut body, records, |body, record| {
                write!(body, "{{\"data\":{},\"partition-key\":\"{}\"}}", record.value, record.id)
            }),
            (Wire::Produce, records) => {
                list(&mut body, records, |body, record| write!(body, "{{\"value\":{}}}", record.value))
            }
        };
        body.into()
    }
}

fn list(
    body: &mut String,
    records: &[Record],
    write: impl Fn(&mut String, &Record) -> std::fmt::Result,
) -> std::fmt::Result {
    body.push_str("{\"records\":[");
    for (n, record) in records.iter().enumerate() {
        if n > 0 {
            body.push(',');
        }
        write(body, record)?;
    }
    body.push_str("]}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, value: &str) -> Record {
        Record { id, value: value.to_owned(), ambiguous: false }
    }

    #[test]
    fn a_body_for_a_topic_is_that_of_the_reference() {
        let target = Target::topics("http://localhost", Some("me")).unwrap();
        let outlet = Outlet::new(&target, Table::Geo, 2).unwrap();
        assert_eq!(outlet.body(&[record(1, "{\"ind\":1}")]), "{\"records\":[{\"value\":{\"ind\":1}}]}");
        assert_eq!(
            outlet.body(&[record(1, "1"), record(2, "2")]),
            "{\"records\":[{\"value\":1},{\"value\":2}]}"
        );
        assert_eq!(
            (outlet.endpoint.method.as_str(), outlet.endpoint.path.path()),
            ("POST", "/topics/me.geo")
        );
        assert_eq!((outlet.label.as_str(), outlet.most), ("me.geo", 2));
    }

    #[test]
    fn one_record_a_request_is_put_as_the_reference_puts_it() {
        let target = Target::streams("http://localhost/dev/streams/streaming-me-", None).unwrap();
        let outlet = Outlet::new(&target, Table::Pin, 1).unwrap();
        assert_eq!(
            outlet.body(&[record(7528, "{\"index\":7528}")]),
            r#"{"StreamName":"streaming-me-pin","Data":{"index":7528},"PartitionKey":"7528"}"#
        );
        assert_eq!(outlet.endpoint.method, Method::PUT);
        assert_eq!(outlet.endpoint.path, "/dev/streams/streaming-me-pin/record");
        assert_eq!(outlet.endpoint.content_type, "application/json");
        assert_eq!(outlet.label, "stream:streaming-me-pin");
    }

    #[test]
    fn several_records_are_put_in_one_request_up_to_what_it_takes() {
        let target = Target::streams("http://localhost", None).unwrap();
        let outlet = Outlet::new(&target, Table::User, 501).unwrap();
        assert_eq!(
            outlet.body(&[record(1, "{}"), record(2, "[]")]),
            r#"{"records":[{"data":{},"partition-key":"1"},{"data":[],"partition-key":"2"}]}"#
        );
        assert_eq!(outlet.endpoint.path, "/streams/user/records");
        assert_eq!(outlet.most, 500);
    }
}
