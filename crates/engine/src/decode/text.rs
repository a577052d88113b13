//! Where the text of string columns lives: the chunks the records came in, and a scratch buffer for the rest.

use std::sync::Arc;

use arrow::array::builder::make_view;
use arrow::buffer::Buffer;
use bytes::Bytes;

/// Buffers are addressed with 32 bits.
const MAX_BUFFER: usize = u32::MAX as usize;

/// The buffers of a batch under construction. Buffer 0 is the scratch buffer, buffer n the n-th chunk.
#[derive(Debug, Default)]
pub(super) struct Text {
    scratch: Vec<u8>,
    chunks: Vec<Bytes>,
}

/// A place in the scratch buffer to go back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize);

impl Text {
    pub(super) fn set_chunk(&mut self, chunk: &Bytes) {
        self.chunks.push(chunk.clone());
    }

    pub(super) fn bytes(&self) -> usize {
        self.scratch.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.scratch.len())
    }

    /// Forgets what was put into the scratch buffer since `mark`.
    pub(super) fn reset(&mut self, mark: Mark) {
        self.scratch.truncate(mark.0);
    }

    /// A view of text at a place in the current chunk.
    pub(super) fn view_in_chunk(&mut self, text: &[u8], offset: usize) -> Result<u128, String> {
        match (u32::try_from(offset), u32::try_from(self.chunks.len())) {
            (Ok(offset), Ok(buffer)) if offset as usize + text.len() <= MAX_BUFFER => {
                Ok(make_view(text, buffer, offset))
            }
            _ => self.view_of_copy(text),
        }
    }

    /// A view of a copy of text.
    pub(super) fn view_of_copy(&mut self, text: &[u8]) -> Result<u128, String> {
        if text.len() <= 12 {
            return Ok(make_view(text, 0, 0));
        }
        let offset = u32::try_from(self.scratch.len()).unwrap_or(u32::MAX);
        if offset as usize + text.len() > MAX_BUFFER {
            return Err(format!("more than {MAX_BUFFER} bytes of text in one batch"));
        }
        self.scratch.extend_from_slice(text);
        Ok(make_view(text, 0, offset))
    }

    /// The buffers, in the order that the views count them; `current` stays the chunk of the next batch.
    pub(super) fn finish(&mut self, current: &Bytes) -> Arc<[Buffer]> {
        let scratch = Buffer::from(std::mem::take(&mut self.scratch));
        let chunks = std::mem::replace(&mut self.chunks, vec![current.clone()]);
        std::iter::once(scratch).chain(chunks.into_iter().map(Buffer::from)).collect()
    }
}
