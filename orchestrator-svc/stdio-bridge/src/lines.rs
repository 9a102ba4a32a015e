//! Lines of bounded length.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads lines. Of a line that is too long, only the beginning is kept.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
}

/// One line, without its end.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    /// Whether the line was longer.
    pub(crate) cut: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            limit,
        }
    }

    /// The next line; the last one may lack its end. `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        self.next_shown(|_| ()).await
    }

    /// As [`Self::next`]. `overlong` gets the whole of a line that is too long, in parts.
    pub(crate) async fn next_shown(&mut self, mut overlong: impl FnMut(&[u8])) -> io::Result<Option<Line>> {
        let mut line = Line {
            bytes: Vec::new(),
            cut: false,
        };
        let mut any = false;
        loop {
            let buffer = self.reader.fill_buf().await?;
            if buffer.is_empty() {
                return Ok(any.then(|| line.finish()));
            }
            any = true;
            let end = buffer.iter().position(|&b| b == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let room = self.limit - line.bytes.len();
            let (kept, over) = part.split_at(part.len().min(room));
            line.bytes.extend_from_slice(kept);
            if !over.is_empty() {
                if !std::mem::replace(&mut line.cut, true) {
                    overlong(&line.bytes);
                }
                overlong(over);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(line.finish()));
            }
        }
    }
}

impl Line {
    fn finish(mut self) -> Self {
        if !self.cut && self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_lines_and_cuts_overlong_ones() {
        let long = format!("{}{}", "x".repeat(200_000), "END");
        let mut shown = Vec::new();
        let input = format!("one\r\n\n{long}\nlast");
        let mut lines = Lines::new(input.as_bytes(), 10);
        let mut seen = Vec::new();
        while let Some(line) = lines.next_shown(|part| shown.extend_from_slice(part)).await.unwrap() {
            seen.push((String::from_utf8(line.bytes).unwrap(), line.cut));
        }
        assert_eq!(seen[0], ("one".into(), false));
        assert_eq!(seen[1], (String::new(), false));
        assert_eq!(seen[2], ("xxxxxxxxxx".into(), true));
        assert_eq!(String::from_utf8(shown).unwrap(), long);
        assert_eq!(seen[3], ("last".into(), false));
        assert_eq!(seen.len(), 4);
    }
}
