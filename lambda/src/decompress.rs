//! Decompresses an object as it comes, on a thread of its own.
//!
//! ```text
//! object --chunks--> channel --> thread: decoder --pieces of 64 KiB--> channel --> lines
//! ```
//!
//! Both channels are short, so however much a few bytes stand for, no more of it is in memory than was asked for.
//! Objects may be several gzip members, or Zstandard frames, one behind the other.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use ruzstd::decoding::{
    FrameDecoder, StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use tokio::sync::mpsc;

use crate::object::ReadError;

/// How much is decompressed at once.
const PIECE: usize = 64 << 10;
/// How many pieces may wait.
const PIECES: usize = 4;
/// The largest window of a Zstandard frame: what `zstd --ultra` uses up to level 21 is 64 MiB, 19 needs 8.
const MAX_WINDOW: u64 = 32 << 20;

/// How an object is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What the end of `key` says; `None` for lines as they are.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        if key.ends_with(".gz") {
            Some(Self::Gzip)
        } else if key.ends_with(".zst") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// The plain bytes of `compressed`. Needs a tokio runtime.
///
/// # Cancel safety
/// Dropping the stream ends the thread.
pub fn decompress(
    compression: Compression,
    mut compressed: BoxStream<'static, Result<Bytes, ReadError>>,
) -> BoxStream<'static, Result<Bytes, ReadError>> {
    let (feed, chunks) = mpsc::channel(1);
    let (pieces, mut decoded) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = decode(compression, Chunks { chunks, current: Bytes::new() }, &pieces) {
            // An error: nobody listens any more.
            drop(pieces.blocking_send(Err(ReadError::Compressed(error))));
        }
    });
    let feeding = async move {
        while let Some(chunk) = compressed.next().await {
            match chunk {
                Ok(chunk) => {
                    if feed.send(chunk).await.is_err() {
                        // The thread has ended, with an error that says more.
                        break;
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    };
    let feeding = stream::once(feeding).filter_map(std::future::ready);
    let decoded = stream::poll_fn(move |context| decoded.poll_recv(context));
    stream::select(feeding, decoded).boxed()
}

/// Sends the plain bytes of all members or frames, until there are no more, or nobody listens.
fn decode(
    compression: Compression,
    mut chunks: Chunks,
    pieces: &mpsc::Sender<Result<Bytes, ReadError>>,
) -> io::Result<()> {
    while !chunks.fill_buf()?.is_empty() {
        let mut listening = true;
        match compression {
            Compression::Gzip => listening = drain(&mut MultiGzDecoder::new(&mut chunks), pieces)?,
            Compression::Zstd => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(MAX_WINDOW);
                match StreamingDecoder::new_with_decoder(&mut chunks, decoder) {
                    Ok(mut frame) => listening = drain(&mut frame, pieces)?,
                    Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                        length,
                        ..
                    })) => skip(&mut chunks, u64::from(length))?,
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
        }
        if !listening {
            break;
        }
    }
    Ok(())
}

fn drain(decoder: &mut impl Read, pieces: &mpsc::Sender<Result<Bytes, ReadError>>) -> io::Result<bool> {
    loop {
        let mut piece = vec![0; PIECE];
        let length = decoder.read(&mut piece)?;
        if length == 0 {
            return Ok(true);
        }
        piece.truncate(length);
        if pieces.blocking_send(Ok(piece.into())).is_err() {
            return Ok(false);
        }
    }
}

fn skip(chunks: &mut Chunks, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut chunks.by_ref().take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The object's chunks as they arrive, to read from.
struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current = self.current.slice(amount..);
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression as Level, write::GzEncoder};
    use futures::TryStreamExt;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        compress_to_vec(plain, CompressionLevel::Fastest)
    }

    async fn plain(compression: Compression, compressed: &[u8], chunk: usize) -> Result<Vec<u8>, String> {
        let chunks: Vec<_> =
            compressed.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let pieces = decompress(compression, stream::iter(chunks).boxed());
        let all = pieces.try_fold(Vec::new(), async |mut all: Vec<u8>, piece| {
            assert!(piece.len() <= PIECE);
            all.extend_from_slice(&piece);
            Ok(all)
        });
        all.await.map_err(|error| coinduit_common::report::Chain(&error).to_string())
    }

    #[tokio::test]
    async fn members_and_frames_are_read_one_after_the_other_however_they_are_cut() {
        let long: Vec<u8> = (0..300_000_u32).flat_map(|n| (n % 7919).to_le_bytes()).collect();
        let expected = [b"{}\n", &long[..], b"[]\n"].concat();
        for (compression, object) in [
            (Compression::Gzip, [gzip(b"{}\n"), gzip(&long), gzip(b""), gzip(b"[]\n")].concat()),
            // With a skippable frame in between, as pzstd and seekable Zstandard write them.
            (
                Compression::Zstd,
                [zstd(b"{}\n"), b"\x50\x2a\x4d\x18\x03\0\0\0xyz".to_vec(), zstd(&long), zstd(b"[]\n")]
                    .concat(),
            ),
        ] {
            for chunk in [7, 4096, 10 << 20] {
                assert_eq!(
                    plain(compression, &object, chunk).await.as_ref(),
                    Ok(&expected),
                    "{compression:?} {chunk}"
                );
            }
        }
    }

    #[tokio::test]
    async fn an_empty_object_is_empty() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            assert_eq!(plain(compression, b"", 1).await, Ok(Vec::new()));
        }
        assert_eq!(plain(Compression::Gzip, &gzip(b""), 1).await, Ok(Vec::new()));
        assert_eq!(plain(Compression::Zstd, &zstd(b""), 1).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn what_is_cut_off_or_something_else_is_an_error() {
        let text = b"{\"a\":1}\n".repeat(1000);
        for (compression, object) in [(Compression::Gzip, gzip(&text)), (Compression::Zstd, zstd(&text))] {
            for broken in [
                &object[..object.len() - 1],
                &object[..object.len() / 2],
                &object[..3],
                &text[..],
                &[&object[..], b"garbage"].concat(),
            ] {
                let error = plain(compression, broken, 100).await.unwrap_err();
                assert!(error.starts_with("decompress the object"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_frame_that_claims_a_huge_window_is_refused() {
        // A frame header with a window of 1 GiB: magic, descriptor, window exponent 20.
        let error = plain(Compression::Zstd, b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00", 100).await.unwrap_err();
        assert!(error.to_lowercase().contains("window"), "{error}");
    }

    /// 256 MiB from a quarter of a MiB, of which nobody takes more than a piece.
    #[tokio::test]
    async fn a_bomb_is_decompressed_no_further_than_it_is_read() {
        let bomb = gzip(&vec![b' '; 64 << 20]).repeat(4);
        let mut pieces = decompress(Compression::Gzip, stream::iter([Ok(Bytes::from(bomb))]).boxed());
        assert!(pieces.next().await.unwrap().is_ok());
        drop(pieces);
    }

    #[tokio::test]
    async fn an_error_of_the_object_is_told_as_it_is() {
        let chunks = vec![Ok(Bytes::from(gzip(b"{}\n")[..5].to_vec())), Err(ReadError::Key)];
        let pieces: Vec<_> = decompress(Compression::Gzip, stream::iter(chunks).boxed()).collect().await;
        assert!(matches!(pieces[0], Err(ReadError::Key)), "{pieces:?}");
    }
}
