//! Lines that a blank line ends: a head, or the trailer section of a chunked body.

use memchr::memchr_iter;

use super::Malformed;

/// Finds the end of a section. Each byte is examined once, however the section is split.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Section {
    examined: usize,
    /// Where the last line begins.
    line: usize,
}

impl Section {
    /// The length of the section with its blank line, once all of it has come. `came` begins with the section.
    pub(super) fn end(&mut self, came: &[u8]) -> Result<Option<usize>, Malformed> {
        let from = self.examined;
        for at in memchr_iter(b'\n', &came[from..]) {
            let at = from + at;
            if at == 0 || came[at - 1] != b'\r' {
                return Err(Malformed::BareLineFeed);
            }
            if at - 1 == self.line {
                return Ok(Some(at + 1));
            }
            self.line = at + 1;
        }
        self.examined = came.len();
        Ok(None)
    }
}
