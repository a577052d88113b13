//! What an answer of success says about each of the records that were sent.

use std::fmt;

use serde::Deserialize;

use crate::outlet::Wire;

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is stored: in a partition of a topic, or in the shard of this number.
    Stored {
        partition: i32,
        offset: Offset,
    },
    /// Another try may store it; `ambiguous`: this one may have, although it says that it has not.
    Retry {
        why: String,
        ambiguous: bool,
    },
    Refused(String),
}

/// Where in its partition or shard a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    Number(i64),
    /// A sequence number, which is any text without blanks: what it means is the business of whoever gave it.
    Sequence(String),
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(offset) => write!(f, "{offset}"),
            Self::Sequence(number) => f.write_str(number),
        }
    }
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutMany {
    records: Vec<Put>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    sequence_number: Option<String>,
    shard_id: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
}

/// The fates of `records` records, in their order.
///
/// # Errors
/// What is wrong with the answer, when it is not one about these records.
pub(crate) fn read(wire: Wire, body: &[u8], records: usize) -> Result<Vec<Fate>, String> {
    let fates: Vec<_> = match wire {
        Wire::Produce => {
            let Ok(Produced { offsets }) = serde_json::from_slice(body) else {
                return Err("the answer is not that of a Kafka REST proxy".to_owned());
            };
            offsets.iter().map(Position::fate).collect()
        }
        Wire::PutRecord => match serde_json::from_slice::<Put>(body) {
            Ok(put) if put.is_some() => vec![put.fate()],
            _ => return Err("the answer is not that of PutRecord".to_owned()),
        },
        Wire::PutRecords => {
            let Ok(PutMany { records }) = serde_json::from_slice(body) else {
                return Err("the answer is not that of PutRecords".to_owned());
            };
            records.into_iter().map(Put::fate).collect()
        }
    };
    if fates.len() == records {
        Ok(fates)
    } else {
        Err(format!("{} positions for {records} records", fates.len()))
    }
}

impl Position {
    fn fate(&self) -> Fate {
        let error = |code: Option<i64>| {
            let code = code.map_or_else(String::new, |code| format!("error_code {code}: "));
            format!("{code}{}", self.error.as_deref().unwrap_or("no position and no error"))
        };
        match (self.error_code, self.partition, self.offset) {
            (None, Some(partition), Some(offset)) => {
                Fate::Stored { partition, offset: Offset::Number(offset) }
            }
            // Confluent's code, and Karapace's
            (Some(code @ (50003 | 2)), ..) => Fate::Retry { why: error(Some(code)), ambiguous: false },
            (code, ..) => Fate::Refused(error(code)),
        }
    }
}

impl Put {
    /// Whether it says anything of a record.
    fn is_some(&self) -> bool {
        self.sequence_number.is_some() || self.error_code.is_some()
    }

    fn fate(self) -> Fate {
        if let Some(code) = self.error_code {
            let why = format!("{code}: {}", self.error_message.as_deref().unwrap_or("no message"));
            return match Passing::of(&code) {
                Some(Passing { ambiguous }) => Fate::Retry { why, ambiguous },
                None => Fate::Refused(why),
            };
        }
        let shard = self.shard_id.as_deref().and_then(shard_number);
        let number = self.sequence_number.filter(|number| is_word(number));
        match (shard, number) {
            (Some(partition), Some(number)) => Fate::Stored { partition, offset: Offset::Sequence(number) },
            _ => Fate::Refused("no sequence number with a shard, and no error".to_owned()),
        }
    }
}

