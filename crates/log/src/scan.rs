//! Walks the batches of a segment one after the other and checks everything about them; the one reader that
//! recovery, index building, verify and repair share.

use std::io;

use crate::disk::{DiskFile, read_full_at};
use crate::format::{BATCH_MAGIC, BatchHeader, HEADER_LEN};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// What stands at the scanner's position.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole batch, right in every respect; its body is [`Scanner::body`].
    Batch(BatchHeader),
    /// Bytes that are not the batch that should be here.
    Bad(String),
    /// The end: no more bytes, or nothing but zeros, the room for batches to come.
    End,
}

/// Reads a segment from front to back.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    salt: u32,
    /// Length of the file.
    pub(crate) len: u64,
    /// Where the next batch should begin.
    pub(crate) position: u64,
    /// The offset that it should say.
    pub(crate) expected: u64,
    buffer: Vec<u8>,
    buffer_position: u64,
    body: (u64, usize),
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, salt: u32, base: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            salt,
            len: file.len()?,
            position: HEADER_LEN as u64,
            expected: base,
            buffer: Vec::new(),
            buffer_position: 0,
            body: (0, 0),
        })
    }

    /// Bytes `position..position + len` as far as the file goes.
    fn window(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let end = position + len as u64;
        if position < self.buffer_position || end > self.buffer_position + self.buffer.len() as u64 {
            let wanted = (self.len.saturating_sub(position)).min(len.max(CHUNK) as u64);
            self.buffer.resize(usize::try_from(wanted).unwrap_or(usize::MAX), 0);
            let filled = read_full_at(self.file, position, &mut self.buffer)?;
            self.buffer.truncate(filled);
            self.buffer_position = position;
        }
        let from = (position - self.buffer_position) as usize;
        let to = (from + len).min(self.buffer.len());
        Ok(self.buffer.get(from..to).unwrap_or_default())
    }

    /// The body of the batch that the last [`Step::Batch`] was about.
    pub(crate) fn body(&mut self) -> io::Result<&[u8]> {
        let (position, len) = self.body;
        self.window(position, len)
    }

    fn header_at(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let salt = self.salt;
        let bytes = self.window(position, HEADER_LEN)?;
        Ok(bytes.try_into().ok().and_then(|bytes| BatchHeader::parse(bytes, salt)))
    }

    /// Whether a piece of room begins at the position, or the file ends there: no more batches for now, whatever follows.
    pub(crate) fn is_at_room(&mut self) -> io::Result<bool> {
        let window = self.window(self.position, HEADER_LEN)?;
        Ok(window.iter().all(|byte| *byte == 0))
    }

    /// Whether nothing but zeros follows: the room for batches to come.
    fn is_zero_to_the_end(&mut self) -> io::Result<bool> {
        let mut position = self.position;
        // A batch begins with its magic: the first look, at little, is nearly always the last.
        let mut wanted = HEADER_LEN;
        while position < self.len {
            let rest = usize::try_from(self.len - position).unwrap_or(usize::MAX);
            let window = self.window(position, wanted.min(rest))?;
            if window.is_empty() || window.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            position += window.len() as u64;
            wanted = CHUNK;
        }
        Ok(true)
    }

    /// Checks what stands at the position and moves behind it; stays where it is bad.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let rest = self.len.saturating_sub(self.position);
        if rest == 0 {
            return Ok(Step::End);
        }
        if self.is_zero_to_the_end()? {
            return Ok(Step::End);
        }
        if rest < HEADER_LEN as u64 {
            return Ok(Step::Bad(format!("{rest} bytes are no whole batch header")));
        }
        let Some(header) = self.header_at(self.position)? else {
            return Ok(Step::Bad("the batch header does not fit its checksum".into()));
        };
        if header.base != self.expected {
            return Ok(Step::Bad(format!("offset {} should stand here, not {}", self.expected, header.base)));
        }
        if header.total_len() > rest {
            let len = header.total_len();
            return Ok(Step::Bad(format!("the batch has {len} bytes, the file only {rest} more")));
        }
        let (at, len) = (self.position + HEADER_LEN as u64, header.body_len as usize);
        if crc32c::crc32c(self.window(at, len)?) != header.body_crc {
            return Ok(Step::Bad("the batch does not fit its checksum".into()));
        }
        self.body = (at, len);
        self.position += header.total_len();
        self.expected = header.end();
        Ok(Step::Batch(header))
    }

    /// After bad bytes: the next batch header that is right and does not lie before the expected offset; the caller
    /// moves there ([`Scanner::resume`]) to look at the batch itself. A header that is right is trusted to say how long
    /// its batch is, so that nothing inside a payload is taken for a batch.
    pub(crate) fn next_header(&mut self) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut position = match self.header_at(self.position)? {
            Some(header) if header.base > self.expected => return Ok(Some((self.position, header))),
            Some(header) => self.position + header.total_len(),
            None => self.position + 1,
        };
        while position + HEADER_LEN as u64 <= self.len {
            if let Some(header) = self.header_at(position)? {
                if header.base >= self.expected {
                    return Ok(Some((position, header)));
                }
                position += header.total_len();
                continue;
            }
            let window = self.window(position, CHUNK)?;
            let tail = window.get(1..).unwrap_or_default();
            let found = tail.windows(BATCH_MAGIC.len()).position(|four| four == BATCH_MAGIC);
            // Without a find the last three bytes may still begin one.
            position += 1 + found.unwrap_or(tail.len().saturating_sub(BATCH_MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }

    /// Goes on at a header that [`Scanner::next_header`] found.
    pub(crate) fn resume(&mut self, position: u64, header: &BatchHeader) {
        self.position = position;
        self.expected = header.base;
    }
}
