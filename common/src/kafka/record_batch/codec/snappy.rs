//! Snappy, raw or in the frames of snappy-java, which Kafka's Java clients write.
//!
//! ```text
//! 0x82 "SNAPPY" 0x00 | version i32 | compatible version i32 | block: length i32, raw Snappy   …
//! ```
//!
//! Source: xerial/snappy-java, "Compatibility Notes"; big-endian.

use bytes::Buf;
use snap::raw::{Decoder, decompress_len};

use super::Failure;

const MAGIC: &[u8] = b"\x82SNAPPY\0";
/// What a byte stands for at most: a copy of 64 bytes takes three.
const MOST_EXPANSION: usize = 22;

/// Decompresses either form.
pub(super) fn decompress(bytes: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut plain = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        block(bytes, &mut plain, most)?;
        return Ok(plain);
    };
    let cut = |_| Failure::malformed("a frame is cut off");
    let _versions = rest.try_get_u64().map_err(cut)?;
    while !rest.is_empty() {
        let length = usize::try_from(rest.try_get_u32().map_err(cut)?).unwrap_or(usize::MAX);
        let bytes = rest.split_off(..length).ok_or_else(|| Failure::malformed("a block is cut off"))?;
        block(bytes, &mut plain, most)?;
    }
    Ok(plain)
}

fn block(bytes: &[u8], plain: &mut Vec<u8>, most: usize) -> Result<(), Failure> {
    let begin = plain.len();
    let length = decompress_len(bytes).map_err(Failure::malformed)?;
    if length > bytes.len().saturating_mul(MOST_EXPANSION) {
        return Err(Failure::malformed("it claims more than it can hold"));
    }
    if length > most - begin {
        return Err(Failure::TooLarge);
    }
    plain.resize(begin + length, 0);
    Decoder::new().decompress(bytes, &mut plain[begin..]).map_err(Failure::malformed)?;
    Ok(())
}
