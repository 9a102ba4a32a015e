//! Lines of bounded length.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    time::timeout,
};

/// Reads lines. Of a line that is too long, only the beginning is kept.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    /// The line that has begun.
    begun: Option<Line>,
}

/// One line, without its end.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    /// Whether the line was longer.
    pub(crate) cut: bool,
    /// How many bytes had come at the last [`Next::Silence`]; 0 if there was none.
    pub(crate) silent_at: usize,
}

/// What is read next.
pub(crate) enum Next {
    Line(Line),
    /// Nothing has come for a while.
    Silence,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            limit,
            begun: None,
        }
    }

    /// The next line; the last one may lack its end. `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            match self.next_shown(None, false, |_| ()).await? {
                Some(Next::Line(line)) => return Ok(Some(line)),
                Some(Next::Silence) => {}
                None => return Ok(None),
            }
        }
    }

    /// As [`Self::next`]. `overlong` gets the whole of a line that is too long, in parts. Returns after each `silence` within a line, or anywhere
    /// if `open`.
    pub(crate) async fn next_shown(
        &mut self,
        silence: Option<Duration>,
        open: bool,
        mut overlong: impl FnMut(&[u8]),
    ) -> io::Result<Option<Next>> {
        loop {
            let more = self.reader.fill_buf();
            let buffer = match silence.filter(|_| open || self.begun.is_some()) {
                None => more.await?,
                Some(silence) => match timeout(silence, more).await {
                    Ok(buffer) => buffer?,
                    Err(_) => {
                        if let Some(line) = &mut self.begun {
                            line.silent_at = line.bytes.len();
                        }
                        return Ok(Some(Next::Silence));
                    }
                },
            };
            if buffer.is_empty() {
                return Ok(self.begun.take().map(Line::finish).map(Next::Line));
            }
            let line = self.begun.get_or_insert_default();
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
                return Ok(self.begun.take().map(Line::finish).map(Next::Line));
            }
        }
    }

    /// Ends the line that has begun here, and returns it: what comes next begins another. `None`: there is none, or not all of it is kept.
    pub(crate) fn break_off(&mut self) -> Option<Line> {
        self.begun.take_if(|line| !line.cut)
    }

    /// The line that has begun.
    pub(crate) fn begun(&self) -> Option<&Line> {
        self.begun.as_ref()
    }
}

impl Line {
    fn finish(mut self) -> Self {
        if !self.cut && self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
            self.silent_at = self.silent_at.min(self.bytes.len());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn reads_lines_and_cuts_overlong_ones() {
        let long = format!("{}{}", "x".repeat(200_000), "END");
        let mut shown = Vec::new();
        let input = format!("one\r\n\n{long}\nlast");
        let mut lines = Lines::new(input.as_bytes(), 10);
        let mut seen = Vec::new();
        while let Some(Next::Line(line)) = lines
            .next_shown(None, false, |part| shown.extend_from_slice(part))
            .await
            .unwrap()
        {
            seen.push((String::from_utf8(line.bytes).unwrap(), line.cut));
        }
        assert_eq!(seen[0], ("one".into(), false));
        assert_eq!(seen[1], (String::new(), false));
        assert_eq!(seen[2], ("xxxxxxxxxx".into(), true));
        assert_eq!(String::from_utf8(shown).unwrap(), long);
        assert_eq!(seen[3], ("last".into(), false));
        assert_eq!(seen.len(), 4);
    }

    #[tokio::test]
    async fn a_silence_ends_no_line() {
        let (mut server, reader) = tokio::io::duplex(64);
        let mut lines = Lines::new(reader, 64);
        let silence = Some(Duration::from_millis(1));
        server.write_all(b"one, ").await.unwrap();
        let next = lines.next_shown(silence, false, |_| ()).await.unwrap();
        assert!(matches!(next, Some(Next::Silence)));
        assert_eq!(lines.begun().unwrap().bytes, b"one, ");
        server.write_all(b"two\n").await.unwrap();
        let Some(Next::Line(line)) = lines.next_shown(silence, false, |_| ()).await.unwrap() else {
            panic!("it has an end")
        };
        assert_eq!((&line.bytes[..], line.silent_at), (&b"one, two"[..], 5));
    }

    #[tokio::test]
    async fn what_follows_where_a_line_breaks_off_is_another() {
        let (mut server, reader) = tokio::io::duplex(64);
        let mut lines = Lines::new(reader, 8);
        let silence = Some(Duration::from_millis(1));
        for (written, kept) in [("broken", true), ("too long a line", false)] {
            server.write_all(written.as_bytes()).await.unwrap();
            let next = lines.next_shown(silence, false, |_| ()).await.unwrap();
            assert!(matches!(next, Some(Next::Silence)));
            let broken = lines.break_off().map(|line| line.bytes);
            assert_eq!(broken, kept.then(|| written.into()));
        }
        assert!(lines.begun().is_some());
    }

    #[tokio::test]
    async fn a_silence_within_the_end_of_a_line_comes_after_the_whole_line() {
        for end in ["\n", ""] {
            let (mut server, reader) = tokio::io::duplex(64);
            let mut lines = Lines::new(reader, 64);
            let silence = Some(Duration::from_millis(1));
            server.write_all(b"x\r").await.unwrap();
            let next = lines.next_shown(silence, false, |_| ()).await.unwrap();
            assert!(matches!(next, Some(Next::Silence)));
            server.write_all(end.as_bytes()).await.unwrap();
            drop(server);
            let Some(Next::Line(line)) = lines.next_shown(None, false, |_| ()).await.unwrap() else {
                panic!("it has an end")
            };
            assert_eq!((&line.bytes[..], line.silent_at), (&b"x"[..], 1), "{end:?}");
        }
    }
}
