//! An object's lines in memory, in pieces.
//!
//! One growing buffer would be copied whenever it doubles, and be half empty afterwards: with many partitions
//! that is as much memory as the lines themselves. A piece is filled once, never moved, and handed to the
//! store as it is. Where objects are compressed, a piece is as soon as it is full.

use crate::{
    compression::{Compression, Packer},
    ledger::bucket::Body,
};

/// The size of a piece, apart from the first (which grows to it) and those for longer lines.
const PIECE: usize = 256 << 10;
/// What a line is longer than its record's value, at a guess: the members that are appended.
const APPENDED: usize = 512;

/// Lines, in order.
#[derive(Debug)]
pub struct Lines {
    /// Full, and packed.
    packed: Vec<Vec<u8>>,
    /// The one that lines are appended to.
    piece: Vec<u8>,
    packer: Packer,
    bytes: usize,
}

impl Lines {
    /// No lines.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self { packed: Vec::new(), piece: Vec::new(), packer: Packer::new(compression), bytes: 0 }
    }

    /// How many bytes the lines have, uncompressed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes that they occupy.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.packed.iter().map(Vec::capacity).sum::<usize>() + self.piece.capacity()
    }

    /// Lets `write` append the line of a value of `value_bytes` bytes, unless it would make the lines longer
    /// than `most`; returns whether it was kept. On an error everything is as before.
    ///
    /// # Errors
    /// What `write` gives.
    pub fn append<E>(
        &mut self,
        value_bytes: usize,
        most: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let kept = self.bytes;
        let piece = self.piece_with_room(value_bytes.saturating_add(APPENDED));
        let before = piece.len();
        let written = write(piece);
        let line = piece.len() - before;
        if written.is_err() || kept + line > most {
            piece.truncate(before);
            if kept == 0 {
                // Without lines no object is ever closed, and nothing would free the piece.
                self.piece = Vec::new();
            }
            return written.map(|()| false);
        }
        self.bytes = kept + line;
        Ok(true)
    }

    /// The lines as an object's content, and the bytes that it occupies.
    #[must_use]
    pub fn finish(mut self) -> (Body, usize) {
        self.pack();
        self.packed.push(self.packer.finish());
        let held_bytes = self.packed.iter().map(Vec::capacity).sum();
        (self.packed.into_iter().filter(|piece| !piece.is_empty()).collect(), held_bytes)
    }

    /// Packs the piece that lines were appended to.
    fn pack(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        if !piece.is_empty() {
            self.packed.push(self.packer.pack(piece));
        }
    }

    fn piece_with_room(&mut self, room: usize) -> &mut Vec<u8> {
        if self.piece.len() + room > self.piece.capacity().max(PIECE) {
            self.pack();
        }
        if self.piece.capacity() == 0 {
            // The first piece of an object that stays small takes no more than it needs.
            let capacity = if self.packed.is_empty() { room } else { room.max(PIECE) };
            self.piece = Vec::with_capacity(capacity);
        }
        &mut self.piece
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn write(bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) -> Result<(), Infallible> {
        |out| {
            out.extend_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn what_fails_halfway_leaves_no_trace() {
        let mut lines = Lines::new(Compression::None);
        assert_eq!(lines.append(2, 100, write(b"a\n")), Ok(true));
        let failed = lines.append(2, 100, |out| {
            out.push(b'x');
            Err("no")
        });
        assert_eq!((failed, lines.len()), (Err("no"), 2));
        assert_eq!(lines.finish().0.to_vec(), b"a\n");
        let mut none = Lines::new(Compression::None);
        assert_eq!(none.append(2, 100, |_| Err("no")), Err("no"));
        assert_eq!(none.held_bytes(), 0, "what holds no line can't be closed to free memory");
    }

    #[test]
    fn a_small_object_takes_little_memory() {
        let mut lines = Lines::new(Compression::None);
        lines.append(100, 1 << 20, write(&[b'x'; 100])).unwrap();
        assert!(lines.held_bytes() < 1_000, "{}", lines.held_bytes());
    }

    #[test]
    fn a_large_object_that_is_compressed_takes_little_memory() {
        let line = [&b"{\"code\":\"BTC\",\"rate\":"[..], b"1.5}\n"].concat();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut lines = Lines::new(compression);
            while lines.len() < 4 << 20 {
                lines.append(line.len(), usize::MAX, write(&line)).unwrap();
            }
            assert!(lines.held_bytes() < 2 * PIECE, "{compression:?}: {}", lines.held_bytes());
            let (bytes, body) = (lines.len(), lines.finish().0);
            let plain = compression.unpack(body.to_vec().into(), bytes).unwrap();
            assert_eq!(plain.len(), bytes);
            assert!(plain.chunks(line.len()).all(|chunk| chunk == line));
        }
    }

    proptest! {
        #[test]
        fn lines_are_what_was_written_and_no_more_than_allowed(written in prop::collection::vec(0usize..100_000, 0..40), most in 1usize..2_000_000) {
            let mut lines = Lines::new(Compression::None);
            let mut expected = Vec::new();
            for (number, length) in written.into_iter().enumerate() {
                let line = vec![u8::try_from(number).unwrap(); length];
                // The guess at a line's length may be wrong, either way.
                let kept = lines.append(length / 2, most, write(&line)).unwrap();
                prop_assert_eq!(kept, expected.len() + length <= most);
                if kept {
                    expected.extend_from_slice(&line);
                }
            }
            prop_assert_eq!(lines.len(), expected.len());
            prop_assert!(lines.held_bytes() <= 2 * expected.len() + 2 * PIECE);
            let body = lines.finish().0;
            prop_assert_eq!(body.len(), expected.len());
            prop_assert_eq!(body.to_vec(), expected);
        }
    }
}
