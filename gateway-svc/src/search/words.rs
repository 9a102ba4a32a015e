//! Words of texts and of names.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Characters of a word that count: what is longer is no word of a language.
const LONGEST: usize = 40;

/// Calls `each` with the words of a text: runs of letters and digits, in lower case and NFKC, plurals of English as singulars. A word in camel
/// case is itself and its parts. Of scripts without spaces, each character is a word.
pub(super) fn words(text: &str, mut each: impl FnMut(&str)) {
    if text.is_ascii() {
        runs(text.chars(), &mut each);
    } else {
        runs(text.nfkc(), &mut each);
    }
}

fn runs(text: impl Iterator<Item = char>, each: &mut impl FnMut(&str)) {
    let mut run = Run::default();
    for c in text {
        if stands_alone(c) {
            run.end(each);
            each(c.encode_utf8(&mut [0; 4]));
        } else if c.is_alphanumeric() || is_combining_mark(c) {
            run.push(c);
        } else {
            run.end(each);
        }
    }
    run.end(each);
}

/// Letters and digits without anything between them.
#[derive(Default)]
struct Run {
    /// As they are written.
    written: Vec<char>,
    lower: String,
}

impl Run {
    fn push(&mut self, c: char) {
        if self.written.len() < LONGEST {
            self.written.push(c);
        }
    }

    /// Gives its words away.
    fn end(&mut self, each: &mut impl FnMut(&str)) {
        let written = std::mem::take(&mut self.written);
        let mut first = 0;
        for at in 1..written.len() {
            if begins_part(&written, at) {
                self.word(&written[first..at], each);
                first = at;
            }
        }
        if first > 0 {
            self.word(&written[first..], each);
        }
        if !written.is_empty() {
            self.word(&written, each);
        }
        self.written = written;
        self.written.clear();
    }

    fn word(&mut self, written: &[char], each: &mut impl FnMut(&str)) {
        self.lower.clear();
        self.lower.extend(written.iter().copied().flat_map(char::to_lowercase));
        each(singular(&mut self.lower));
    }
}

/// Whether a part of a word in camel case begins here: `create|Issue`, `HTTP|Server`.
fn begins_part(written: &[char], at: usize) -> bool {
    let upper = |index: usize| written.get(index).is_some_and(|c| c.is_uppercase());
    let lower = |index: usize| written.get(index).is_some_and(|c| c.is_lowercase());
    upper(at) && (!upper(at - 1) || lower(at + 1))
}

/// The word without the end of a plural, by the rules that are right for most words. Index and query go by the same, so that a wrong singular
/// finds what it should all the same.
fn singular(word: &mut String) -> &str {
    if word.len() > 4 && word.ends_with("ies") && word.is_ascii() {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if word.len() > 3
        && word.ends_with('s')
        && !["ss", "us", "is"].iter().any(|end| word.ends_with(end))
        && word.is_ascii()
    {
        word.truncate(word.len() - 1);
    }
    word
}

/// Han, Kana and Hangul, which are written without spaces or with compounds.
fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        words(text, |word| all.push(word.to_owned()));
        all
    }

    #[test]
    fn names_are_split_however_they_are_written() {
        for name in ["create_issue", "create-issue", "create.issue", "Create issue!"] {
            assert_eq!(of(name), ["create", "issue"], "{name}");
        }
        assert_eq!(of("createIssue"), ["create", "issue", "createissue"]);
        assert_eq!(of("HTTPServer2"), ["http", "server2", "httpserver2"]);
        assert_eq!(of("GitHub"), ["git", "hub", "github"]);
        assert_eq!(of("OAuth2 S3 v1"), ["o", "auth2", "oauth2", "s3", "v1"]);
        assert_eq!(of(" _-. "), Vec::<String>::new());
    }

    #[test]
    fn plurals_are_singulars() {
        assert_eq!(
            of("issues queries process status this series gas"),
            ["issue", "query", "process", "status", "this", "sery", "gas"]
        );
    }

    #[test]
    fn what_looks_alike_is_the_same_word() {
        // Full width, a ligature, an accent of its own.
        assert_eq!(of("Ｆｉｌｅ"), of("file"));
        assert_eq!(of("\u{fb01}le"), of("file"));
        assert_eq!(of("U\u{308}BERSICHT"), of("\u{fc}bersicht"));
        assert_eq!(of("天气 wetter"), ["天", "气", "wetter"]);
        // Marks do not end a word.
        assert_eq!(of("हिन्दी").len(), 1);
        assert_eq!(of(&"x".repeat(1000)), ["x".repeat(LONGEST)]);
    }
}
