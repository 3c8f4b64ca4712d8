//! How objects are compressed, piece by piece, so that a large object takes little memory while it grows.
//!
//! ```text
//! piece of lines (256 KiB) --pack--> header + blocks    one encoder for each piece, gone when the piece is packed
//! piece of lines           --pack-->          blocks
//! the last                 --finish-->        end
//! ```
//!
//! An encoder that lived as long as its object would hold 300 KiB and more for each partition, busy or not. Compressing
//! when the object is closed would hold all its lines until then, and stop a thread for a tenth of a second. So each
//! piece is compressed by itself, and the parts are joined into **one** gzip member or **one** Zstandard frame: several
//! in a row would be valid too, but many readers silently stop behind the first.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::{Compress, Crc, FlushCompress, Status, bufread::MultiGzDecoder};
use ruzstd::{
    decoding::StreamingDecoder,
    encoding::{CompressionLevel, compress_to_vec},
};

/// Of 1 to 9: what is behind 3 makes an object of coins 3 % smaller and takes twice as long.
const GZIP_LEVEL: u32 = 3;
/// RFC 1952, section 2.3: deflate, no flags, no time, no extra flags, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// RFC 1951, section 3.2.6: a last block of the fixed codes that holds nothing.
const DEFLATE_END: [u8; 2] = [0x03, 0x00];
/// RFC 8878, section 3.1.1: the magic number, and a descriptor without any optional field.
const ZSTD_HEADER: [u8; 5] = [0x28, 0xb5, 0x2f, 0xfd, 0x00];
/// A window of 128 KiB: no block refers to anything before its own start.
const ZSTD_WINDOW: u8 = 0x38;
/// RFC 8878, section 3.1.1.2: a last block, raw, of no bytes.
const ZSTD_END: [u8; 3] = [0x01, 0x00, 0x00];

/// `COMPRESSION`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// One gzip member.
    Gzip,
    /// One Zstandard frame.
    Zstd,
}

impl Compression {
    const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// The word in settings and in `_coinduit.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Reads that word.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == word)
    }

    /// What an object's name ends in, behind its first dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None => "jsonl",
            Self::Gzip => "jsonl.gz",
            Self::Zstd => "jsonl.zst",
        }
    }

    /// How the data object `key` is compressed, by its name.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|one| key.strip_suffix(one.extension()).is_some_and(|name| name.ends_with('.')))
    }

    /// The lines of an object.
    ///
    /// # Errors
    /// The content is damaged, cut off, or has more than `most` bytes.
    pub fn unpack(self, content: Bytes, most: usize) -> io::Result<Bytes> {
        let mut lines = Vec::new();
        match self {
            Self::None => return Ok(content),
            Self::Gzip => append(&mut lines, MultiGzDecoder::new(&content[..]), most)?,
            Self::Zstd => {
                let mut rest = &content[..];
                while !rest.is_empty() {
                    let frame = StreamingDecoder::new(&mut rest).map_err(io::Error::other)?;
                    append(&mut lines, frame, most)?;
                }
            }
        }
        Ok(lines.into())
    }
}

fn append(lines: &mut Vec<u8>, from: impl Read, most: usize) -> io::Result<()> {
    let left = u64::try_from(most - lines.len()).unwrap_or(u64::MAX);
    from.take(left.saturating_add(1)).read_to_end(lines)?;
    if lines.len() > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(())
}

/// Compresses one object's pieces, in order.
#[derive(Debug)]
pub(crate) struct Packer {
    compression: Compression,
    /// gzip's, over all lines so far.
    crc: Crc,
    begun: bool,
}

impl Packer {
    /// Of an object that holds nothing yet.
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, crc: Crc::new(), begun: false }
    }

    /// What the object holds behind the last piece, now that `piece` has come.
    pub(crate) fn pack(&mut self, piece: Vec<u8>) -> Vec<u8> {
        match self.compression {
            Compression::None => return piece,
            Compression::Gzip => self.crc.update(&piece),
            Compression::Zstd => {}
        }
        let mut out = self.header();
        match self.compression {
            Compression::None => {}
            Compression::Gzip => deflate(&piece, &mut out),
            Compression::Zstd => {
                append_blocks(&compress_to_vec(&piece[..], CompressionLevel::Fastest), &mut out)
            }
        }
        out.shrink_to_fit();
        out
    }

    /// What the object ends with.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut out = self.header();
        match self.compression {
            Compression::None => {}
            Compression::Gzip => {
                out.extend_from_slice(&DEFLATE_END);
                out.extend_from_slice(&self.crc.sum().to_le_bytes());
                out.extend_from_slice(&self.crc.amount().to_le_bytes());
            }
            Compression::Zstd => out.extend_from_slice(&ZSTD_END),
        }
        out
    }

    fn header(&mut self) -> Vec<u8> {
        match self.compression {
            _ if std::mem::replace(&mut self.begun, true) => Vec::new(),
            Compression::None => Vec::new(),
            Compression::Gzip => GZIP_HEADER.to_vec(),
            Compression::Zstd => [&ZSTD_HEADER[..], &[ZSTD_WINDOW]].concat(),
        }
    }
}

