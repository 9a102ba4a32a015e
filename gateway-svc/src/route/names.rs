//! Exposed names.
//!
//! They do not depend on the order in which anything is looked at: a name is a function of the set of tools alone, and of what is older
//! than its own. What joins later changes none.

use std::collections::{HashMap, hash_map::Entry};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

/// The longest name that clients accept.
pub(crate) const MAX_NAME: usize = 64;

/// Characters of the hash at the end of a name, for each attempt to make it unique. The last is all of SHA-256.
const SUFFIXES: [usize; 4] = [0, 8, 16, 52];

/// When something joined: what did later has a greater one. The registry revision, and of what one revision added, a uid. What is assigned
/// with all tools of its entry joins when the entry has it, if that is later: before, it has no name to keep.
pub(crate) type Since<'a> = (i64, &'a str);

/// What a name is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// Slug of the entry; `None` where prefixes are switched off.
    pub(crate) prefix: Option<&'a str>,
    /// The server's own name of the tool.
    pub(crate) tool: &'a str,
    /// A name that was chosen for it.
    pub(crate) explicit: Option<&'a str>,
    /// Its age.
    pub(crate) since: Since<'a>,
    /// Identifies it, and does not change while it exists.
    pub(crate) identity: [&'a str; 4],
}

/// Who has a name, and in which round it was given away. `None`: of those who asked for it then, none is older than the others.
struct Taken {
    by: Option<usize>,
    round: usize,
}

/// One unique name each, of `[A-Za-z0-9_-]{1,64}`, in the order of `tools`, whose identities differ.
///
/// Of those with the same name, the oldest keeps it, and the others get a hash at the end, as names do that are too long or reserved. Where none is
/// the oldest, nobody has the name. A chosen name is as one that is older than all others, unless it is reserved. What an older one would be called
/// with a hash is its own, too: it may have been.
pub(crate) fn assign(tools: &[Named<'_>], reserved: &[&str]) -> Vec<String> {
    let age = |index: usize| (tools[index].explicit.is_none(), tools[index].since);
    let mut by_age: Vec<usize> = (0..tools.len()).collect();
    by_age.sort_by(|&one, &other| age(one).cmp(&age(other)));
    let mut taken: HashMap<String, Taken> = HashMap::with_capacity(tools.len());
    let was_older = |taken: &HashMap<String, Taken>, name: &str, index: usize| {
        let known = || without_hash(name).and_then(|plain| Some((plain, taken.get(plain)?.by?)));
        known().is_some_and(|(plain, by)| age(by) < age(index) && is_with_hash(name, plain, tools[by].identity))
    };
    let mut round = 0;
    for alike in by_age.chunk_by(|&one, &other| age(one) == age(other)) {
        let (mut nameless, mut level) = (alike.to_vec(), 0);
        while !nameless.is_empty() {
            round += 1;
            let mut next = Vec::new();
            for index in nameless {
                let name = if level == 0 {
                    plain(&tools[index])
                } else {
                    suffixed(&tools[index], level)
                };
                let free = !reserved.contains(&&*name) && !was_older(&taken, &name, index);
                if !(1..=MAX_NAME).contains(&name.len()) || !free {
                    next.push(index);
                    continue;
                }
                match taken.entry(name) {
                    Entry::Vacant(free) => {
                        let by = Some(index);
                        free.insert(Taken { by, round });
                    }
                    Entry::Occupied(mut known) => {
                        let known = known.get_mut();
                        next.extend(known.by.take_if(|_| known.round == round));
                        next.push(index);
                    }
                }
            }
            nameless = next;
            level += 1;
        }
    }
    let mut names = vec![String::new(); tools.len()];
    for (name, Taken { by, .. }) in taken {
        if let Some(index) = by {
            names[index] = name;
        }
    }
    names
}

/// A name for one more, which none of the others is `taken` by.
pub(super) fn another(tool: &Named<'_>, taken: impl Fn(&str) -> bool) -> String {
    let plain = plain(tool);
    if (1..=MAX_NAME).contains(&plain.len()) && !taken(&plain) {
        return plain;
    }
    let mut level = 1;
    loop {
        let name = suffixed(tool, level);
        if !taken(&name) {
            return name;
        }
        level += 1;
    }
}

/// The name that this one is with a hash at the end, if it has one of the usual length.
pub(crate) fn without_hash(name: &str) -> Option<&str> {
    let (plain, hash) = name.rsplit_once('_')?;
    (hash.len() == SUFFIXES[1]).then_some(plain)
}

/// Whether this is what the plain name of an identity becomes while an older one has it.
pub(crate) fn is_with_hash(name: &str, plain: &str, identity: [&str; 4]) -> bool {
    name.strip_prefix(plain).and_then(|rest| rest.strip_prefix('_')) == Some(&*hash(identity, 1))
}

fn plain(tool: &Named<'_>) -> String {
    let parts = match (tool.explicit, tool.prefix) {
        (Some(name), _) => [name, "", ""],
        (None, Some(prefix)) => [prefix, "__", tool.tool],
        (None, None) => [tool.tool, "", ""],
    };
    let mut plain = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    plain.extend(parts.into_iter().flat_map(str::chars).map(|c| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            c
        } else {
            '_'
        }
    }));
    plain
}

