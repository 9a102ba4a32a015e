//! Command lines of which it can be told for sure which argument names a package to fetch and run, and what of it is the version.
//!
//! Strict: whatever is not recognised here, is in the digest as it is. A program is recognised by its bare name alone, and so are the
//! words and options between it and the package. What comes behind the package is for the package, and in the digest.

use super::version::{npm, python};

/// The package that an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Package<'a> {
    /// Which argument.
    pub(super) index: usize,
    /// The package without its version.
    pub(super) name: &'a str,
}

/// How a launcher is called.
struct Launcher {
    command: &'static str,
    /// Comes first.
    words: &'static [&'static str],
    /// One of these may come next: it changes nothing of what runs.
    harmless: &'static [&'static str],
    /// The name in what names a package, if it is a package of a registry.
    name: fn(&str) -> Option<&str>,
}

const LAUNCHERS: [Launcher; 6] = [
    Launcher {
        command: "npx",
        words: &[],
        harmless: &["-y", "--yes"],
        name: npm,
    },
    Launcher {
        command: "bunx",
        words: &[],
        harmless: &[],
        name: npm,
    },
    Launcher {
        command: "pnpx",
        words: &[],
        harmless: &[],
        name: npm,
    },
    Launcher {
        command: "pnpm",
        words: &["dlx"],
        harmless: &[],
        name: npm,
    },
    Launcher {
        command: "uvx",
        words: &[],
        harmless: &[],
        name: python,
    },
    Launcher {
        command: "uv",
        words: &["tool", "run"],
        harmless: &[],
        name: python,
    },
];

/// The package whose version does not count.
pub(super) fn package<'a>(command: &str, arguments: &'a [String]) -> Option<Package<'a>> {
    let launcher = LAUNCHERS.iter().find(|launcher| launcher.command == command)?;
    let words = launcher.words.len();
    if arguments.get(..words)?.iter().ne(launcher.words.iter()) {
        return None;
    }
    let option = arguments.get(words).map(String::as_str);
    let index = words + usize::from(option.is_some_and(|option| launcher.harmless.contains(&option)));
    let name = (launcher.name)(arguments.get(index)?)?;
    Some(Package { index, name })
}
