//! Texts of servers, for people.

use masking::is_hidden;

/// The text in one line, without characters that are invisible or change how others are displayed, at most `max` characters.
pub(super) fn readable(text: &str, max: usize) -> String {
    let shown: String = text
        .chars()
        .map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c })
        .filter(|c| !is_hidden(*c))
        .collect();
    let mut shown: String = shown.trim().chars().take(max).collect();
    shown.truncate(shown.trim_end().len());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_or_reorders() {
        assert_eq!(readable(" ali\u{202e}ce\u{200b}\u{0}\n@x ", 200), "alice @x");
        assert_eq!(readable(&"é".repeat(300), 200).chars().count(), 200);
        assert_eq!(readable("\u{2066}\u{feff}", 200), "");
    }
}
