//! Helpers for the fuzz targets of all crates. Requires the feature `testing`.
//!
//! A fuzz target is a test that also runs under `cargo test`: on the inputs that are kept beside it
//! (`__fuzz__/…/corpus`) and on some random ones. For a long or a coverage-guided run, see `just fuzz`.

/// The number of random inputs of a target that runs as a test. They take about a second.
pub const ITERATIONS: usize = 5_000;

/// Builds a text from the words that matter to a parser and from other characters, since random bytes would rarely pass
/// a parser's first check. Each byte stands for a word, for a character beyond ASCII that may confuse a parser, or for
/// itself.
pub fn weave(bytes: &[u8], words: &[&str]) -> String {
    const STRANGE: [&str; 8] = [
        "\u{17f}",
        "\u{130}",
        "\u{feff}",
        "\u{2028}",
        "\u{0301}",
        "\u{1f600}",
        "\u{7f}",
        "\u{0}",
    ];
    let mut text = String::new();
    for &byte in bytes {
        let byte = usize::from(byte);
        match words.get(byte) {
            Some(word) => text.push_str(word),
            None if byte < words.len() + STRANGE.len() => text.push_str(STRANGE[byte - words.len()]),
            None => text.push(char::from(u8::try_from(byte & 0x7f).unwrap_or_default())),
        }
    }
    text
}

/// Splits the bytes in two, at the position that the first byte gives.
pub fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((&at, rest)) = bytes.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(at).min(rest.len()))
}

/// Like [`split`], into one part more than there are cuts: a stream as a network may deliver it.
pub fn pieces<'a>(stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (stream, Vec::new());
    for &cut in cuts {
        let (piece, behind) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}
