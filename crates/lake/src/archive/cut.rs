//! Cutting a stream of bytes into blocks of whole lines, in flat memory.

use std::io::{self, Read};

use bytes::Bytes;

/// No line may be longer: it bounds what a file without line breaks, or a compressed bomb, can make us hold.
pub(super) const MAX_LINE: usize = 64 << 20;

/// Reads to the end and hands out blocks of about `block` bytes, each ending after a line break; the last one may
/// lack it. Lines are not copied, except the part of a line that lies across two blocks. `emit` returns false to stop.
///
/// # Errors
/// Those of `reader`, and `InvalidData` for a line that is too long.
pub(super) fn whole_lines<R: Read>(
    reader: &mut R,
    block: usize,
    mut emit: impl FnMut(Bytes) -> bool,
) -> io::Result<()> {
    let mut carry: Vec<u8> = Vec::new();
    let mut room = block;
    loop {
        let mut buffer = Vec::with_capacity(carry.len() + room);
        buffer.extend_from_slice(&carry);
        let read = reader.by_ref().take(room as u64).read_to_end(&mut buffer)?;
        if read < room {
            if !buffer.is_empty() {
                emit(buffer.into());
            }
            return Ok(());
        }
        let searched = carry.len();
        match memchr::memrchr(b'\n', &buffer[searched..]) {
            Some(at) => {
                let end = searched + at + 1;
                carry = buffer[end..].to_vec();
                room = block;
                if !emit(Bytes::from(buffer).slice(..end)) {
                    return Ok(());
                }
            }
            None if buffer.len() >= MAX_LINE => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line of more than {MAX_LINE} bytes"),
                ));
            }
            None => {
                room = buffer.len().min(MAX_LINE - buffer.len());
                carry = buffer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(bytes: &[u8], block: usize) -> Vec<Bytes> {
        let mut blocks = Vec::new();
        whole_lines(&mut &bytes[..], block, |bytes| {
            blocks.push(bytes);
            true
        })
        .unwrap();
        blocks
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(256))]

        #[test]
        fn blocks_add_up_to_the_input_and_end_with_lines(
            lines in proptest::collection::vec("[a-z]{0,30}", 0..30),
            ended in any::<bool>(),
            block in 1_usize..60,
        ) {
            let mut text = lines.join("\n");
            if ended && !text.is_empty() {
                text.push('\n');
            }
            let blocks = blocks(text.as_bytes(), block);
            prop_assert_eq!(blocks.concat(), text.as_bytes());
            for block in blocks.iter().rev().skip(1) {
                prop_assert!(block.ends_with(b"\n"));
            }
        }
    }

    #[test]
    fn blocks_are_about_as_large_as_asked() {
        let text = "0123456789\n".repeat(1000);
        let blocks = blocks(text.as_bytes(), 100);
        assert!(blocks.iter().all(|block| block.len() <= 110), "{blocks:?}");
        assert!(blocks.len() < 130);
    }

    #[test]
    fn a_line_without_end_is_an_error_before_it_fills_memory() {
        let error = whole_lines(&mut io::repeat(b'x'), 1 << 20, |_| true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn reading_stops_when_nobody_listens() {
        let mut seen = 0;
        whole_lines(&mut io::repeat(b'\n'), 10, |_| {
            seen += 1;
            seen < 3
        })
        .unwrap();
        assert_eq!(seen, 3);
    }
}
