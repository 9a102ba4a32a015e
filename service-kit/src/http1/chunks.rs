//! A chunked body (RFC 9112, section 7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderName, header};

use super::{Malformed, fields::is_always_hop_by_hop, head::MAX_FIELDS, section::Section};

/// The most digits of a chunk's size.
const MAX_DIGITS: u8 = 7;
/// The most bytes of all chunk extensions of a body.
const MAX_EXTENSIONS: usize = 4 << 10;
/// The most bytes of a trailer section.
const MAX_TRAILERS: usize = 4 << 10;

/// The chunks of a body, as far as they have been read.
#[derive(Debug)]
pub(super) struct Chunks {
    next: Next,
    /// How many bytes of the chunk have not been read.
    left: usize,
    /// How many digits its size has.
    digits: u8,
    /// The bytes of all extensions.
    extensions: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Size,
    Extension,
    /// LF, behind the CR of a size's line.
    SizeEnds,
    Data,
    /// CR, then LF, behind the data.
    DataEnds,
    DataEnded,
    Trailers(Section),
    Nothing,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self {
            next: Next::Size,
            left: 0,
            digits: 0,
            extensions: 0,
        }
    }

    pub(super) const fn is_ended(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// How many bytes of the current chunk have not been read.
    pub(super) const fn left(&self) -> usize {
        match self.next {
            Next::Data => self.left,
            _ => 0,
        }
    }

    /// The next piece of the data; `None` where more must come, or the body has ended. Nothing behind the body is read.
    pub(super) fn data(&mut self, came: &mut BytesMut) -> Option<Bytes> {
        if !matches!(self.next, Next::Data) || came.is_empty() {
            return None;
        }
        let data = came.split_to(self.left.min(came.len())).freeze();
        self.left -= data.len();
        if self.left == 0 {
            self.next = Next::DataEnds;
        }
        Some(data)
    }

    /// Reads up to the next data, or the end of the body.
    pub(super) fn read_on(&mut self, came: &mut BytesMut) -> Result<(), Malformed> {
        while !came.is_empty() {
            match &mut self.next {
                Next::Data | Next::Nothing => break,
                Next::Trailers(section) => {
                    let end = section.end(came)?;
                    if end.unwrap_or(came.len()) > MAX_TRAILERS {
                        return Err(Malformed::Trailers);
                    }
                    let Some(end) = end else { break };
                    check_trailers(&came[..end])?;
                    came.advance(end);
                    self.next = Next::Nothing;
                }
                _ => {
                    let byte = came.get_u8();
                    self.next = self.after(byte)?;
                }
            }
        }
        Ok(())
    }

    /// What comes next behind a byte that is not data.
    fn after(&mut self, byte: u8) -> Result<Next, Malformed> {
        Ok(match (self.next, byte) {
            (Next::Size, b'\r') if self.digits > 0 => Next::SizeEnds,
            (Next::Size, b';') if self.digits > 0 => self.extended()?,
            (Next::Size, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::ChunkSize)?;
                self.digits += 1;
                if self.digits > MAX_DIGITS {
                    return Err(Malformed::ChunkSize);
                }
                self.left = self.left * 16 + digit as usize;
                Next::Size
            }
            (Next::Extension, b'\r') => Next::SizeEnds,
            (Next::Extension, byte) if byte.is_ascii_control() => return Err(Malformed::Extensions),
            (Next::Extension, _) => self.extended()?,
            (Next::SizeEnds, b'\n') => {
                self.digits = 0;
                match self.left {
                    0 => Next::Trailers(Section::default()),
                    _ => Next::Data,
                }
            }
            (Next::SizeEnds, _) => return Err(Malformed::ChunkSize),
            (Next::DataEnds, b'\r') => Next::DataEnded,
            (Next::DataEnded, b'\n') => Next::Size,
            (next, _) => {
                debug_assert!(
                    matches!(next, Next::DataEnds | Next::DataEnded),
                    "others are read as a whole"
                );
                return Err(Malformed::ChunkEnd);
            }
        })
    }

    fn extended(&mut self) -> Result<Next, Malformed> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(Malformed::Extensions);
        }
        Ok(Next::Extension)
    }
}

/// Refuses fields that must be in the head (RFC 9110, section 6.5.1): who merges trailers into it reads another message than who drops them.
fn check_trailers(section: &[u8]) -> Result<(), Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let fields = match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == section.len() => fields,
        _ => return Err(Malformed::Trailers),
    };
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Trailers)?;
        if name == header::HOST || is_always_hop_by_hop(&name) {
            return Err(Malformed::Trailers);
        }
    }
    Ok(())
}
