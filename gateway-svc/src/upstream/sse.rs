//! Server-sent events (WHATWG HTML, section 9.2), as far as MCP uses them: the data of each event that is a message. MCP clients ignore all
//! others, and so does the gateway.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memchr2;
use service_kit::turns::SHORT;

use super::mark::Mark;

/// Splits a stream of bytes into the data of its events. Other lines are not kept, and an event has the memory of no other: its own, of less than twice
/// its length, or not much more than that where it is long; or what it came in, if most of that is the event. The memory of events is accounted for by
/// their lengths.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Received, not yet examined.
    came: Bytes,
    /// How many bytes were received with it.
    piece: usize,
    line: Line,
    /// The beginning of a line whose kind is not known yet.
    head: BytesMut,
    /// The last line ended with CR: a LF that follows belongs to it.
    after_cr: bool,
    data: Data,
    has_data: bool,
    /// The event has another type than `message`.
    is_other: bool,
    /// The first line, which may begin with a byte order mark, has been read.
    started: bool,
    mark: Mark,
}

/// The data of an event, as far as it has come.
#[derive(Debug, Default)]
struct Data {
    joined: BytesMut,
    /// All of it, where it is long and has come in one piece that is little else.
    whole: Option<Bytes>,
}

impl Data {
    /// Of less, a copy costs little.
    const LONG: usize = SHORT;

    fn len(&self) -> usize {
        self.joined.len() + self.whole.as_ref().map_or(0, Bytes::len)
    }

    /// Adds a part of a piece with so many bytes.
    fn push(&mut self, part: Bytes, piece: usize) {
        if self.len() == 0 && part.len() >= Self::LONG && part.len() >= piece / 2 {
            self.whole = Some(part);
        } else {
            self.extend(&part);
        }
    }

    fn extend(&mut self, part: &[u8]) {
        if let Some(whole) = self.whole.take() {
            self.joined.reserve(whole.len() + part.len());
            self.joined.extend_from_slice(&whole);
        }
        self.joined.extend_from_slice(part);
    }

    fn take(&mut self) -> Bytes {
        let Self { joined, whole } = std::mem::take(self);
        whole.unwrap_or_else(|| tight(joined))
    }
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Unknown,
    Data,
    Id,
    /// Ignored.
    Other,
}

/// The byte order mark of UTF-8.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// This many bytes decide what a line is: one more than the longest line, after a byte order mark, that makes an event a message.
const HEAD: usize = BOM.len() + b"event: message".len() + 1;

/// One event is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Events {
    /// Adds received bytes, once `next` has returned `None`. Fails if an unfinished event is longer than `limit`.
    pub(crate) fn push(&mut self, came: Bytes, limit: usize) -> Result<(), TooLarge> {
        debug_assert!(self.came.is_empty(), "earlier bytes are examined first");
        if self.unfinished() + came.len() > limit.saturating_add(64 << 10) {
            return Err(TooLarge);
        }
        self.piece = came.len();
        self.came = came;
        Ok(())
    }

    /// How many bytes of an incomplete event are kept.
    pub(super) fn unfinished(&self) -> usize {
        self.head.len() + self.data.len()
    }

    /// How many bytes the next look for a line end passes over once more.
    #[cfg(test)]
    pub(super) fn unsearched(&self) -> usize {
        self.came.len()
    }

    /// The data of the next complete event; events without data, such as priming events, are skipped.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        loop {
            let first = *self.came.first()?;
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                self.came.advance(1);
                continue;
            }
            // The value stays, so that it can be one piece with the rest of the line.
            if self.line == Line::Unknown
                && self.head.is_empty()
                && !self.has_data
                && let Some(start) = value_of_data(&self.came)
            {
                self.came.advance(start);
                (self.line, self.has_data, self.started) = (Line::Data, true, true);
                continue;
            }
            // Each byte is examined once, however small the pieces of a line are.
            let most = match self.line {
                Line::Unknown => self.came.len().min(HEAD - self.head.len()),
                Line::Data | Line::Id | Line::Other => self.came.len(),
            };
            let end = line_end(&self.came[..most]);
            let part = self.came.split_to(end.unwrap_or(most));
            match self.line {
                Line::Unknown => self.head.extend_from_slice(&part),
                Line::Data => self.data.push(part, self.piece),
                Line::Id => self.mark.extend_id(&part),
                Line::Other => {}
            }
            if end.is_some() {
                self.after_cr = self.came[0] == b'\r';
                self.came.advance(1);
                if self.line == Line::Unknown {
                    let is_blank = self.knows_line(true);
                    if is_blank && let Some(event) = self.ends_event() {
                        self.line = Line::Unknown;
                        return Some(event);
                    }
                }
                self.line = Line::Unknown;
            } else if self.line == Line::Unknown && self.head.len() == HEAD {
                self.knows_line(false);
            }
        }
    }

    /// Where the stream is.
    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The stream has ended, and another continues it behind the last event that ended.
    pub(super) fn restart(&mut self) {
        self.mark.forget_event();
        *self = Self {
            mark: std::mem::take(&mut self.mark),
            ..Self::default()
        };
    }

    /// Determines the kind of the line from its head, which is long enough, or `whole`. Returns whether it is blank.
    fn knows_line(&mut self, whole: bool) -> bool {
        let head = std::mem::take(&mut self.head);
        let mut line = &head[..];
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        self.line = Line::Other;
        if let Some(rest) = line.strip_prefix(b"event")
            && matches!(rest, [] | [b':', ..])
        {
            self.is_other = !matches!(rest, b"" | b":" | b": " | b":message" | b": message");
        }
        if let Some(rest) = line.strip_prefix(b"data")
            && matches!(rest, [] | [b':', ..])
        {
            self.line = Line::Data;
            let value = rest.strip_prefix(b":").unwrap_or(rest);
            if std::mem::replace(&mut self.has_data, true) {
                self.data.extend(b"\n");
            }
            self.data.extend(value.strip_prefix(b" ").unwrap_or(value));
        }
        if let Some(rest) = line.strip_prefix(b"id")
            && matches!(rest, [] | [b':', ..])
        {
            self.line = Line::Id;
            let value = rest.strip_prefix(b":").unwrap_or(rest);
            self.mark.begin_id(value.strip_prefix(b" ").unwrap_or(value));
        }
        if let Some(value) = line.strip_prefix(b"retry:").filter(|_| whole) {
            self.mark.set_retry(value.strip_prefix(b" ").unwrap_or(value));
        }
        line.is_empty()
    }

    /// A blank line ends an event: its data, where it is a message.
    fn ends_event(&mut self) -> Option<Bytes> {
        self.mark.end_event();
        let data = self.data.take();
        let is_message = !std::mem::take(&mut self.is_other);
        let has_data = std::mem::take(&mut self.has_data);
        (has_data && is_message && !data.is_empty()).then_some(data)
    }
}

