//! Masking a text.

use crate::{
    hidden::{is_hidden, without_hidden},
    needles::{Needles, found},
};

/// What a secret must have where not all are masked, in bytes. In a text that describes parameters, a shorter one is more often the name of one, or
/// another word.
pub const LONG: usize = 8;

/// The text with `with` in place of each secret of at least `shortest` bytes, also of those that hidden characters interrupt; `None` if there are none.
/// Other hidden characters are kept.
pub fn mask(text: &str, with: &str, needles: &[&Needles], shortest: usize) -> Option<String> {
    let plain = without_hidden(text);
    let mut found = found(needles, plain.as_bytes(), plain.len());
    found.retain(|secret| secret.len() >= shortest);
    let mut found = found.into_iter().peekable();
    found.peek()?;
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        while found.next_if(|secret| secret.end <= at).is_some() {}
        let length = if is_hidden(c) { 0 } else { c.len_utf8() };
        match found.peek() {
            Some(secret) if secret.start == at && length > 0 => out.push_str(with),
            Some(secret) if secret.start < at => {}
            _ => out.push(c),
        }
        at += length;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn masks_what_hidden_characters_interrupt_and_keeps_others() {
        let needles = Needles::new(["s3cr3t-canary"]);
        let mask = |text: &str| mask(text, "***", &[&needles], 0);
        assert_eq!(
            mask("keys:\n\ts3cr3t-canary\ns3cr\r\n3t-canary\r\nend").unwrap(),
            "keys:\n\t***\n***\r\nend"
        );
        for hidden in ["\u{200b}", "\u{2028}", "\u{202e}", "\0", "\u{ad}", "\u{e0041}"] {
            let text = format!("key s3cr3t{hidden}-c{hidden}anary.");
            assert_eq!(mask(&text).unwrap(), "key ***.", "{text:?}");
        }
        assert_eq!(mask("nothing\n"), None);
        assert_eq!(super::mask("s3cr3t-canary", "***", &[&needles], 14), None);
    }
}