/// 3 for `shardId-000000000003`.
fn shard_number(id: &str) -> Option<i32> {
    let (_, digits) = id.rsplit_once('-')?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a text can stand in a line of the log of acknowledged records.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An error of Kinesis that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passing {
    /// What failed inside may have been stored before; what was throttled was not looked at.
    pub(crate) ambiguous: bool,
}

impl Passing {
    /// By an error's code or an exception's name; `None` where another try would fail as well.
    pub(crate) fn of(code: &str) -> Option<Self> {
        match code {
            "InternalFailure" => Some(Self { ambiguous: true }),
            "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException"
            | "ServiceUnavailable" => Some(Self { ambiguous: false }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(number: &str) -> Offset {
        Offset::Sequence(number.to_owned())
    }

    #[test]
    fn a_position_is_an_acknowledgement_and_an_error_code_is_none() {
        let body = br#"{"offsets":[{"partition":0,"offset":7,"error_code":null,"error":null},
            {"partition":null,"offset":null,"error_code":50003,"error":"later"},
            {"partition":null,"offset":null,"error_code":50002,"error":"never"},
            {"partition":0,"offset":null}],"key_schema_id":null,"value_schema_id":null}"#;
        let fates = read(Wire::Produce, body, 4).unwrap();
        assert_eq!(fates[0], Fate::Stored { partition: 0, offset: Offset::Number(7) });
        assert_eq!(fates[1], Fate::Retry { why: "error_code 50003: later".to_owned(), ambiguous: false });
        assert_eq!(fates[2], Fate::Refused("error_code 50002: never".to_owned()));
        assert_eq!(fates[3], Fate::Refused("no position and no error".to_owned()));
    }

    #[test]
    fn a_sequence_number_is_an_acknowledgement_whatever_it_looks_like() {
        let long = "49590338271490256608559692538361571095921575989136588898";
        for number in [long, "0", "3:abc"] {
            let body = format!(
                r#"{{"SequenceNumber":"{number}","ShardId":"shardId-000000000003","EncryptionType":"KMS"}}"#
            );
            let fates = read(Wire::PutRecord, body.as_bytes(), 1).unwrap();
            assert_eq!(fates, [Fate::Stored { partition: 3, offset: sequence(number) }]);
        }
    }

    #[test]
    fn each_record_of_many_has_its_own_fate() {
        let body = br#"{"FailedRecordCount":4,"Records":[
            {"SequenceNumber":"12","ShardId":"shardId-000000000011","ErrorCode":null,"ErrorMessage":null},
            {"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate exceeded for shard"},
            {"ErrorCode":"InternalFailure","ErrorMessage":"Internal Service Failure."},
            {"ErrorCode":"AccessDeniedException"},
            {"SequenceNumber":"1\t2","ShardId":"shardId-000000000000"},
            {"SequenceNumber":"1","ShardId":"shardId-+1"}]}"#;
        let fates = read(Wire::PutRecords, body, 6).unwrap();
        assert_eq!(fates[0], Fate::Stored { partition: 11, offset: sequence("12") });
        let why = "ProvisionedThroughputExceededException: Rate exceeded for shard".to_owned();
        assert_eq!(fates[1], Fate::Retry { why, ambiguous: false });
        let why = "InternalFailure: Internal Service Failure.".to_owned();
        assert_eq!(fates[2], Fate::Retry { why, ambiguous: true });
        assert_eq!(fates[3], Fate::Refused("AccessDeniedException: no message".to_owned()));
        for nowhere in &fates[4..] {
            assert!(
                matches!(nowhere, Fate::Refused(why) if why.contains("no sequence number")),
                "{nowhere:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_not_about_the_records_is_none() {
        for wire in [Wire::Produce, Wire::PutRecord, Wire::PutRecords] {
            for body in ["", "<html>", "{}", r#"{"offsets":[]}"#, r#"{"Records":[]}"#, r#"{"message":null}"#]
            {
                read(wire, body.as_bytes(), 1).unwrap_err();
            }
        }
        let one = br#"{"Records":[{"SequenceNumber":"1","ShardId":"shardId-000000000000"}]}"#;
        assert_eq!(read(Wire::PutRecords, one, 2), Err("1 positions for 2 records".to_owned()));
    }
}
