//! Exposed names.
//!
//! They do not depend on the order in which anything was made or is looked at: a name is a function of the set of tools alone.

use std::collections::HashMap;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

/// The longest name that clients accept.
pub(crate) const MAX_NAME: usize = 64;

/// Characters of the hash at the end of a name, for each attempt to make it unique. The last is all of SHA-256.
const SUFFIXES: [usize; 4] = [0, 8, 16, 52];

/// What a name is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// Slug of the entry; `None` where prefixes are switched off.
    pub(crate) prefix: Option<&'a str>,
    /// The server's own name of the tool.
    pub(crate) tool: &'a str,
    /// A name that was chosen for it.
    pub(crate) explicit: Option<&'a str>,
    /// Identifies it, and does not change while it exists.
    pub(crate) identity: [&'a str; 4],
}

/// One unique name each, of `[A-Za-z0-9_-]{1,64}`, in the order of `tools`, whose identities differ.
///
/// Names that collide, are too long or reserved get a hash at the end; a chosen name stays as it is unless it is reserved, and others give way to
/// it.
pub(crate) fn assign(tools: &[Named<'_>], reserved: &[&str]) -> Vec<String> {
    let mut level = vec![0_usize; tools.len()];
    let mut names: Vec<String> = Vec::with_capacity(tools.len());
    for (tool, level) in tools.iter().zip(&mut level) {
        let plain = plain(tool);
        if !(1..=MAX_NAME).contains(&plain.len()) || reserved.contains(&&*plain) {
            *level = 1;
        }
        names.push(if *level == 0 { plain } else { suffixed(tool, *level) });
    }
    loop {
        // How many have a name, and how many of those have chosen it.
        let mut taken: HashMap<&str, (usize, usize)> = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let (all, chosen) = taken.entry(name).or_default();
            *all += 1;
            *chosen += usize::from(keeps(&tools[index], level[index]));
        }
        let gives_way = |index: &usize| {
            let (all, chosen) = taken.get(names[*index].as_str()).copied().unwrap_or_default();
            all > 1 && (chosen != 1 || !keeps(&tools[*index], level[*index]))
        };
        let give_way: Vec<usize> = (0..names.len()).filter(gives_way).collect();
        if give_way.is_empty() {
            return names;
        }
        for index in give_way {
            level[index] += 1;
            names[index] = suffixed(&tools[index], level[index]);
        }
    }
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

fn keeps(tool: &Named<'_>, level: usize) -> bool {
    tool.explicit.is_some() && level == 0
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
    let last = SUFFIXES.len() - 1;
    // All lengths are used up: a chosen name equals the one with the hash, so another hash is made.
    let salt = "\n".repeat(level.saturating_sub(last));
    let mut hash = BASE32_NOPAD
        .encode(&Sha256::digest(format!("{}{salt}", tool.identity.join("\n"))))
        .to_ascii_lowercase();
    hash.truncate(SUFFIXES[level.min(last)]);
    let mut name = plain(tool);
    name.truncate(MAX_NAME - 1 - hash.len());
    format!("{name}_{hash}")
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
    fn all_that_collide_get_a_hash_and_an_explicit_name_wins() {
        let names = assign(
            &[named("a", "x.y", "1"), named("a", "x_y", "2"), named("a", "z", "3")],
            &[],
        );
        assert!(
            names[0].starts_with("a__x_y_") && names[1].starts_with("a__x_y_") && names[0] != names[1],
            "{names:?}"
        );
        assert_eq!(names[2], "a__z");

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
