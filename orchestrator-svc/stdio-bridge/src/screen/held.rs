//! A message that is held until its end has come, since only then it is known what it is.

use std::sync::Arc;

use crate::{
    aside::LONG,
    envelope::{Members, error},
    redact::Redactor,
    refusal::{self, BAD_ANSWER},
};

/// What is longer passes as it is, before its end: the result of a call. The gateway quotes no error in a message of more than half of this (`LONGEST_QUOTED`
/// in gateway-svc).
const HELD: usize = 64 << 10;
/// The same for a description of the server, which does not pass. The gateway accepts no longer message.
const DESCRIPTION: usize = 16 << 20;

/// What is masked of the answer to one request.
pub(crate) struct Rules {
    pub(crate) redactor: Arc<Redactor>,
    /// The id (JSON) of a request whose result describes the server, see [`refusal::describes`].
    pub(crate) description: Option<String>,
}

/// A message of which more may come.
pub(super) struct Held {
    rules: Rules,
    bytes: Vec<u8>,
    fate: Fate,
}

/// What becomes of the rest of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Held,
    Passed,
    Dropped,
}

impl Rules {
    /// Whether a message of this length passes as it is.
    fn let_pass(&self, length: usize) -> bool {
        self.description.is_none() && length > HELD
    }

    /// The message, with its secrets masked; `None` if there is nothing to mask.
    fn masked(&self, message: &[u8]) -> Option<String> {
        match Members::parse(message) {
            Some(message) => refusal::masked(&message, self.description.is_some(), &self.redactor),
            None => refusal::masked_text(&String::from_utf8_lossy(message), &self.redactor),
        }
    }
}

impl Held {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            bytes: Vec::new(),
            fate: Fate::Held,
        }
    }

    /// Whether so much is held that to mask it may take long.
    pub(super) fn is_long(&self) -> bool {
        self.bytes.len() > LONG
    }

    /// Takes a part of the message, and returns what can be passed on.
    pub(super) fn push(&mut self, part: &[u8]) -> Option<Vec<u8>> {
        match self.fate {
            Fate::Passed => return Some(part.to_vec()),
            Fate::Dropped => return None,
            Fate::Held => self.bytes.extend_from_slice(part),
        }
        let length = self.bytes.len();
        match &self.rules.description {
            _ if self.rules.let_pass(length) => {
                self.fate = Fate::Passed;
                Some(std::mem::take(&mut self.bytes))
            }
            Some(id) if length > DESCRIPTION => {
                self.fate = Fate::Dropped;
                self.bytes = Vec::new();
                let why = format!("The MCP server is at fault: its answer is longer than {DESCRIPTION} bytes.");
                Some(error(id, BAD_ANSWER, &why).into_bytes())
            }
            _ => None,
        }
    }

    /// Ends the message, and returns what is held of it, masked. The next one begins.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        let held = std::mem::take(&mut self.bytes);
        (std::mem::replace(&mut self.fate, Fate::Held) == Fate::Held).then(|| match self.rules.masked(&held) {
            Some(masked) => masked.into_bytes(),
            None => held,
        })
    }
}
