//! Reads every byte of a partition without changing one, and says what is whole, what is damaged and what is lost; what
//! verify and repair share.

use std::io;
use std::path::{Path, PathBuf};

use crate::clean::End;
use crate::disk::{Disk, Open};
use crate::error::{Error, Result};
use crate::format::{BatchHeader, HEADER_LEN, Identity, base_of, check_header, segment_name};
use crate::recovery::read_header;
use crate::scan::{Scanner, Step};
use crate::start::Start;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// An unfinished write at the end; opening the log cuts it, nothing that was acknowledged is lost.
    TornTail,
    /// Acknowledged bytes are damaged or gone; opening or reading fails, a repair keeps the rest.
    Corrupt,
}

/// Something in a log's folder that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub damage: Damage,
    /// The file it is about.
    pub file: PathBuf,
    /// Byte position in the file.
    pub position: u64,
    /// What is wrong.
    pub what: String,
}

/// Offsets that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The topic, or `(positions)` for the log's own partition of reader positions.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First offset lost.
    pub from: u64,
    /// Offset after the last one lost; `None` where nobody knows how many there were.
    pub to: Option<u64>,
}

/// What is known of a partition that is surveyed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) identity: Identity,
    pub(crate) dir: &'a Path,
    /// Where it ended when the log was closed in good order.
    pub(crate) clean_end: Option<End>,
}

/// What a survey found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) segments: u64,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// The first offset that the partition should hold.
    pub(crate) start: u64,
    /// The offset at which it goes on.
    pub(crate) next: u64,
    pub(crate) problems: Vec<Problem>,
    pub(crate) lost: Vec<Lost>,
    subject: (String, u32),
    /// The log was closed in good order: nothing can be torn.
    clean: bool,
    /// The segment before ended with a seal.
    sealed: bool,
}

/// Takes each whole batch: its header and its body.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&BatchHeader, &[u8]) -> Result<()>;

/// Surveys a partition; an error only where `visit` fails.
pub(crate) fn survey(disk: &dyn Disk, subject: Subject<'_>, visit: Visit<'_>) -> Result<Survey> {
    let mut survey = Survey {
        subject: (subject.topic.to_owned(), subject.partition),
        clean: subject.clean_end.is_some(),
        ..Survey::default()
    };
    let start = Start::open(disk, subject.dir).map(|start| start.offset);
    let mut bases: Vec<u64> = match disk.list(subject.dir) {
        Ok(entries) => entries.iter().filter_map(|entry| base_of(&entry.name)).collect(),
        Err(error) => {
            survey.corrupt(subject.dir, 0, format!("it cannot be listed: {error}"));
            Vec::new()
        }
    };
    survey.start = match start {
        Ok(start) => start,
        Err(error) => {
            survey.error(error);
            bases.first().copied().unwrap_or_default()
        }
    };
    // Segments that retention had let go and not yet removed.
    bases.drain(..bases.partition_point(|base| *base <= survey.start).saturating_sub(1));
    survey.next = survey.start;
    if bases.is_empty() {
        survey.corrupt(&subject.dir.join(segment_name(survey.start)), 0, "the partition has no segment");
        survey.lose(survey.start, None);
    }
    for (number, &base) in bases.iter().enumerate() {
        let is_last = number + 1 == bases.len();
        survey.segment(disk, &subject, base, number == 0, is_last, visit)?;
    }
    if let Some(end) = subject.clean_end.filter(|end| end.next > survey.next) {
        let file = subject.dir.join(segment_name(bases.last().copied().unwrap_or_default()));
        let what = format!("the log was closed with offset {}, now it ends with {}", end.next, survey.next);
        survey.corrupt(&file, 0, what);
        survey.lose(survey.next, Some(end.next));
        survey.next = end.next;
    }
    Ok(survey)
}

impl Survey {
    fn corrupt(&mut self, file: &Path, position: u64, what: impl Into<String>) {
        let (file, what) = (file.to_path_buf(), what.into());
        self.problems.push(Problem { damage: Damage::Corrupt, file, position, what });
    }

    fn error(&mut self, error: Error) {
        self.problems.push(problem_of(error));
    }

