//! Trees of PyPI's packages: virtual environments.

use std::{fs, io, path::Path};

use super::pin::read_made;
use crate::domain::package::Wanted;

/// The lock file.
pub(super) const LOCK: [&str; 1] = ["requirements.txt"];
/// Resolves and installs what `wanted.txt` asks for. Only wheels: to build a package is to run it.
pub(super) const FETCH: &str = "set -e
\"$0\" -q venv --relocatable venv
\"$0\" -q pip compile --no-header --no-annotate --generate-hashes --no-build --python venv/bin/python -o requirements.txt wanted.txt
\"$0\" -q pip sync --require-hashes --no-build --compile-bytecode --link-mode copy --python venv/bin/python requirements.txt";
/// Installs exactly what the lock file says.
pub(super) const FETCH_PINNED: &str = "set -e
\"$0\" -q venv --relocatable venv
\"$0\" -q pip sync --require-hashes --no-build --compile-bytecode --link-mode copy --python venv/bin/python requirements.txt";

/// Says what to fetch.
pub(super) fn ask(wanted: &Wanted, folder: &Path) -> io::Result<()> {
    fs::write(
        folder.join("wanted.txt"),
        format!("{}{}\n", wanted.name, wanted.version),
    )
}

/// The exact version of what was asked for.
pub(super) fn version(wanted: &Wanted, folder: &Path) -> io::Result<String> {
    let lock = String::from_utf8(read_made(folder, LOCK[0])?).map_err(io::Error::other)?;
    let bare = |name: &str| {
        let name = name.split('[').next().unwrap_or_default().to_ascii_lowercase();
        // Names are the same whatever stands between their words (PEP 503).
        name.split(['-', '_', '.'])
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    };
    let version = lock.lines().find_map(|line| {
        let (name, version) = line.split_once("==")?;
        (bare(name) == bare(&wanted.name)).then(|| version.split([' ', ';']).next().unwrap_or_default().to_owned())
    });
    version.ok_or_else(|| io::Error::other("the lock file does not name the package"))
}

/// The program to run.
pub(super) fn program(wanted: &Wanted, tree: &Path) -> io::Result<String> {
    let name = wanted.program.as_deref().unwrap_or(&wanted.name);
    let program = tree.join("venv/bin").join(name);
    if !program.is_file() {
        let what = format!("the package {} has no program {name}", wanted.name);
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    Ok(program.to_string_lossy().into_owned())
}
