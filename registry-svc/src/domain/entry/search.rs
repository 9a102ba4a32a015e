//! The words by which people find entries.

use std::collections::BTreeSet;

use contracts::registry::Entry;
use unicode_normalization::UnicodeNormalization as _;

/// The most words of one entry that it is found by, and the longest that counts in full, in bytes.
const MAX_WORDS: usize = 1_000;
const MAX_WORD: usize = 64;
/// The most words, and characters, that one search has.
const MAX_QUERY_WORDS: usize = 8;
const MAX_QUERY: usize = 200;

/// The words of an entry's slug, display name and description, in lower case.
pub(crate) fn words(entry: &Entry) -> BTreeSet<String> {
    let slug = entry.name.trim_start_matches("entries/");
    [slug, &entry.display_name, &entry.description]
        .into_iter()
        .flat_map(split)
        .take(MAX_WORDS)
        .collect()
}

/// The words that somebody searches by; what is wrong with the search where it is no such.
pub(crate) fn query_words(query: &str) -> Result<Vec<String>, String> {
    if query.chars().count() > MAX_QUERY {
        return Err(format!("must have at most {MAX_QUERY} characters"));
    }
    let words: BTreeSet<String> = split(query).collect();
    if words.len() > MAX_QUERY_WORDS {
        return Err(format!("must have at most {MAX_QUERY_WORDS} words"));
    }
    if words.is_empty() && !query.trim().is_empty() {
        return Err("must have letters or digits".to_owned());
    }
    Ok(words.into_iter().collect())
}

/// Letters and digits in a row, of any script, in one form: NFKC (UAX #15), since the same word can be written in several. Lower case is
/// that of each character alone, so that the beginning of a word is one in lower case, too.
fn split(text: &str) -> impl Iterator<Item = String> {
    let text: String = text.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word[..word.floor_char_boundary(MAX_WORD)].to_owned())
        .collect();
    words.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_of_slug_name_and_description_in_lower_case() {
        let entry = Entry {
            name: "entries/issue-tracker".to_owned(),
            display_name: "Vorgänge ÄNDERN".to_owned(),
            description: "search, issues; issues\n".to_owned(),
            ..Entry::default()
        };
        let words: Vec<_> = words(&entry).into_iter().collect();
        assert_eq!(words, ["issue", "issues", "search", "tracker", "vorgänge", "ändern"]);
    }

    #[test]
    fn are_the_same_in_whichever_form_they_are_written() {
        assert_eq!(query_words("Cafe\u{301}").unwrap(), query_words("CAF\u{c9}").unwrap());
        // A final sigma is one at the end of a word alone.
        let whole = query_words("ΟΔΟΣΑΒ").unwrap();
        assert!(whole[0].starts_with(&query_words("ΟΔΟΣ").unwrap()[0]));
        assert_eq!(query_words("ﬁle").unwrap(), ["file"]);
    }

    #[test]
    fn of_a_search_are_few_and_not_only_signs() {
        assert_eq!(query_words(" Issue  ISSUE tr").unwrap(), ["issue", "tr"]);
        assert_eq!(query_words("").unwrap(), Vec::<String>::new());
        assert!(query_words("%").is_err());
        assert!(query_words("a b c d e f g h i").is_err());
        assert!(query_words(&"x".repeat(201)).is_err());
    }
}
