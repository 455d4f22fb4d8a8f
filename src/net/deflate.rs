//! COMPRESS=DEFLATE (RFC 4978): what is written to a stream leaves deflated, what comes is inflated.
//!
//! Both ways go through buffers of a fixed size: of what is inflated no more is ever held than a reader has room for, so a
//! few bytes that inflate to gigabytes meet the same bounds on lines, literals and messages as gigabytes do.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Bytes asked of the stream at once, and the most that are inflated at once.
const READ_SIZE: usize = 64 * 1024;
/// Deflated bytes that may wait before they are written on their own.
const CORK_SIZE: usize = 64 * 1024;
/// The bytes that follow everything written before a flush: an empty block without compression (RFC 1951 §3.2.4).
const BOUNDARY: &[u8] = &[0, 0, 0xff, 0xff];
/// Bytes that are deflated at once.
const PIECE_SIZE: usize = 8 * 1024;

/// Both directions of one connection.
pub(super) struct Deflate {
    decompressor: Decompress,
    /// Deflated bytes that have come.
    incoming: BytesMut,
    /// Whether more may wait inside, although all that has come was taken in: only what gives nothing has nothing.
    gives: bool,
    /// Whether the peer has ended its stream.
    ended: bool,
    compressor: Compress,
    /// Deflated bytes that are to leave.
    outgoing: BytesMut,
    /// Whether something was written since the last flush.
    unflushed: bool,
}

impl fmt::Debug for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deflate")
    }
}

impl Deflate {
    /// Begins; `incoming` is what has come behind the server's OK, which is deflated already.
    pub(super) fn new(incoming: BytesMut) -> Self {
        Self {
            decompressor: Decompress::new(false),
            incoming,
            gives: false,
            ended: false,
            compressor: Compress::new(Compression::default(), false),
            outgoing: BytesMut::new(),
            unflushed: false,
        }
    }

    /// Reads what the peer wrote before it deflated it.
    ///
    /// # Errors
    /// Those of the stream; [`io::ErrorKind::InvalidData`] for what is not deflated.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.ended && buf.remaining() > 0 {
            if self.gives || !self.incoming.is_empty() {
                let room = buf.initialize_unfilled_to(buf.remaining().min(READ_SIZE));
                let (taken, given) = self.inflate_into(room)?;
                if given > 0 {
                    buf.advance(given);
                    return Poll::Ready(Ok(()));
                }
                if taken > 0 {
                    continue;
                }
            }
            self.incoming.reserve(READ_SIZE);
            if ready!(poll_read_buf(Pin::new(&mut *stream), cx, &mut self.incoming))? == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes were taken and given.
    fn inflate_into(&mut self, room: &mut [u8]) -> io::Result<(usize, usize)> {
        let before = (self.decompressor.total_in(), self.decompressor.total_out());
        let inflated = self.decompressor.decompress(&self.incoming, room, FlushDecompress::None);
        let status = inflated.map_err(|error| {
            let what = "the server sent something that is not deflated, although both sides agreed on it";
            io::Error::new(io::ErrorKind::InvalidData, format!("{what} ({error})"))
        })?;
        let taken = difference(before.0, self.decompressor.total_in());
        let given = difference(before.1, self.decompressor.total_out());
        self.incoming.advance(taken);
        self.gives = given > 0;
        self.ended = status == Status::StreamEnd;
        Ok((taken, given))
    }

    /// Deflates some bytes; they leave with the next flush, or when many wait.
    ///
    /// # Errors
    /// Those of the stream.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.len() >= CORK_SIZE {
            ready!(self.poll_drain(stream, cx))?;
        }
        let piece = &buf[..buf.len().min(PIECE_SIZE)];
        let mut taken = 0;
        while taken < piece.len() {
            taken += self.deflate_piece(&piece[taken..], FlushCompress::None)?.0;
        }
        self.unflushed |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    /// Sends all that was written so far, in such a way that the peer can inflate all of it.
    ///
    /// # Errors
    /// Those of the stream.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            self.deflate_to_a_boundary()?;
            self.unflushed = false;
        }
        ready!(self.poll_drain(stream, cx))?;
        Pin::new(stream).poll_flush(cx)
    }

    /// Ends what was written so far in such a way that the peer can inflate all of it. A compressor that has something to
    /// give may give only that and not come to the end, so it is asked until the end is there.
    fn deflate_to_a_boundary(&mut self) -> io::Result<()> {
        while self.deflate_piece(&[], FlushCompress::Sync)?.1 == PIECE_SIZE
            || !self.outgoing.ends_with(BOUNDARY)
        {}
        Ok(())
    }

    /// How many bytes were taken and given.
    fn deflate_piece(&mut self, input: &[u8], flush: FlushCompress) -> io::Result<(usize, usize)> {
        let mut room = [0; PIECE_SIZE];
        let before = (self.compressor.total_in(), self.compressor.total_out());
        self.compressor.compress(input, &mut room, flush).map_err(io::Error::other)?;
        let taken = difference(before.0, self.compressor.total_in());
        let given = difference(before.1, self.compressor.total_out());
        self.outgoing.extend_from_slice(&room[..given]);
        Ok((taken, given))
    }

    fn poll_drain<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// How far a count of bytes has gone on; one call never passes more than a buffer.
