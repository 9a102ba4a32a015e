//! Server-sent events (WHATWG HTML, section 9.2), as far as MCP uses them: the data of each event that is a message. MCP clients look at no
//! others, so neither do we.

use bytes::{Buf as _, Bytes, BytesMut};

/// Cuts a stream of bytes into the data of its events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: BytesMut,
    /// Up to here the buffer holds no line end.
    searched: usize,
    /// The last line ended with CR: a LF that comes next belongs to it.
    after_cr: bool,
    data: BytesMut,
    has_data: bool,
    /// The event has another type than `message`.
    is_other: bool,
    started: bool,
}

/// Begins a stream that says it is UTF-8.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Events {
    /// Adds what came. Fails when an unfinished event holds more than `limit`.
    pub(crate) fn push(&mut self, bytes: &[u8], limit: usize) -> Result<(), TooLarge> {
        if self.unfinished() + bytes.len() > limit.saturating_add(64 << 10) {
            return Err(TooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        if !self.started {
            // What may become one is still to come as long as it is all there is.
            self.started = !BOM.starts_with(&self.buffer);
            if self.buffer.starts_with(BOM) {
                self.started = true;
                self.buffer.advance(BOM.len());
                self.searched = 0;
            }
        }
        Ok(())
    }

    /// How many bytes of an event that is not whole have come.
    pub(super) fn unfinished(&self) -> usize {
        self.buffer.len() + self.data.len()
    }

    /// How many bytes of the buffer the next look for a line end passes over once more.
    #[cfg(test)]
    pub(super) fn unsearched(&self) -> usize {
        self.buffer.len() - self.searched
    }

    /// The data of the next whole event; events without data, such as priming events, are passed over.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.after_cr && !self.buffer.is_empty() {
                self.after_cr = false;
                if self.buffer[0] == b'\n' {
                    self.buffer.advance(1);
                }
            }
            let found = self.buffer[self.searched..]
                .iter()
                .position(|b| matches!(b, b'\n' | b'\r'));
            let Some(found) = found else {
                // Each byte is looked at once, however small the pieces are in which a line comes.
                self.searched = self.buffer.len();
                return None;
            };
            let end = self.searched + found;
            self.after_cr = self.buffer[end] == b'\r';
            self.searched = 0;
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if line.is_empty() {
                let is_message = !std::mem::take(&mut self.is_other);
                if std::mem::take(&mut self.has_data) && is_message && !self.data.is_empty() {
                    return Some(self.data.split().freeze());
                }
                self.data.clear();
                continue;
            }
            self.line(line);
        }
    }

    fn line(&mut self, mut line: BytesMut) {
        if let Some(rest) = line.strip_prefix(b"event")
            && matches!(rest, [] | [b':', ..])
        {
            self.is_other = !matches!(rest, b"" | b":" | b": " | b":message" | b": message");
            return;
        }
        let Some(rest) = line.strip_prefix(b"data") else { return };
        let value = match rest {
            [] => 4,
            [b':', b' ', ..] => 6,
            [b':', ..] => 5,
            _ => return,
        };
        line.advance(value);
        if self.has_data {
            self.data.extend_from_slice(b"\n");
            self.data.extend_from_slice(&line);
        } else {
            // The usual event has one line of data: no copy.
            self.has_data = true;
            self.data = line;
        }
    }
}

/// What one event begins with, and what it ends with.
pub(crate) const EVENT: &[u8] = b"event: message\ndata: ";
pub(crate) const EVENT_ENDS: &[u8] = b"\n\n";

/// Appends one event.
pub(crate) fn push_event(out: &mut BytesMut, parts: &[&[u8]]) {
    out.extend_from_slice(EVENT);
    for part in parts {
        if part.iter().any(is_line_end) {
            out.extend(part.iter().map(blank));
        } else {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(EVENT_ENDS);
}

/// A part of a message, as an event can hold it. JSON holds no line ends outside of strings unless the server set them; they are kept as
/// several data lines.
pub(crate) fn in_one_line(part: Bytes) -> Bytes {
    if part.iter().any(is_line_end) {
        part.iter().map(blank).collect()
    } else {
        part
    }
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Only space between JSON tokens can be a bare line end, so a blank says the same.
fn blank(byte: &u8) -> u8 {
    if is_line_end(byte) { b' ' } else { *byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> Vec<String> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in pieces {
            events.push(piece.as_bytes(), 1000).unwrap();
            while let Some(data) = events.next() {
                found.push(String::from_utf8(data.to_vec()).unwrap());
            }
        }
        found
    }

    #[test]
    fn reads_every_spelling() {
        let text = "\u{feff}id: 1\nretry: 10\ndata:\n\n: comment\nevent: message\ndata: {\"a\":1}\n\ndata:x\r\ndata: y\r\n\r\ndata: z\r\rdata: unfinished\n";
        let expected = ["{\"a\":1}", "x\ny", "z"];
        assert_eq!(all(&[text]), expected);
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(all(&bytes), expected, "one character at a time");
    }

    /// What a client would not look at is not for us to look at: a reply in it would be another one than the client's.
    #[test]
    fn events_of_other_types_are_passed_over() {
        let text = "event: ping\ndata: 1\n\nevent:message\ndata: 2\n\nevent\ndata: 3\n\nevent: message \ndata: 4\n\ndata: 5\nevent: preview\n\neventx: y\ndata: 6\n\n";
        assert_eq!(all(&[text]), ["2", "3", "6"]);
    }

    #[test]
    fn a_line_ends_at_cr_whatever_comes() {
        assert_eq!(all(&["data: 1\r\r"]), ["1"]);
        assert_eq!(all(&["data: 1\r", "\n\r", "\ndata: 2\r\n\r", "\n"]), ["1", "2"]);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        events.push(b"data: ", 10).unwrap();
        let flood = vec![b'x'; 65 << 10];
        assert_eq!(events.push(&flood, 10), Err(TooLarge));
    }

    #[test]
    fn writes_events_that_read_back() {
        let mut out = BytesMut::new();
        push_event(&mut out, &[b"{\"a\":\n", b"1}"]);
        let in_pieces = [
            EVENT,
            &in_one_line(Bytes::from_static(b"{\"a\":\n")),
            &in_one_line(Bytes::from_static(b"1}")),
            EVENT_ENDS,
        ];
        assert_eq!(in_pieces.concat(), out);
        let mut events = Events::default();
        events.push(&out, 1000).unwrap();
        assert_eq!(events.next().unwrap(), "{\"a\": 1}");
    }
}
