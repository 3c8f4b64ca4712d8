//! Zstandard, by `ruzstd`.
//!
//! Source: RFC 8878. A frame's window may be 128 MiB, as in Kafka's Java clients.

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::Failure;

/// Decompresses frames one after the other.
pub(super) fn decompress(mut bytes: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        // A decoder that was used before sets aside as much as the next frame claims; a new one does not.
        let mut decoder = FrameDecoder::new();
        match decoder.init(&mut bytes) {
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                bytes.split_off(..length).ok_or_else(|| Failure::malformed("a frame is cut off"))?;
                continue;
            }
            other => other.map_err(Failure::malformed)?,
        }
        // The decoder keeps what it made until it is collected, so it is told when to stop.
        let room = most - plain.len();
        let finished = decoder
            .decode_blocks(&mut bytes, BlockDecodingStrategy::UptoBytes(room.saturating_add(1)))
            .map_err(Failure::malformed)?;
        if !finished || decoder.can_collect() > room {
            return Err(Failure::TooLarge);
        }
        decoder.collect_to_writer(&mut plain).map_err(Failure::malformed)?;
    }
    Ok(plain)
}
