//! Trees of PyPI's packages: virtual environments.

use std::{fs, io, path::Path};

use super::pin::read_made;
use crate::domain::package::Wanted;

/// The lock file.
pub(super) const LOCK: [&str; 1] = ["requirements.txt"];
/// Writes the lock file of what `wanted.txt` asks for. Only wheels: to build a package is to run it.
pub(super) const RESOLVE: &str = "set -e
\"$0\" -q venv --relocatable venv
exec \"$0\" -q pip compile --no-header --no-annotate --generate-hashes --no-build --python venv/bin/python -o requirements.txt wanted.txt";
/// Installs exactly what the lock file says. Nothing that the wheels brought runs: the environment's own interpreter would read their
/// `.pth` files, and uv compiles with that one. The one that it was made of, found before, does not look at them; it only compiles, and
/// some files may be for another Python.
pub(super) const INSTALL: &str = "set -e
[ -d venv ] || \"$0\" -q venv --relocatable venv
base=$(readlink -f venv/bin/python)
\"$0\" -q pip sync --require-hashes --no-build --link-mode copy --python venv/bin/python requirements.txt
\"$base\" -I -S -m compileall -q venv/lib >/dev/null 2>&1 || :";
/// For each step. An interpreter that uv downloads would go with the fetch.
pub(super) const ENVIRONMENT: [(&str, &str); 1] = [("UV_PYTHON_DOWNLOADS", "never")];

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
