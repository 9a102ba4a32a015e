//! The form of a destination that people read. It is bounded, because it is stored with each secret and shown beside
//! later versions.

use std::fmt::Write as _;

use contracts::{credential::DestinationPart as Kind, registry::SelfHostedServer};
use serde::{Deserialize, Serialize};

use super::{digest, parts};

/// The longest text, in characters.
const MAX_TEXT: usize = 400;
/// The number of parts that are kept individually.
const MAX_PARTS: usize = 256;

/// A part of a destination, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The number of a `DestinationPart`.
    pub kind: i32,
    /// Distinguishes parts of one kind; empty if there is only one.
    pub name: String,
    /// The content of the part.
    pub text: Text,
}

impl Part {
    /// Whether this is a value that the installing person entered.
    pub fn is_entered(&self) -> bool {
        self.kind == i32::from(Kind::InstallationValue)
    }
}

/// A secret stored on the entry, in this generation of the entry's secrets.
pub fn stored_secret(key: &str, generation: i64) -> Part {
    Part {
        kind: Kind::StoredSecret.into(),
        name: readable(key, MAX_TEXT, true).0,
        text: text(&format!("as stored by change {generation} of the entry's secrets")),
    }
}

/// A text, or its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// At most 400 characters. Invisible characters are written out.
    pub text: String,
    /// The number of bytes that are omitted.
    pub omitted: usize,
    /// The SHA-256 of the whole text, in hex.
    pub sha256: String,
}

/// The bounded form of the parts: those after the first 256 are summarized in one.
pub(super) fn outline(parts: &[parts::Part<'_>]) -> Vec<Part> {
    let shown = parts.len().min(MAX_PARTS);
    let mut outline: Vec<Part> = parts[..shown]
        .iter()
        .map(|part| Part {
            kind: part.kind,
            name: readable(&part.name, MAX_TEXT, true).0,
            text: text(part.shown()),
        })
        .collect();
    let rest = &parts[shown..];
    if !rest.is_empty() {
        let mut all = digest::Digest::new("chandlery destination: rest, version 1");
        for part in rest {
            all.number(u64::from(part.kind.unsigned_abs()));
            all.text(&part.name);
            all.text(part.shown());
        }
        outline.push(Part {
            kind: Kind::Rest.into(),
            name: String::new(),
            text: Text {
                text: format!("{} more", rest.len()),
                omitted: 0,
                sha256: all.hex(),
            },
        });
    }
    outline
}

fn text(whole: &str) -> Text {
    let (text, taken) = readable(whole, MAX_TEXT, false);
    Text {
        text,
        omitted: whole.len() - taken,
        sha256: digest::of_text(whole),
    }
}

/// Shortens a text to one line of at most 400 characters.
pub(super) fn bounded(line: &str) -> String {
    let (text, taken) = readable(line, MAX_TEXT - 2, true);
    if taken < line.len() {
        format!("{text} …")
    } else {
        text
    }
}

/// The command and its arguments.
pub(super) fn command_line(server: &SelfHostedServer) -> String {
    let mut line = server.command.clone();
    for argument in &server.arguments {
        // The rest would be cut off.
        if line.len() > MAX_TEXT * 4 {
            break;
        }
        line.push(' ');
        line.push_str(argument);
    }
    bounded(&line)
}

/// Returns at most `max` characters, in which invisible characters and those that change how others are displayed are
/// written out, and how many bytes they represent.
fn readable(text: &str, max: usize, one_line: bool) -> (String, usize) {
    let mut shown = String::new();
    let (mut length, mut taken) = (0, 0);
    for c in text.chars() {
        let hides = if c == '\n' { one_line } else { masking::is_hidden(c) };
        let next = if hides { 9 } else { 1 };
        if length + next > max {
            break;
        }
        if hides {
            // Writing to a string never fails.
            let _ = write!(shown, "<U+{:04X}>", u32::from(c));
        } else {
            shown.push(c);
        }
        length += next;
        taken += c.len_utf8();
    }
    (shown, taken)
}