/// Where the value begins of the line that begins here, if it is one with data, and what it begins with has come.
fn value_of_data(came: &[u8]) -> Option<usize> {
    match came.strip_prefix(b"data:")? {
        [] => None,
        [b' ', ..] => Some(b"data: ".len()),
        _ => Some(b"data:".len()),
    }
}

/// Without the rest of its allocation, where that is large: an event may wait for long.
fn tight(data: BytesMut) -> Bytes {
    if data.capacity() - data.len() < SHORT {
        return data.freeze();
    }
    let mut data = Vec::from(data);
    data.shrink_to_fit();
    data.into()
}

/// What one event begins with, and what it ends with.
pub(crate) const EVENT: &[u8] = b"event: message\ndata: ";
pub(crate) const EVENT_ENDS: &[u8] = b"\n\n";

/// Appends one event.
pub(crate) fn push_event(out: &mut BytesMut, parts: &[&[u8]]) {
    out.extend_from_slice(EVENT);
    for part in parts {
        if line_end(part).is_some() {
            out.extend(part.iter().map(blank));
        } else {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(EVENT_ENDS);
}

/// A part of a message, as an event can hold it. JSON has no line ends outside of strings unless the server set them; they are kept as
/// several data lines.
pub(crate) fn in_one_line(part: Bytes) -> Bytes {
    if line_end(&part).is_some() {
        part.iter().map(blank).collect()
    } else {
        part
    }
}

/// Where the first line of this ends, if it does.
fn line_end(text: &[u8]) -> Option<usize> {
    memchr2(b'\n', b'\r', text)
}

/// Only space between JSON tokens can be a bare line end, so a blank says the same.
fn blank(byte: &u8) -> u8 {
    if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> Vec<String> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in pieces {
            events.push(Bytes::copy_from_slice(piece.as_bytes()), 1000).unwrap();
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

    #[test]
    fn a_long_event_is_not_copied_if_it_comes_in_one_piece_that_is_little_else() {
        let long = "x".repeat(Data::LONG);
        let next = |text: &str, cut: usize| {
            let mut events = Events::default();
            let text = Bytes::copy_from_slice(text.as_bytes());
            let pieces = [text.slice(..cut), text.slice(cut..)];
            let found = pieces.into_iter().find_map(|piece| {
                events.push(piece, 1 << 20).unwrap();
                events.next()
            });
            let found = found.unwrap();
            let is_copy = !text.as_ptr_range().contains(&found.as_ptr());
            (String::from_utf8(found.to_vec()).unwrap(), is_copy)
        };
        for (start, end) in [
            ("event: message\ndata: ", "\n\n"),
            ("data:", "\r\rdata: 2\n\n"),
            ("id: 1\r\ndata: ", "\r\n\r\n"),
        ] {
            let text = format!("{start}{long}{end}");
            assert_eq!(next(&text, 0), (long.clone(), false));
            for cut in [1, start.len() - 1, start.len(), start.len() + 1] {
                assert_eq!(next(&text, cut).0, long, "{start:?} {cut}");
            }
            assert_eq!(next(&text, 1000), (long.clone(), true));
        }
        let two = format!("data: {long}\ndata: y\n\n");
        assert_eq!(next(&two, 0), (format!("{long}\ny"), true));
        let short = format!("data: {}\n\n", &long[1..]);
        assert_eq!(next(&short, 0), (long[1..].to_owned(), true));
        let among_others = format!(": {long}{long}\ndata: {long}\n\n");
        assert_eq!(next(&among_others, 0), (long.clone(), true));
    }

    /// What clients ignore is ignored here, too: a reply in it would differ from the one that the client reads.
    #[test]
    fn events_of_other_types_are_passed_over() {
        let text = "event: ping\ndata: 1\n\nevent:message\ndata: 2\n\nevent\ndata: 3\n\nevent: message \ndata: 4\n\ndata: 5\nevent: preview\n\neventx: y\ndata: 6\n\n";
        assert_eq!(all(&[text]), ["2", "3", "6"]);
    }

    /// Behind an event that has ended; one that was cut off comes again.
    #[test]
    fn a_stream_says_where_it_can_be_resumed() {
        let long = "x".repeat(1024);
        for (stream, last, retry) in [
            ("data: 1\n\n".to_owned(), None, None),
            ("id: e1\nretry: 30\ndata:\n\n".to_owned(), Some("e1"), Some(30)),
            ("id:e1\r\n\r\nid: e2\ndata: 2".to_owned(), Some("e1"), None),
            ("id: e1\n\ndata: 2\n\nretry: soon\n".to_owned(), Some("e1"), None),
            ("id: e1\n\nid\n\nretry: 9\n".to_owned(), None, Some(9)),
            (
                format!("id: {long}\n\nretry: 99999999999999999999\n"),
                Some(&long[..]),
                None,
            ),
            (format!("id: e1\n\nid: {long}x\n\n"), None, None),
            ("id: a\u{0}b\n\nidea: 1\n\n".to_owned(), None, None),
        ] {
            for step in [1, stream.len()] {
                let mut events = Events::default();
                for piece in stream.as_bytes().chunks(step) {
                    events.push(Bytes::copy_from_slice(piece), 1000).unwrap();
                    while events.next().is_some() {}
                }
                events.restart();
                let found = events.mark().last();
                assert_eq!(found.as_ref().map(|last| last.to_str().unwrap()), last, "{stream}");
                assert_eq!(events.mark().retry().map(|retry| retry.as_millis()), retry, "{stream}");
                events.push(Bytes::from_static(b"data: 3\n\n"), 1000).unwrap();
                assert_eq!(events.next().unwrap(), "3", "nothing of before is in it");
            }
        }
    }

    #[test]
    fn a_line_ends_at_cr_whatever_follows() {
        assert_eq!(all(&["data: 1\r\r"]), ["1"]);
        assert_eq!(all(&["data: 1\r", "\n\r", "\ndata: 2\r\n\r", "\n"]), ["1", "2"]);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        events.push(Bytes::from_static(b"data: 0123456789abcdef"), 10).unwrap();
        assert_eq!(events.next(), None);
        let flood = vec![b'x'; 64 << 10];
        assert_eq!(events.push(flood.into(), 10), Err(TooLarge));
    }

    /// An event that kept the buffer it was received in would take memory that is not accounted for.
    #[test]
    fn what_is_held_is_hardly_more_than_what_is_counted() {
        const LONG: usize = 1 << 20;
        let reply = format!("data: {}\n\n", "r".repeat(90));
        let long = "x".repeat(LONG);
        let before = [
            format!(": {long}\n"),
            format!("id: {long}\n"),
            format!("event: {long}\nevent: message\n"),
            format!("event: ping\ndata: {long}\n\n"),
            format!("data: {long}\n\n"),
            "\n".repeat(LONG),
            format!("data: {long}\nevent: ping\n\ndata: small\n\n"),
        ];
        for before in before {
            let mut events = Events::default();
            let stream = Bytes::from(format!("{before}{reply}: {long}"));
            let is_counted = before.contains("data: x");
            let mut found = Vec::new();
            for start in (0..stream.len()).step_by(32 << 10) {
                let piece = stream.slice(start..stream.len().min(start + (32 << 10)));
                events.push(piece, 2 * LONG).unwrap();
                while let Some(event) = events.next() {
                    found.push(event);
                }
                assert!(is_counted || events.unfinished() <= HEAD + 100, "nothing of it is kept");
                assert!(events.data.joined.capacity() <= 2 * events.data.len().max(8));
            }
            assert_eq!(found.last().map(Bytes::len), Some(90));
            for event in found {
                let length = event.len();
                let whole = event.try_into_mut().expect("nobody else has its allocation");
                assert!(whole.capacity() <= 2 * length, "{} for {length}", whole.capacity());
            }
        }
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
        events.push(out.freeze(), 1000).unwrap();
        assert_eq!(events.next().unwrap(), "{\"a\": 1}");
    }
}
