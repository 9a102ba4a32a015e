//! Names that are like one that does not exist.

/// Bytes of a name that are compared.
const LONGEST: usize = 128;
/// The least part of their pairs of characters that two names must have in common (of 1).
const ALIKE: f32 = 0.4;

/// The names that are most like this one, at most `most`: the likest first, of equals the first. The time grows with the length of the names.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let wanted = &wanted[..wanted.floor_char_boundary(LONGEST)];
    let mut pairs: Vec<[u8; 2]> = pairs(wanted).collect();
    pairs.sort_unstable();
    let mut taken = vec![false; pairs.len()];
    let mut best: Vec<(f32, &str)> = Vec::new();
    for name in names {
        let alike = alike(&pairs, &mut taken, name);
        let at = best.partition_point(|(known, _)| *known >= alike);
        if alike >= ALIKE && at < most {
            best.truncate(most - 1);
            best.insert(at, (alike, name));
        }
    }
    best.into_iter().map(|(_, name)| name).collect()
}

/// Sørensen's coefficient: twice the pairs in common, of all pairs of both.
fn alike(wanted: &[[u8; 2]], taken: &mut [bool], name: &str) -> f32 {
    taken.fill(false);
    let (mut all, mut common) = (wanted.len(), 0);
    for pair in pairs(name) {
        all += 1;
        let first = wanted.partition_point(|known| *known < pair);
        let free = (first..wanted.len())
            .take_while(|&at| wanted[at] == pair)
            .find(|&at| !taken[at]);
        if let Some(free) = free {
            taken[free] = true;
            common += 2;
        }
    }
    if all == 0 { 0.0 } else { common as f32 / all as f32 }
}

/// Neighbouring bytes, without regard to case and to what separates words.
fn pairs(name: &str) -> impl Iterator<Item = [u8; 2]> {
    let bytes = || {
        name.bytes()
            .filter(|b| !matches!(b, b'_' | b'-' | b'.' | b' '))
            .map(|b| b.to_ascii_lowercase())
    };
    bytes().zip(bytes().skip(1)).map(|(a, b)| [a, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = [
        "github__create_issue",
        "github__list_issues",
        "jira__create_issue",
        "mail__send",
        "time__now",
    ];

    #[test]
    fn proposes_what_was_meant() {
        for (wanted, first) in [
            ("create_issue", "jira__create_issue"),
            ("github_create_issue", "github__create_issue"),
            ("github__creat_isue", "github__create_issue"),
            ("githubListIssues", "github__list_issues"),
            ("send_mail", "mail__send"),
        ] {
            assert_eq!(nearest(wanted, NAMES, 3).first(), Some(&first), "{wanted}");
        }
        assert_eq!(nearest("create_issue", NAMES, 1).len(), 1);
    }

    #[test]
    fn proposes_nothing_that_is_unlike() {
        for wanted in ["", "x", "weather", "\u{e4}\u{e4}"] {
            assert_eq!(nearest(wanted, NAMES, 3), Vec::<&str>::new(), "{wanted}");
        }
        let long = "a".repeat(1 << 20);
        assert_eq!(nearest(&long, ["aaaa"], 3), Vec::<&str>::new());
        assert_eq!(nearest("aa", ["aa", "aa"], 3), ["aa", "aa"], "of equals, the first");
    }
}