/// Appends whole deflate blocks, none of them the last, that end on a byte.
fn deflate(piece: &[u8], out: &mut Vec<u8>) {
    let mut encoder = Compress::new(flate2::Compression::new(GZIP_LEVEL), false);
    let mut rest = piece;
    loop {
        out.reserve(rest.len() / 4 + 1024);
        let before = encoder.total_in();
        let status = encoder.compress_vec(rest, out, FlushCompress::Sync);
        debug_assert!(
            matches!(status, Ok(Status::Ok | Status::BufError)),
            "deflate takes any bytes: {status:?}"
        );
        let taken = usize::try_from(encoder.total_in() - before).unwrap_or(rest.len());
        rest = &rest[taken..];
        // Room that is left over means that nothing is held back any more.
        if rest.is_empty() && out.len() < out.capacity() {
            return;
        }
    }
}

/// Appends the blocks of `frame`, none of them marked as the last.
///
/// They fit behind any other: an encoder that has just begun refers to no table and no offset of an earlier block
/// (RFC 8878, sections 3.1.1.3.1 and 3.1.1.5), and ours never uses repeated offsets.
fn append_blocks(frame: &[u8], out: &mut Vec<u8>) {
    const HEADER: usize = 3;
    let mut at = ZSTD_HEADER.len() + 1;
    debug_assert!(
        frame.len() >= at && frame[5] == ZSTD_WINDOW,
        "the frame has the one header that it was always given"
    );
    while let Some(header) = frame.get(at..at + HEADER) {
        let word = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let size = usize::try_from(word >> 3).unwrap_or(usize::MAX);
        // A run is one byte, whatever its length.
        let content = if word >> 1 & 3 == 1 { 1 } else { size };
        let end = at + HEADER + content;
        out.push(header[0] & !1);
        out.extend_from_slice(&frame[at + 1..end]);
        if word & 1 == 1 {
            return;
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(compression: Compression, pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut packer = Packer::new(compression);
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| packer.pack(piece.clone())).collect();
        out.extend_from_slice(&packer.finish());
        out
    }

    #[test]
    fn names_and_extensions_belong_together() {
        for one in Compression::ALL {
            assert_eq!(Compression::read(one.name()), Some(one));
            assert_eq!(
                Compression::of_key(&format!("t/partition=0/00000000000000000001.{}", one.extension())),
                Some(one)
            );
        }
        for other in ["a.json", "jsonl", "xjsonl.gz", "a.jsonl.bz2", "a.gz"] {
            assert_eq!(Compression::of_key(other), None, "{other}");
        }
        assert_eq!(Compression::read("GZIP"), None);
    }

    #[test]
    fn an_object_is_one_member_or_one_frame_that_simple_readers_read_whole() {
        let pieces: Vec<Vec<u8>> =
            (0..5u8).map(|n| format!("{{\"n\":{n}}}\n").repeat(30_000).into_bytes()).collect();
        let mut plain = Vec::new();
        // Neither of these two reads on behind the first member or frame.
        let gzip = packed(Compression::Gzip, &pieces);
        flate2::bufread::GzDecoder::new(&gzip[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, pieces.concat());
        plain.clear();
        let zstd = packed(Compression::Zstd, &pieces);
        let mut rest = &zstd[..];
        StreamingDecoder::new(&mut rest).unwrap().read_to_end(&mut plain).unwrap();
        assert_eq!((plain == pieces.concat(), rest.len()), (true, 0));
    }

    #[test]
    fn what_is_damaged_cut_off_or_too_long_is_refused() {
        for one in [Compression::Gzip, Compression::Zstd] {
            let content = packed(one, &[b"{\"a\":1}\n".repeat(100)]);
            let unpack = |content: &[u8], most| one.unpack(Bytes::copy_from_slice(content), most);
            assert_eq!(unpack(&content, 800).unwrap().len(), 800);
            assert!(unpack(&content, 799).unwrap_err().to_string().contains("more than 799"), "{one:?}");
            assert!(unpack(&content[..content.len() - 4], 800).is_err(), "{one:?}");
            assert!(unpack(b"{\"a\":1}\n", 800).is_err(), "{one:?}");
            assert!(unpack(&[&content[..], b"more"].concat(), 800).is_err(), "{one:?}");
        }
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            (any::<u8>(), 1usize..400_000).prop_map(|(byte, length)| vec![byte; length]),
            ("[ -~]{1,90}", 1usize..6_000).prop_map(|(line, times)| line.repeat(times).into_bytes()),
            (any::<u64>(), 100_000usize..300_000).prop_map(|(seed, length)| {
                // Nothing that could be compressed: raw blocks.
                (0..length)
                    .scan(seed | 1, |state, _| {
                        *state ^= *state << 13;
                        *state ^= *state >> 7;
                        *state ^= *state << 17;
                        Some(state.to_le_bytes()[3])
                    })
                    .collect()
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_is_packed_comes_out_again(pieces in prop::collection::vec(piece(), 0..6)) {
            let plain = pieces.concat();
            for one in Compression::ALL {
                let content = packed(one, &pieces);
                prop_assert_eq!(&one.unpack(content.into(), plain.len()).unwrap()[..], &plain[..]);
            }
        }

        #[test]
        fn arbitrary_bytes_are_unpacked_or_refused(content in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
            for one in [Compression::Gzip, Compression::Zstd] {
                let start: &[u8] = match (magic, one) { (false, _) => &[], (_, Compression::Gzip) => &GZIP_HEADER, _ => &ZSTD_HEADER };
                if let Ok(lines) = one.unpack([start, &content].concat().into(), 10_000) {
                    prop_assert!(lines.len() <= 10_000);
                }
            }
        }
    }
}