    fn lose(&mut self, from: u64, to: Option<u64>) {
        let (topic, partition) = self.subject.clone();
        self.lost.push(Lost { topic, partition, from, to });
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        subject: &Subject<'_>,
        base: u64,
        is_first: bool,
        is_last: bool,
        visit: Visit<'_>,
    ) -> Result<()> {
        let path = subject.dir.join(segment_name(base));
        let opened = disk.open(&path, Open::Read).and_then(|file| Ok((read_header(&*file)?, file)));
        let ((parsed, len), file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.corrupt(&path, 0, format!("it cannot be read: {error}"));
                return Ok(());
            }
        };
        self.segments += 1;
        self.bytes += len;
        let before = self.next;
        let header = check_header(&path, parsed, &subject.identity, base);
        let is_unfinished_roll = is_last && !is_first && !self.sealed && len <= HEADER_LEN as u64;
        match header {
            _ if is_unfinished_roll => return Ok(()),
            Err(error) => self.error(error),
            Ok(header) if is_first && base <= self.start => self.next = header.base,
            // The offsets between were lost earlier and left out on purpose.
            Ok(header) if header.prev_end == before => self.next = base,
            Ok(_) => self.corrupt(
                &path,
                0,
                format!("segments with offsets from {before} on are missing before it"),
            ),
        }
        if !is_first && !self.sealed {
            self.corrupt(&path, 0, format!("the segment before it has no seal at its end (offset {before})"));
        }
        self.sealed = false;
        let scanned = Scanner::new(&*file, subject.identity.salt(), base.max(self.next))
            .map_err(Stop::Read)
            .and_then(|mut scanner| self.batches(&mut scanner, &path, is_last, visit));
        match scanned {
            Ok(()) => {}
            Err(Stop::Visit(error)) => return Err(error),
            Err(Stop::Read(error)) => self.corrupt(&path, 0, format!("it cannot be read: {error}")),
        }
        if is_last && self.sealed {
            let missing = subject.dir.join(segment_name(self.next));
            self.corrupt(&missing, 0, "the segment is missing: the one before it is complete");
            self.lose(self.next, None);
        }
        Ok(())
    }

    fn batches(
        &mut self,
        scanner: &mut Scanner<'_>,
        path: &Path,
        is_last: bool,
        visit: Visit<'_>,
    ) -> Result<(), Stop> {
        loop {
            match scanner.step()? {
                Step::End => return Ok(()),
                Step::Batch(header) if header.is_seal() => self.sealed = true,
                Step::Batch(header) => {
                    if header.base > self.next {
                        self.lose(self.next, Some(header.base));
                    }
                    visit(&header, scanner.body()?).map_err(Stop::Visit)?;
                    self.batches += 1;
                    self.records += u64::from(header.count);
                    self.next = header.end();
                }
                Step::Bad(what) => {
                    let (position, bad) = (scanner.position, scanner.expected);
                    let later = scanner.next_header()?;
                    let torn = is_last && !self.clean && !self.acknowledged_later(scanner, bad, later)?;
                    let damage = if torn { Damage::TornTail } else { Damage::Corrupt };
                    let what = format!("{what} (offset {bad})");
                    self.problems.push(Problem { damage, file: path.to_path_buf(), position, what });
                    match later {
                        Some((position, header)) if !torn => scanner.resume(position, &header),
                        _ => return Ok(()),
                    }
                }
            }
        }
    }

    /// True where some batch after the bad one says that the bad one had been acknowledged.
    fn acknowledged_later(
        &self,
        scanner: &mut Scanner<'_>,
        bad: u64,
        later: Option<(u64, BatchHeader)>,
    ) -> io::Result<bool> {
        let mut candidate = later;
        let (position, expected) = (scanner.position, scanner.expected);
        let mut proven = false;
        while let Some((at, header)) = candidate.filter(|_| !proven) {
            proven = header.durable_end > bad;
            scanner.resume(at, &header);
            candidate = scanner.next_header()?;
        }
        (scanner.position, scanner.expected) = (position, expected);
        Ok(proven)
    }
}

/// An error as a problem.
pub(crate) fn problem_of(error: Error) -> Problem {
    match error {
        Error::Corrupt { file, position, what } => Problem { damage: Damage::Corrupt, file, position, what },
        Error::Io { path, source, .. } => {
            Problem { damage: Damage::Corrupt, file: path, position: 0, what: source.to_string() }
        }
        other => {
            Problem { damage: Damage::Corrupt, file: PathBuf::new(), position: 0, what: other.to_string() }
        }
    }
}

enum Stop {
    Read(io::Error),
    Visit(Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
