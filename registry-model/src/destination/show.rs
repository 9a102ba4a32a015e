//! What people read of a destination, bounded: it is kept with each secret, and shown beside what came later.

use std::fmt::Write as _;

use contracts::{credential::DestinationPart as Kind, registry::SelfHostedServer};
use serde::{Deserialize, Serialize};

use super::{digest, parts};

/// Characters of a text.
const MAX_TEXT: usize = 400;
/// Parts that are kept apart.
const MAX_PARTS: usize = 256;

/// A part of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Number of a `DestinationPart`.
    pub kind: i32,
    /// Which one of its kind; empty where there is but one.
    pub name: String,
    /// What it is.
    pub text: Text,
}

impl Part {
    /// Whether it is a value that whoever installed has entered.
    pub fn is_entered(&self) -> bool {
        self.kind == i32::from(Kind::InstallationValue)
    }
}

/// A secret stored on the entry, which came by the put that made this generation.
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
    /// At most 400 characters, in which nothing hides.
    pub text: String,
    /// Bytes that are left out.
    pub omitted: usize,
    /// SHA-256 of all of it, in hex.
    pub sha256: String,
}

/// The parts, bounded: what is behind the first 256 is one.
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

/// A line of at most 400 characters.
pub(super) fn bounded(line: &str) -> String {
    let (text, taken) = readable(line, MAX_TEXT - 2, true);
    if taken < line.len() {
        format!("{text} …")
    } else {
        text
    }
}

/// The command with its arguments.
pub(super) fn command_line(server: &SelfHostedServer) -> String {
    let mut line = server.command.clone();
    for argument in &server.arguments {
        // More is not shown.
        if line.len() > MAX_TEXT * 4 {
            break;
        }
        line.push(' ');
        line.push_str(argument);
    }
    bounded(&line)
}

/// At most `max` characters, in which whatever could not be seen, or could change how the rest is seen, is written out; and how
/// many bytes were taken.
fn readable(text: &str, max: usize, one_line: bool) -> (String, usize) {
    let mut shown = String::new();
    let (mut length, mut taken) = (0, 0);
    for c in text.chars() {
        let hides = is_hidden(c) || (one_line && c == '\n');
        let next = if hides { 9 } else { 1 };
        if length + next > max {
            break;
        }
        if hides {
            // To a string, this never fails.
            let _ = write!(shown, "<U+{:04X}>", u32::from(c));
        } else {
            shown.push(c);
        }
        length += next;
        taken += c.len_utf8();
    }
    (shown, taken)
}

/// Control characters other than line feed and tab, and what is invisible or changes the direction (Unicode, Default_Ignorable_Code_Point and
/// Bidi_Control).
fn is_hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}
