//! For the fuzz targets of all crates. Behind the feature `testing`.
//!
//! A target is a test that runs with the others, on the inputs that are kept beside it (`__fuzz__/…/corpus`) and on some random ones. For a
//! long run, and for one that is guided by coverage, see `just fuzz`.

/// Random inputs that a target is tried on when it runs as a test: a second or so.
pub const ITERATIONS: usize = 5_000;

/// A text of the words that matter to a parser and of what comes between them: random bytes alone would hardly ever get behind its first
/// look. Each byte stands for a word, or else for itself; above ASCII for what Unicode has to confuse readers with.
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

/// The bytes in two parts, cut where the first one says.
pub fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((&at, rest)) = bytes.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(at).min(rest.len()))
}

/// As [`split`], into as many parts as it takes: a stream as a network may cut it.
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
