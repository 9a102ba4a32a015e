//! Recognizes command lines in which one argument certainly names a package to download and run, and finds the version
//! in it.
//!
//! Recognition is strict: an argument that is not recognized is in the digest unchanged. A program is recognized only
//! by its bare name, and so are the words and options between it and the package. Arguments after the package are for
//! the package, and are in the digest.

use super::version::{npm, python};

/// The argument that names a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Package<'a> {
    /// The index of the argument.
    pub(super) index: usize,
    /// The name of the package, without its version.
    pub(super) name: &'a str,
}

/// The command line of a program that downloads and runs packages.
struct Launcher {
    command: &'static str,
    /// The arguments that must come first.
    words: &'static [&'static str],
    /// Options of which one may come next. They do not change what runs.
    harmless: &'static [&'static str],
    /// Returns the name in an argument, if it names a package of a package registry.
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

/// The package whose version is not part of the destination.
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