fn difference(before: u64, after: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::timeout;

    struct End {
        stream: DuplexStream,
        deflate: Deflate,
    }

    impl AsyncRead for End {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Self { stream, deflate } = &mut *self;
            deflate.poll_read(stream, cx, buf)
        }
    }

    impl AsyncWrite for End {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let Self { stream, deflate } = &mut *self;
            deflate.poll_write(stream, cx, buf)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let Self { stream, deflate } = &mut *self;
            deflate.poll_flush(stream, cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    /// Two ends of a pipe that holds so many bytes; the first has received some of what the second sends already.
    fn pipe(size: usize, received: &[u8]) -> (End, End) {
        let (one, other) = tokio::io::duplex(size);
        let end = |stream, received| End { stream, deflate: Deflate::new(BytesMut::from(received)) };
        (end(one, received), end(other, &b""[..]))
    }

    /// Does what must not wait for ever.
    fn in_a_runtime<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_mins(1), work).await.expect("it waits for ever") })
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40_000),
            (any::<u8>(), 0_usize..100_000).prop_map(|(byte, length)| vec![byte; length]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(32), ..ProptestConfig::default() })]
        #[test]
        fn each_flush_lets_the_other_end_read_all_that_was_written(
            pieces in proptest::collection::vec(piece(), 1..6),
            size in 16_usize..5_000,
        ) {
            in_a_runtime(async {
                let (mut here, mut there) = pipe(size, b"");
                for piece in pieces {
                    let mut read = vec![0; piece.len()];
                    let write = async {
                        here.write_all(&piece).await?;
                        here.flush().await
                    };
                    let (written, arrived) = tokio::join!(write, there.read_exact(&mut read));
                    written.unwrap();
                    arrived.unwrap();
                    assert!(read == piece);
                }
            });
        }
    }

    #[test]
    fn a_flush_is_whole_also_where_a_block_has_just_come_to_its_own_end() {
        in_a_runtime(async {
            let mut random = vec![0; 31_900];
            blake3::Hasher::new().finalize_xof().fill(&mut random);
            for length in 31_600..random.len() {
                let (mut here, mut there) = pipe(1 << 17, b"");
                there.write_all(&random[..length]).await.unwrap();
                there.flush().await.unwrap();
                let mut read = vec![0; length];
                here.read_exact(&mut read).await.unwrap();
                assert!(read == random[..length]);
            }
        });
    }

    #[test]
    fn what_came_behind_the_answer_belongs_to_the_stream() {
        in_a_runtime(async {
            let (_, mut there) = pipe(1000, b"");
            there.write_all(b"* BYE at once\r\n").await.unwrap();
            there.deflate.deflate_to_a_boundary().unwrap();
            let sent = there.deflate.outgoing.split();
            for cut in 0..=sent.len() {
                let (mut here, mut there) = pipe(1000, &sent[..cut]);
                there.stream.write_all(&sent[cut..]).await.unwrap();
                drop(there);
                let mut read = Vec::new();
                here.read_to_end(&mut read).await.unwrap();
                assert_eq!(read, b"* BYE at once\r\n");
            }
        });
    }

    #[test]
    fn what_is_not_deflated_is_an_error_and_an_ended_stream_is_an_end() {
        in_a_runtime(async {
            let (mut here, mut there) = pipe(1000, b"");
            there.stream.write_all(b"* OK done, and not deflated\r\n").await.unwrap();
            let mut read = Vec::new();
            assert_eq!(here.read_to_end(&mut read).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
            let (mut here, mut there) = pipe(1000, b"");
            there.deflate.deflate_piece(b"a", FlushCompress::Finish).unwrap();
            there.flush().await.unwrap();
            assert_eq!(here.read_u8().await.unwrap(), b'a');
            assert_eq!(here.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn of_what_inflates_a_thousandfold_nothing_is_held_that_nobody_reads() {
        in_a_runtime(async {
            let (mut here, mut there) = pipe(1 << 20, b"");
            there.write_all(&vec![0; 64 << 20]).await.unwrap();
            there.flush().await.unwrap();
            let mut read = [0; 100];
            here.read_exact(&mut read).await.unwrap();
            assert!(
                here.deflate.incoming.capacity() <= 4 * READ_SIZE,
                "{}",
                here.deflate.incoming.capacity()
            );
            assert_eq!(here.deflate.decompressor.total_out(), 100);
        });
    }
}
