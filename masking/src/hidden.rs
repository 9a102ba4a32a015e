//! Characters that are not seen.

use std::borrow::Cow;

/// Whether a character is invisible, or changes how others are displayed: control characters except tabs, line and paragraph separators, and
/// Unicode's `Default_Ignorable_Code_Point` and `Bidi_Control`.
pub fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text without them. A secret in which a server writes some is whole again where they are not shown.
pub fn without_hidden(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    // In one allocation: what a smaller one was copied from would not be wiped.
    let mut rest = String::with_capacity(text.len());
    rest.extend(text.chars().filter(|&c| !is_hidden(c)));
    Cow::Owned(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_left_out() {
        assert_eq!(without_hidden("a\0\r\n\u{85}b\tc"), "ab\tc");
        assert_eq!(
            without_hidden("\u{feff}a\u{200b}\u{2028}b\u{202e}\u{2029}c\u{ad}\u{e0041}"),
            "abc"
        );
        // A sign before a number, which is seen.
        assert_eq!(without_hidden("\u{600}1 \u{e9}\u{1f600}"), "\u{600}1 \u{e9}\u{1f600}");
    }
}
