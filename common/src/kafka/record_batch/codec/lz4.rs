//! LZ4's frame format, over the block codec of `lz4_flex`.
//!
//! Read here rather than by that crate, which sets aside several blocks' worth of memory for each frame, and
//! goes through two copies; a batch is a frame of a few kilobytes. Kafka's Java clients write and read
//! blocks of 64 KiB without checksums, each for itself; others' blocks may refer to those before them.
//!
//! ```text
//! magic u32 | flags u8 | block size u8 | (content size u64) | (dictionary u32) | header checksum u8
//!   block: size u32, top bit: not compressed | bytes | (checksum u32)   …   0 u32 | (content checksum u32)
//! ```
//!
//! Source: "LZ4 Frame Format Description" 1.6.4, little-endian; Apache Kafka, `Lz4BlockInputStream`.

use bytes::Buf;
use lz4_flex::block::{self, DecompressError};

use super::Failure;

const MAGIC: u32 = 0x184D_2204;
const VERSION: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY: u8 = 1;
const PLAIN: u32 = 1 << 31;
/// How far back a block may refer to.
const WINDOW: usize = 64 << 10;
/// What a byte of a compressed block stands for at most.
const MOST_EXPANSION: usize = 255;

/// Decompresses frames one after the other.
pub(super) fn decompress(mut bytes: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        frame(&mut bytes, &mut plain, most)?;
    }
    Ok(plain)
}

fn frame(rest: &mut &[u8], plain: &mut Vec<u8>, most: usize) -> Result<(), Failure> {
    let cut = |_| Failure::malformed("the frame is cut off");
    if rest.try_get_u32_le().map_err(cut)? != MAGIC {
        return Err(Failure::malformed("it is no frame"));
    }
    let flags = rest.try_get_u8().map_err(cut)?;
    if flags & VERSION != VERSION_1 {
        return Err(Failure::malformed("its frame has an unknown version"));
    }
    if flags & DICTIONARY != 0 {
        return Err(Failure::malformed("it needs a dictionary"));
    }
    // 4 is 64 KiB, and each step four times as much.
    let block_size = match (rest.try_get_u8().map_err(cut)? >> 4) & 0b111 {
        code @ 4..=7 => (64 << 10) << (2 * (code - 4)),
        _ => return Err(Failure::malformed("its blocks have an unknown size")),
    };
    if flags & CONTENT_SIZE != 0 {
        rest.try_get_u64_le().map_err(cut)?;
    }
    let _header_checksum = rest.try_get_u8().map_err(cut)?;

    let begin = plain.len();
    loop {
        let size = rest.try_get_u32_le().map_err(cut)?;
        if size == 0 {
            break;
        }
        let length = usize::try_from(size & !PLAIN).unwrap_or(usize::MAX);
        let block = rest.split_off(..length).ok_or_else(|| Failure::malformed("a block is cut off"))?;
        let window = if flags & INDEPENDENT == 0 {
            begin.max(plain.len().saturating_sub(WINDOW))
        } else {
            plain.len()
        };
        if size & PLAIN == 0 {
            compressed(block, plain, window, block_size, most)?;
        } else if plain.len() + length > most {
            return Err(Failure::TooLarge);
        } else {
            plain.extend_from_slice(block);
        }
        if flags & BLOCK_CHECKSUM != 0 {
            rest.try_get_u32_le().map_err(cut)?;
        }
    }
    if flags & CONTENT_CHECKSUM != 0 {
        rest.try_get_u32_le().map_err(cut)?;
    }
    Ok(())
}

/// Appends what `block` stands for, which may refer to `plain` from `window` on.
fn compressed(
    block: &[u8],
    plain: &mut Vec<u8>,
    window: usize,
    block_size: usize,
    most: usize,
) -> Result<(), Failure> {
    let begin = plain.len();
    let possible = block_size.min(block.len().saturating_mul(MOST_EXPANSION));
    let room = possible.min(most - begin);
    plain.resize(begin + room, 0);
    let (before, after) = plain.split_at_mut(begin);
    match block::decompress_into_with_dict(block, after, &before[window..]) {
        Ok(length) => plain.truncate(begin + length),
        Err(DecompressError::OutputTooSmall { .. }) if room < possible => return Err(Failure::TooLarge),
        Err(error) => return Err(Failure::malformed(error)),
    }
    Ok(())
}
