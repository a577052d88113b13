//! The log of acknowledged records: what a test that kills the gateway compares it with afterwards.
//!
//! Layout: a line for each record whose position the other side has answered with, five fields with tabs between them:
//!
//! ```text
//! topic          <TAB> partition    <TAB> offset          <TAB> id <TAB> xxh3
//! stream:stream  <TAB> shard number <TAB> sequence number <TAB> id <TAB> xxh3
//! ```
//!
//! The first form is for topics: `partition` and `offset` are numbers. The second is for streams, told apart by `stream:`
//! before the name, which no topic's name can begin with: the number is 3 for `shardId-000000000003`, and the sequence number
//! is the text that the other side gave, as it gave it. It is printable ASCII and of any length; Amazon's is a number of 56
//! digits. A reader that looks for topics by their names finds the same lines whether streams are posted to or not.
//!
//! `id` is the row's; `xxh3` is the XXH3-64 of the value's JSON text as it was sent, 16 digits in lower-case hex. The lines of
//! one answer are handed to the system in one write before the next request of that connection, with nothing buffered in the
//! process; the file is only ever appended to. So: when this process is killed, the file lacks at most the answers that it
//! had not read; when the machine dies, it may lack its end (it is not fsynced). A last line without a line end is torn and
//! to be ignored. A line says nothing about records that are not in the file.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use twox_hash::XxHash3_64;

use crate::fate::Offset;

/// An open log.
#[derive(Debug)]
pub(crate) struct AckLog {
    path: PathBuf,
    file: Mutex<File>,
}

/// A record and the position that it was acknowledged with.
pub(crate) struct Acked<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: &'a Offset,
    pub(crate) id: u64,
    pub(crate) value: &'a str,
}

impl AckLog {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the records of one answer. `name` is the topic's, or the stream's with `stream:` before it.
    pub(crate) fn append<'a>(&self, name: &str, acked: impl Iterator<Item = Acked<'a>>) -> io::Result<()> {
        let mut lines = String::new();
        for Acked { partition, offset, id, value } in acked {
            let hash = XxHash3_64::oneshot(value.as_bytes());
            // writing to a string cannot fail
            let _ = writeln!(lines, "{name}\t{partition}\t{offset}\t{id}\t{hash:016x}");
        }
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_never_replaced() {
        let dir = pinmill_testkit::temp_dir();
        let path = dir.path().join("acks.tsv");
        let sequence = "49590338271490256608559692538361571095921575989136588898";
        let acked =
            [("a.pin", 3, Offset::Number(0)), ("stream:a-pin", 11, Offset::Sequence(sequence.to_owned()))];
        for (name, partition, offset) in &acked {
            let log = AckLog::open(&path).unwrap();
            let acked = Acked { partition: *partition, offset, id: 7528, value: "{}" };
            log.append(name, std::iter::once(acked)).unwrap();
        }
        let hash = format!("{:016x}", XxHash3_64::oneshot(b"{}"));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("a.pin\t3\t0\t7528\t{hash}\nstream:a-pin\t11\t{sequence}\t7528\t{hash}\n")
        );
    }
}
