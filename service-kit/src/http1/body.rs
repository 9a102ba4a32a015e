//! The body of a message, within its framing.

use std::mem;

use bytes::{Bytes, BytesMut};

use super::{Framing, Malformed, chunks::Chunks};

/// Reads a body.
#[derive(Debug)]
pub struct BodyReader(State);

#[derive(Debug)]
enum State {
    /// So many bytes have not come yet.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Ended,
    /// Found behind data that has already been returned.
    Failed(Malformed),
}

impl BodyReader {
    /// A body of which nothing has been read.
    pub const fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunks::new()),
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Whether all of it has been read.
    pub const fn is_ended(&self) -> bool {
        matches!(self.0, State::Ended)
    }

    /// How many bytes have not been read, where that is known.
    pub const fn left(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            State::Ended => Some(0),
            State::Chunked(_) | State::UntilClose | State::Failed(_) => None,
        }
    }

    /// How many bytes will come at least: the rest of the body, or of its current chunk.
    pub const fn at_least(&self) -> u64 {
        match &self.0 {
            State::Length(left) => *left,
            State::Chunked(chunks) => chunks.left() as u64,
            State::UntilClose | State::Ended | State::Failed(_) => 0,
        }
    }

    /// As [`Self::read`], but what is left of a chunk is one piece, if that is at most `most` bytes: it stays until all of it has come.
    pub fn read_whole(&mut self, came: &mut BytesMut, most: usize) -> Result<Option<Bytes>, Malformed> {
        if let State::Chunked(chunks) = &mut self.0 {
            if let Err(malformed) = chunks.read_on(came) {
                self.0 = State::Failed(malformed);
                return Err(malformed);
            }
            if chunks.left() <= most && came.len() < chunks.left() {
                return Ok(None);
            }
        }
        self.read(came)
    }

    /// Takes the next piece out of what has come; `None` where more must come, or the body has ended. What is behind the body stays.
    pub fn read(&mut self, came: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        match &mut self.0 {
            State::Ended => Ok(None),
            State::Failed(malformed) => Err(*malformed),
            State::UntilClose => Ok((!came.is_empty()).then(|| came.split().freeze())),
            State::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(came.len());
                *left -= most as u64;
                if *left == 0 {
                    self.0 = State::Ended;
                    if most == came.len() {
                        // Nothing shares the memory, which takes no count of who does.
                        return Ok(Some(mem::take(came).freeze()));
                    }
                }
                Ok((most > 0).then(|| came.split_to(most).freeze()))
            }
            State::Chunked(chunks) => {
                let before = chunks.read_on(came);
                let data = chunks.data(came);
                // So that the end is noticed together with the last data.
                let read = before.and_then(|()| chunks.read_on(came));
                if chunks.is_ended() {
                    self.0 = State::Ended;
                }
                match (read, data) {
                    (Ok(()), data) => Ok(data),
                    (Err(malformed), data) => {
                        self.0 = State::Failed(malformed);
                        data.map_or(Err(malformed), |data| Ok(Some(data)))
                    }
                }
            }
        }
    }

    /// The sender has closed the connection. Returns whether the body has ended: otherwise it is shorter than it should be.
    pub fn close(&mut self) -> bool {
        if matches!(self.0, State::UntilClose) {
            self.0 = State::Ended;
        }
        self.is_ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, and what is behind the body; split at each of `cuts`.
    fn read(framing: Framing, text: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
        let (mut reader, mut came, mut data) = (BodyReader::new(framing), BytesMut::new(), Vec::new());
        for piece in text.chunks(piece) {
            came.extend_from_slice(piece);
            while let Some(piece) = reader.read(&mut came)? {
                data.extend_from_slice(&piece);
            }
        }
        Ok((data, came.to_vec(), reader.is_ended()))
    }

    fn chunked(text: impl AsRef<[u8]>) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
        let text = text.as_ref();
        let whole = read(Framing::Chunked, text, usize::MAX);
        assert_eq!(read(Framing::Chunked, text, 1), whole, "{text:?}");
        whole
    }

    #[test]
    fn a_chunk_is_taken_whole_unless_it_is_long_or_the_connection_ends() {
        let text = b"5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n";
        let whole = |most: usize, length: usize| {
            let (mut reader, mut came, mut pieces) = (BodyReader::new(Framing::Chunked), BytesMut::new(), Vec::new());
            for byte in &text[..length] {
                came.extend_from_slice(&[*byte]);
                while let Some(piece) = reader.read_whole(&mut came, most).unwrap() {
                    pieces.push(String::from_utf8(piece.to_vec()).unwrap());
                }
            }
            let rest = reader.read(&mut came).unwrap().unwrap_or_default();
            (pieces, String::from_utf8(rest.to_vec()).unwrap(), reader.is_ended())
        };
        let pieces = |pieces: &[&str], rest: &str, ended| {
            (
                pieces.iter().map(|piece| (*piece).to_owned()).collect(),
                rest.to_owned(),
                ended,
            )
        };
        assert_eq!(whole(5, text.len()), pieces(&["abcde", "fgh"], "", true));
        assert_eq!(whole(4, text.len()), pieces(&["a", "bcde", "fgh"], "", true));
        assert_eq!(whole(5, 7), pieces(&[], "abcd", false));
        assert_eq!(whole(5, 14), pieces(&["abcde"], "f", false));
        let mut came = BytesMut::from(&b"5x\r\nabcde"[..]);
        let mut reader = BodyReader::new(Framing::Chunked);
        for _ in 0..2 {
            assert!(reader.read_whole(&mut came, 5).is_err());
        }
    }

    #[test]
    fn a_body_ends_with_its_length() {
        for piece in [1, 3, 100] {
            let (data, behind, ended) = read(Framing::Length(3), b"abcdef", piece).unwrap();
            assert_eq!((&data[..], &behind[..], ended), (&b"abc"[..], &b"def"[..], true));
        }
        assert!(!read(Framing::Length(3), b"ab", 1).unwrap().2);
        assert!(BodyReader::new(Framing::Length(0)).is_ended());
        assert!(BodyReader::new(Framing::None).is_ended());
    }

    #[test]
    fn only_a_body_without_a_length_ends_with_its_connection() {
        for (framing, ended) in [
            (Framing::UntilClose, true),
            (Framing::Length(1), false),
            (Framing::Chunked, false),
            (Framing::None, true),
        ] {
            assert_eq!(BodyReader::new(framing).close(), ended, "{framing:?}");
        }
    }

    #[test]
    fn chunks_are_read_up_to_the_end_of_the_trailers() {
        for text in [
            "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            "03;a=\"b;c\"\r\nabc\r\n0000002;\r\nde\r\n000\r\nx: y\r\nz: \r\n\r\n",
        ] {
            let read = chunked(text).unwrap();
            assert_eq!(read, (b"abcde".to_vec(), Vec::new(), true), "{text}");
            assert_eq!(chunked(format!("{text}HTTP")).unwrap().1, b"HTTP", "{text}");
            for cut in 0..text.len() {
                assert!(!chunked(&text[..cut]).unwrap().2, "{text} {cut}");
            }
        }
        assert_eq!(chunked("A\r\n0123456789\r\n").unwrap().0, b"0123456789");
    }

    /// The end of the body is known with its last data, so that its connection is used again without another look.
    #[test]
    fn the_end_is_noticed_with_the_last_data() {
        let mut reader = BodyReader::new(Framing::Chunked);
        let mut came = BytesMut::from(&b"1\r\na\r\n0\r\n\r\n"[..]);
        assert_eq!(reader.read(&mut came).unwrap().unwrap(), "a");
        assert!(reader.is_ended());
    }

    #[test]
    fn what_will_come_at_least_is_the_rest_of_the_body_or_of_the_chunk() {
        let mut reader = BodyReader::new(Framing::Length(5));
        reader.read(&mut BytesMut::from("ab")).unwrap();
        assert_eq!((reader.at_least(), reader.left()), (3, Some(3)));
        let mut reader = BodyReader::new(Framing::Chunked);
        for (came, at_least) in [("f", 0), ("f\r", 0), ("\n", 255), ("a", 254)] {
            reader.read(&mut BytesMut::from(came)).unwrap();
            assert_eq!((reader.at_least(), reader.left()), (at_least, None), "{came:?}");
        }
        assert_eq!(BodyReader::new(Framing::UntilClose).at_least(), 0);
    }

    #[test]
    fn a_size_has_one_to_seven_hexadecimal_digits() {
        for size in [
            "",
            "g",
            "-1",
            "+1",
            "0x1",
            " 1",
            "1 ",
            "1\t",
            "00000001",
            "fffffffff",
            "ffffffffffffffffff",
        ] {
            let text = format!("{size}\r\na\r\n0\r\n\r\n");
            assert_eq!(chunked(&text), Err(Malformed::ChunkSize), "{text}");
        }
        assert!(chunked("fffffff\r\na").is_ok());
    }

    #[test]
    fn lines_of_chunks_end_with_crlf() {
        for (text, malformed) in [
            ("1\na\r\n0\r\n\r\n", Malformed::ChunkSize),
            ("1\ra\r\n0\r\n\r\n", Malformed::ChunkSize),
            ("1;\n\r\na\r\n0\r\n\r\n", Malformed::Extensions),
            ("1;\r;\r\na\r\n0\r\n\r\n", Malformed::ChunkSize),
            ("1\r\na\n0\r\n\r\n", Malformed::ChunkEnd),
            ("1\r\nab\r\n0\r\n\r\n", Malformed::ChunkEnd),
            ("1\r\na0\r\n\r\n", Malformed::ChunkEnd),
            ("1\r\na\r0\r\n\r\n", Malformed::ChunkEnd),
            ("0\r\n\n", Malformed::BareLineFeed),
            ("0\r\nx: y\n\r\n", Malformed::BareLineFeed),
            ("0\r\nx\r\n\r\n", Malformed::Trailers),
        ] {
            assert_eq!(chunked(text), Err(malformed), "{text:?}");
        }
    }

    #[test]
    fn extensions_have_no_control_characters_and_are_bounded_in_all() {
        for byte in [0, b'\t', b'\n', 0x1b, 0x7f] {
            let text = [b"1;a=", &[byte][..], b"\r\na\r\n"].concat();
            assert_eq!(chunked(text), Err(Malformed::Extensions), "{byte}");
        }
        let one = format!("1;{}\r\na\r\n", "x".repeat(1023));
        assert!(chunked(one.repeat(4)).is_ok());
        assert_eq!(chunked(one.repeat(4) + "1;\r\na\r\n"), Err(Malformed::Extensions));
    }

    #[test]
    fn trailers_are_bounded() {
        let line = |length| format!("0\r\nx: {}\r\n", "y".repeat(length));
        assert!(chunked(line(4000) + "\r\n").unwrap().2);
        assert_eq!(chunked(line(4096)), Err(Malformed::Trailers));
        assert_eq!(chunked(format!("0\r\n{}", "x".repeat(4097))), Err(Malformed::Trailers));
    }

    #[test]
    fn fields_that_frame_or_route_a_message_are_not_trailers() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Host",
            "connection",
            "TE",
            "trailer",
            "upgrade",
            "keep-alive",
            "proxy-connection",
        ] {
            let text = format!("0\r\nx: y\r\n{name}: 1\r\n\r\n");
            assert_eq!(chunked(&text), Err(Malformed::Trailers), "{text}");
        }
        assert!(chunked("0\r\nx-host: a\r\ncontent-digest: b\r\n\r\n").unwrap().2);
    }

    #[test]
    fn data_in_front_of_a_fault_is_returned_before_it() {
        let mut reader = BodyReader::new(Framing::Chunked);
        let mut came = BytesMut::from(&b"1\r\na\n"[..]);
        assert_eq!(reader.read(&mut came).unwrap().unwrap(), "a");
        assert!(!reader.is_ended());
        for _ in 0..2 {
            assert_eq!(reader.read(&mut came), Err(Malformed::ChunkEnd));
        }
    }
}
