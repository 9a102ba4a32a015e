//! A line that is too long to be kept, and may have several messages.

use crate::scan::Scan;

/// Messages before the last one of a line that are remembered: as many as there can be requests.
const MOST: usize = 1024;

/// What was read of the line.
#[derive(Default)]
pub(super) struct Overlong {
    /// The messages that are closed, and where each ends.
    closed: Vec<(usize, Scan)>,
    /// What follows them.
    last: Scan,
    length: usize,
}

impl Overlong {
    /// Reads further bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let read = self.last.push(rest);
            self.length += read;
            rest = &rest[read..];
            if rest.is_empty() || !self.last.is_closed() || self.closed.len() == MOST {
                // What is not JSON has no messages behind it.
                self.length += rest.len();
                return;
            }
            self.closed.push((self.length, std::mem::take(&mut self.last)));
        }
    }

    /// What follows the last message that is closed, if there is another behind it; else that message.
    pub(super) const fn last(&self) -> &Scan {
        &self.last
    }

    /// The messages that end behind this many bytes, and what follows the last of them.
    pub(super) fn behind(self, received: usize) -> (impl Iterator<Item = Scan>, Scan) {
        let closed = self.closed.into_iter();
        let behind = closed.filter(move |(end, _)| *end > received).map(|(_, scan)| scan);
        (behind, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_messages_of_a_line_apart() {
        let message = |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        let line = format!("{}{} {}", message(1), message(2), message(3));
        for size in [1, 7, line.len()] {
            let mut overlong = Overlong::default();
            for part in line.as_bytes().chunks(size) {
                overlong.push(part);
            }
            let first = message(1).len();
            let (behind, last) = overlong.behind(first);
            let ids: Vec<u64> = behind
                .chain([last])
                .flat_map(|scan| scan.answers().collect::<Vec<_>>())
                .collect();
            assert_eq!(ids, [2, 3], "{size}");
        }
    }
}
