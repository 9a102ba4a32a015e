//! Server-sent events (WHATWG HTML, section 9.2) that pass: the data of each is a message, however many lines it has.

use super::held::{Held, Rules};

/// The byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// This many bytes decide what a line is.
const HEAD: usize = BOM.len() + b"data: ".len();

/// A stream of events. Comments and fields that are no data pass at once: their order to the data of an event means nothing. Other lines mean nothing, and
/// are dropped: whoever reads them as more must not have them before the data.
pub(super) struct Events {
    held: Held,
    /// The beginning of a line whose kind is not known yet.
    head: Vec<u8>,
    line: Line,
    /// The last line ended with CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The first line, which may begin with a byte order mark, has come.
    started: bool,
    /// The event has data.
    has_data: bool,
    /// Some of the event's data was passed on; and whether its last line has no end yet.
    passed: bool,
    open: bool,
    shape: Shape,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Unknown,
    Data,
    Other,
    Dropped,
}

/// What a body is, from its first byte that is not blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Unknown,
    Events,
    /// One message: some servers announce a stream and send bare JSON, which the gateway accepts.
    Bare,
}

impl Events {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            held: Held::new(rules),
            head: Vec::with_capacity(HEAD),
            line: Line::Unknown,
            after_cr: false,
            started: false,
            has_data: false,
            passed: false,
            open: false,
            shape: Shape::Unknown,
        }
    }

    pub(super) fn is_long(&self) -> bool {
        self.held.is_long()
    }

    /// Takes a piece of the body, and returns what can be passed on.
    pub(super) fn push(&mut self, data: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), data);
        if self.shape == Shape::Unknown
            && let Some(start) = data.iter().position(|byte| !is_blank(byte))
        {
            self.shape = Shape::Events;
            if data[start] == b'{' {
                self.shape = Shape::Bare;
                self.lines(&data[..start], &mut out);
                out.append(&mut self.head);
                rest = &data[start..];
            }
        }
        if self.shape == Shape::Bare {
            out.extend(self.held.push(rest).unwrap_or_default());
        } else {
            self.lines(rest, &mut out);
        }
        out
    }

    /// What is held, masked.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.shape == Shape::Bare {
            return self.held.finish().unwrap_or_default();
        }
        // No event: a blank line would have ended it.
        if !self.head.is_empty() {
            self.knows_line(&mut out);
        }
        self.ends_event(&mut out);
        out
    }

    fn lines(&mut self, data: &[u8], out: &mut Vec<u8>) {
        for part in data.split_inclusive(is_line_end) {
            let end = part.last().copied().filter(is_line_end);
            let text = &part[..part.len() - usize::from(end.is_some())];
            if std::mem::take(&mut self.after_cr) && part == b"\n" {
                continue;
            }
            let (head, rest) = match self.line {
                Line::Unknown => text.split_at(text.len().min(HEAD - self.head.len())),
                Line::Data | Line::Other | Line::Dropped => (&[][..], text),
            };
            self.head.extend_from_slice(head);
            if self.line == Line::Unknown && (end.is_some() || self.head.len() == HEAD) {
                self.knows_line(out);
            }
            match self.line {
                Line::Unknown | Line::Dropped => {}
                Line::Data => self.data(rest, out),
                Line::Other => out.extend_from_slice(rest),
            }
            if let Some(end) = end {
                self.after_cr = end == b'\r';
                if self.line == Line::Other {
                    out.push(b'\n');
                }
                self.line = Line::Unknown;
            }
        }
    }

    /// Determines the kind of the line from its head, which is all of it or long enough.
    fn knows_line(&mut self, out: &mut Vec<u8>) {
        let head = std::mem::take(&mut self.head);
        let mut line = &head[..];
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if let Some(rest) = line.strip_prefix(b"data")
            && matches!(rest, [] | [b':', ..])
        {
            self.line = Line::Data;
            let value = rest.strip_prefix(b":").unwrap_or(rest);
            self.close(out);
            if std::mem::replace(&mut self.has_data, true) && !self.passed {
                self.data(b"\n", out);
            }
            return self.data(value.strip_prefix(b" ").unwrap_or(value), out);
        }
        if line.is_empty() {
            self.ends_event(out);
        } else if !is_known(line) {
            self.line = Line::Dropped;
            return;
        }
        self.line = Line::Other;
        self.close(out);
        out.extend_from_slice(line);
    }

    /// Takes data of the event.
    fn data(&mut self, data: &[u8], out: &mut Vec<u8>) {
        if let Some(passed) = self.held.push(data) {
            self.pass(&passed, out);
        }
    }

    /// A blank line ends an event.
    fn ends_event(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.finish().filter(|_| self.has_data) {
            self.pass(&held, out);
        }
        self.close(out);
        (self.has_data, self.passed) = (false, false);
    }

    /// Passes data on.
    fn pass(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.passed = true;
        for (i, line) in data.split(|&byte| byte == b'\n').enumerate() {
            if i > 0 {
                self.close(out);
            }
            if !std::mem::replace(&mut self.open, true) {
                out.extend_from_slice(b"data: ");
            }
            out.extend_from_slice(line);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.open) {
            out.push(b'\n');
        }
    }
}

/// Whether the line that begins so is a comment or a field of the specification.
fn is_known(line: &[u8]) -> bool {
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
    matches!(name, b"" | b"event" | b"id" | b"retry")
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// White space, or a part of a byte order mark.
fn is_blank(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || BOM.contains(byte)
}
