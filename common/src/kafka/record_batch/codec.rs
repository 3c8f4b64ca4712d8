//! The ways in which a batch's records are compressed, all in Rust.
//!
//! The batch's checksum covers the compressed bytes, so the checksums that some formats bring along are not
//! computed again. Memory is taken as data comes out, never as it is claimed, and no more than allowed.
//!
//! Source: Apache Kafka, `org.apache.kafka.common.compress`; KIP-110 (zstd).

use std::{fmt, io::Read};

mod lz4;
mod snappy;
mod zstd;

/// What a batch's records are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Nothing.
    None,
    /// gzip.
    Gzip,
    /// Snappy, raw or in the frames of snappy-java.
    Snappy,
    /// LZ4, in its frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// The codec of that number in a batch's attributes.
    pub(super) const fn of(number: i16) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// Its number in a batch's attributes.
    pub(super) const fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "nothing",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// Why there is nothing decompressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It has more bytes than allowed.
    TooLarge,
    /// It is not what the codec writes.
    Malformed(String),
}

impl Failure {
    fn malformed(problem: impl fmt::Display) -> Self {
        Self::Malformed(problem.to_string())
    }
}

/// Decompresses `bytes`, to `most` bytes at most.
pub(super) fn decompress(codec: Codec, bytes: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut plain = match codec {
        Codec::None => bytes.to_vec(),
        Codec::Gzip => gzip(bytes, most)?,
        Codec::Snappy => snappy::decompress(bytes, most)?,
        Codec::Lz4 => lz4::decompress(bytes, most)?,
        Codec::Zstd => zstd::decompress(bytes, most)?,
    };
    // Records keep the buffer for as long as one of them is held.
    plain.shrink_to_fit();
    Ok(plain)
}

fn gzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut plain = Vec::with_capacity(bytes.len().saturating_mul(4).min(most));
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    flate2::bufread::MultiGzDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(Failure::malformed)?;
    if plain.len() > most { Err(Failure::TooLarge) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::*, *};

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251 * (at / 1000 % 7) % 256).unwrap()).collect()
    }

    #[test]
    fn what_is_compressed_comes_back_to_the_byte_within_its_limit() {
        for codec in CODECS {
            for length in [0, 1, 100, 65_536, 65_537, 400_000] {
                let plain = sample(length);
                let bytes = compressed(codec, &plain);
                assert!(decompress(codec, &bytes, length) == Ok(plain), "{codec}, {length}");
                if codec != Codec::None && length > 0 {
                    assert_eq!(
                        decompress(codec, &bytes, length - 1),
                        Err(Failure::TooLarge),
                        "{codec}, {length}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bytes = compressed(codec, &sample(3_000));
            for length in 1..bytes.len() {
                let cut = decompress(codec, &bytes[..length], 1 << 20);
                // Between two blocks, Snappy can't tell.
                let between = codec == Codec::Snappy && length == 16;
                assert!(between || matches!(cut, Err(Failure::Malformed(_))), "{codec}, {length}: {cut:?}");
            }
        }
    }

    #[test]
    fn frames_follow_each_other() {
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            let bytes = [compressed(codec, b"one "), compressed(codec, b"two")].concat();
            assert_eq!(decompress(codec, &bytes, 7).as_deref(), Ok(&b"one two"[..]), "{codec}");
            assert_eq!(decompress(codec, &bytes, 6), Err(Failure::TooLarge), "{codec}");
        }
        // A frame of zstd that is to be skipped.
        let bytes =
            [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], &compressed(Codec::Zstd, b"one")[..]].concat();
        assert_eq!(decompress(Codec::Zstd, &bytes, 3).as_deref(), Ok(&b"one"[..]));
    }

    #[test]
    fn snappy_can_be_raw() {
        let bytes = snap::raw::Encoder::new().compress_vec(&sample(9_000)).unwrap();
        assert_eq!(decompress(Codec::Snappy, &bytes, 9_000), Ok(sample(9_000)));
        assert_eq!(decompress(Codec::Snappy, &bytes, 8_999), Err(Failure::TooLarge));
        // Four billion bytes out of six.
        let lies = decompress(Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], usize::MAX);
        assert_eq!(lies, Err(Failure::Malformed("it claims more than it can hold".to_owned())));
    }

    #[test]
    fn every_form_of_lz4_frame_is_read() {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        use std::io::Write;
        // Repeats after 50,000 bytes, so that linked blocks refer to those before them.
        let plain: Vec<u8> = [sample(50_000), sample(50_000).into_iter().rev().collect()].concat().repeat(4);
        for (mode, checksums, size) in [
            (BlockMode::Independent, false, BlockSize::Max64KB),
            (BlockMode::Independent, true, BlockSize::Max4MB),
            (BlockMode::Linked, false, BlockSize::Max64KB),
            (BlockMode::Linked, true, BlockSize::Max256KB),
        ] {
            let info = FrameInfo::new().block_mode(mode).block_size(size).block_checksums(checksums);
            let length = u64::try_from(plain.len()).unwrap();
            let info = info.content_checksum(checksums).content_size(checksums.then_some(length));
            let mut out = FrameEncoder::with_frame_info(info, Vec::new());
            out.write_all(&plain).unwrap();
            let bytes = out.finish().unwrap();
            assert!(decompress(Codec::Lz4, &bytes, plain.len()) == Ok(plain.clone()), "{mode:?} {checksums}");
            assert_eq!(decompress(Codec::Lz4, &bytes, plain.len() - 1), Err(Failure::TooLarge));
        }
        // Blocks that were not worth compressing.
        let noise: Vec<u8> =
            (0..9_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
        assert_eq!(decompress(Codec::Lz4, &compressed(Codec::Lz4, &noise), 9_000), Ok(noise));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_exceed_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            for codec in CODECS {
                drop(decompress(codec, &bytes, 1_000));
                let mut good = compressed(codec, &sample(2_000));
                for (at, byte) in &changes {
                    let at = at.index(good.len());
                    good[at] = *byte;
                }
                if codec != Codec::None && let Ok(plain) = decompress(codec, &good, 3_000) {
                    prop_assert!(plain.len() <= 3_000);
                }
            }
        }
    }
}