fn suffixed(tool: &Named<'_>, level: usize) -> String {
    let hash = hash(tool.identity, level);
    let mut name = plain(tool);
    name.truncate(MAX_NAME - 1 - hash.len());
    format!("{name}_{hash}")
}

fn hash(identity: [&str; 4], level: usize) -> String {
    let last = SUFFIXES.len() - 1;
    // All lengths are used up: a chosen name equals the one with the hash, so another hash is made.
    let salt = "\n".repeat(level.saturating_sub(last));
    let mut hash = BASE32_NOPAD
        .encode(&Sha256::digest(format!("{}{salt}", identity.join("\n"))))
        .to_ascii_lowercase();
    hash.truncate(SUFFIXES[level.min(last)]);
    hash
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

    use super::*;

    fn named<'a>(prefix: &'a str, tool: &'a str, identity: &'a str) -> Named<'a> {
        Named {
            prefix: Some(prefix),
            tool,
            explicit: None,
            since: (0, ""),
            identity: ["", "", "", identity],
        }
    }

    #[test]
    fn are_entry_and_tool() {
        assert_eq!(
            assign(&[named("time", "get_time", "1"), named("time", "a.b/ü", "2")], &[]),
            ["time__get_time", "time__a_b__"]
        );
        let bare = Named {
            prefix: None,
            ..named("", "get_time", "1")
        };
        assert_eq!(assign(&[bare], &[]), ["get_time"]);
    }

    #[test]
    fn all_of_the_same_age_that_collide_get_a_hash_and_an_explicit_name_wins() {
        let names = assign(
            &[named("a", "x.y", "1"), named("a", "x_y", "2"), named("a", "z", "3")],
            &[],
        );
        assert!(
            names[0].starts_with("a__x_y_") && names[1].starts_with("a__x_y_") && names[0] != names[1],
            "{names:?}"
        );
        assert_eq!(names[2], "a__z");
        let later = Named {
            since: (1, ""),
            ..named("a", "x_y", "4")
        };
        let and_later = assign(&[named("a", "x.y", "1"), later, named("a", "x_y", "2")], &[]);
        assert_eq!([&and_later[0], &and_later[2]], [&names[0], &names[1]]);
        assert_ne!(and_later[1], "a__x_y", "it was another's, and may be again");

        let chosen = Named {
            explicit: Some("a__z"),
            ..named("b", "other", "4")
        };
        let names = assign(&[named("a", "z", "3"), chosen.clone()], &[]);
        assert_eq!(names[1], "a__z");
        assert!(names[0].starts_with("a__z_"));

        let twice = Named {
            identity: ["", "", "", "5"],
            ..chosen.clone()
        };
        let names = assign(&[chosen, twice], &[]);
        assert!(
            names[0] != names[1] && names.iter().all(|name| name.starts_with("a__z_")),
            "{names:?}"
        );
    }

    #[test]
    fn what_is_reserved_is_nobodys_name() {
        let bare = Named {
            prefix: None,
            ..named("", "call_tool", "1")
        };
        let chosen = Named {
            explicit: Some("call_tool"),
            ..named("a", "x", "2")
        };
        let names = assign(&[bare.clone(), chosen], &["call_tool"]);
        assert!(
            names[0] != names[1] && names.iter().all(|name| name.starts_with("call_tool_")),
            "{names:?}"
        );
        assert_eq!(assign(&[bare], &[]), ["call_tool"]);
    }

    #[test]
    fn the_older_keeps_its_name_and_the_newer_the_one_with_a_hash() {
        let aged = |since, identity| Named {
            since: (0, since),
            prefix: None,
            ..named("", "who", identity)
        };
        let both = assign(&[aged("2", "new"), aged("1", "old")], &[]);
        assert_eq!(both[1], "who");
        assert_eq!(without_hash(&both[0]), Some("who"));
        let is_of = |identity| is_with_hash(&both[0], "who", ["", "", "", identity]);
        assert!(is_of("new") && !is_of("old"));
        assert_eq!(assign(&[aged("2", "new")], &[]), ["who"]);
        let third = assign(&[aged("3", "newest"), aged("2", "new"), aged("1", "old")], &[]);
        assert_eq!(third[1..], both[..]);
        let alike = |since| Named {
            tool: &both[0],
            ..aged(since, "alike")
        };
        let left = assign(&[aged("2", "new"), alike("3")], &[]);
        assert_eq!(left[0], "who");
        assert_ne!(left[1], both[0], "clients may still call the newer one by it");
        assert_eq!(assign(&[aged("2", "new"), alike("1")], &[]), ["who", &*both[0]]);
        let of_one = assign(&[aged("2", "new"), alike("2")], &[]);
        assert_eq!(of_one, ["who", &*both[0]], "in either order");
        assert_eq!(assign(&[alike("2"), aged("2", "new")], &[]), [&*both[0], "who"]);
        assert!(without_hash("who").is_none() && without_hash("who_a").is_none());
    }

    /// Whatever joins, in whatever order: what was there keeps its name.
    #[test]
    fn no_name_changes_because_another_joins() {
        let mut rng = StdRng::seed_from_u64(12);
        for _ in 0..300 {
            let pieces = ["a", "a.b", "a_b", "", "a__b", "ü"];
            let long = "x".repeat(70);
            let mut tools: Vec<(Option<&str>, &str, String, String)> = (0..rng.random_range(2..40))
                .map(|index| {
                    let tool = match rng.random_range(0..5) {
                        0 => &long,
                        _ => pieces[rng.random_range(0..pieces.len())],
                    };
                    let prefix = rng.random_bool(0.5).then(|| ["a", "b"][rng.random_range(0..2)]);
                    (prefix, tool, format!("{:02}", index / 3), index.to_string())
                })
                .collect();
            let named = |tools: &[(Option<&str>, &str, String, String)]| -> BTreeMap<String, String> {
                let named: Vec<_> = tools
                    .iter()
                    .map(|(prefix, tool, since, identity)| Named {
                        prefix: *prefix,
                        tool,
                        explicit: None,
                        since: (0, since),
                        identity: ["", "", "", identity],
                    })
                    .collect();
                tools
                    .iter()
                    .map(|tool| tool.3.clone())
                    .zip(assign(&named, &[]))
                    .collect()
            };
            let before = named(&tools[..tools.len() / 2 / 3 * 3]);
            tools.shuffle(&mut rng);
            let after = named(&tools);
            assert!(
                before.iter().all(|(identity, name)| after[identity] == *name),
                "{tools:?}"
            );
        }
    }

    /// Clients refuse names over 64 characters.
    #[test]
    fn never_exceed_64_characters() {
        let long = "t".repeat(300);
        let tools = [
            named("entry", &long, "1"),
            named("entry", &long[..299], "2"),
            Named {
                prefix: None,
                ..named("", "", "3")
            },
        ];
        let names = assign(&tools, &[]);
        assert!(names.iter().all(|name| name.len() <= MAX_NAME), "{names:?}");
        assert_eq!(names[0].len(), MAX_NAME);
        assert_ne!(names[0], names[1]);
        assert!(!names[2].is_empty());
    }

    #[test]
    fn are_unique_and_independent_of_order() {
        let mut rng = StdRng::seed_from_u64(7);
        for round in 0..300 {
            let pieces = ["a", "b", "a.b", "a_b", "", "__", "-", "a__b"];
            let long = "x".repeat(rng.random_range(40..80));
            let mut tools: Vec<(Option<&str>, String, Option<String>, String)> = (0..rng.random_range(1..40))
                .map(|index| {
                    let tool = match rng.random_range(0..4) {
                        0 => long.clone(),
                        _ => (0..rng.random_range(0..3))
                            .map(|_| pieces[rng.random_range(0..pieces.len())])
                            .collect(),
                    };
                    let explicit = rng
                        .random_bool(0.2)
                        .then(|| format!("a__{}", pieces[rng.random_range(0..2)]));
                    let prefix = rng.random_bool(0.8).then(|| ["a", "b"][rng.random_range(0..2)]);
                    (prefix, tool, explicit, format!("{round}/{index}"))
                })
                .collect();
            let run = |tools: &[(Option<&str>, String, Option<String>, String)]| -> BTreeMap<String, String> {
                let named: Vec<_> = tools
                    .iter()
                    .map(|(prefix, tool, explicit, identity)| Named {
                        prefix: *prefix,
                        tool,
                        explicit: explicit.as_deref(),
                        since: (0, &identity[identity.len() - 1..]),
                        identity: ["", "", "", identity],
                    })
                    .collect();
                tools
                    .iter()
                    .map(|tool| tool.3.clone())
                    .zip(assign(&named, &[]))
                    .collect()
            };
            let first = run(&tools);
            let unique: BTreeSet<_> = first.values().collect();
            assert_eq!(unique.len(), tools.len());
            for name in unique {
                assert!(
                    (1..=MAX_NAME).contains(&name.len())
                        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)),
                    "{name}"
                );
            }
            tools.shuffle(&mut rng);
            assert_eq!(run(&tools), first);
        }
    }
}
