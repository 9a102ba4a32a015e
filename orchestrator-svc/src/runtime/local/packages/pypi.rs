//! Trees of PyPI's packages: virtual environments.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::Wanted;
use super::made::{inside, read_made};

/// The lock file.
pub(super) const LOCK: [&str; 1] = ["requirements.txt"];
/// Makes the environment, and writes the lock file of what `wanted.txt` asks for, unless there is one. Only wheels: to build a package is to
/// run it.
pub(super) const RESOLVE: &str = "set -e
\"$0\" -q venv --relocatable venv
[ -e requirements.txt ] ||
exec \"$0\" -q pip compile --no-header --no-annotate --generate-hashes --no-build --python venv/bin/python -o requirements.txt wanted.txt";
/// Installs exactly what the lock file says. Nothing that the wheels brought runs: the environment's own interpreter would read their
/// `.pth` files, and uv compiles with that one. The one that it was made of, found before, does not look at them; it only compiles, and
/// some files may be for another Python.
pub(super) const INSTALL: &str = "set -e
base=$(readlink -f venv/bin/python)
\"$0\" -q pip sync --require-hashes --no-build --link-mode copy --python venv/bin/python requirements.txt
\"$base\" -I -S -m compileall -q venv/lib >/dev/null 2>&1 || :";
/// Says which interpreter an environment was made with.
const INTERPRETER: &str = "interpreter";

/// For each step. An interpreter that uv downloads would go with the fetch.
pub(super) const ENVIRONMENT: [(&str, &str); 1] = [("UV_PYTHON_DOWNLOADS", "never")];

/// Says what to fetch.
pub(super) fn ask(wanted: &Wanted, folder: &Path) -> io::Result<()> {
    fs::write(
        folder.join("wanted.txt"),
        format!("{}{}\n", wanted.name, wanted.version),
    )
}

/// Notes the interpreter of the environment that was made, before anything of a package is in there: what is may name any other.
pub(super) fn note_interpreter(tree: &Path, folder: &Path) -> io::Result<()> {
    let interpreter = tree.join("venv/bin/python").canonicalize()?;
    fs::write(folder.join(INTERPRETER), interpreter.as_os_str().as_bytes())
}

/// As noted.
pub(super) fn interpreter(folder: &Path) -> io::Result<PathBuf> {
    Ok(OsString::from_vec(read_made(folder, INTERPRETER)?).into())
}

/// Refuses a lock file that names a package by an address: a repository, a file.
///
/// # Errors
/// Names the first such package.
pub(super) fn check(folder: &Path) -> io::Result<()> {
    let lock = String::from_utf8(read_made(folder, LOCK[0])?).map_err(io::Error::other)?;
    let Some(line) = lock.lines().find(|line| line.contains('@') || line.contains("://")) else {
        return Ok(());
    };
    let line: String = line.escape_debug().take(214).collect();
    Err(io::Error::other(format!(
        "it depends on {line}: only packages from an index are fetched"
    )))
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
    let program = inside(tree, "venv/bin")?.join(name);
    if !fs::symlink_metadata(&program).is_ok_and(|found| found.is_file()) {
        let what = format!("the package {} has no program {name}", wanted.name);
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    Ok(program.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_an_indexs() {
        let checked = |lock: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(LOCK[0]), lock).unwrap();
            check(folder.path()).map_err(|error| error.to_string())
        };
        let plain = "a==1.0 ; python_version >= '3.10' \\\n    --hash=sha256:00\n";
        checked(plain).unwrap();
        for address in [
            "b @ git+https://host/b.git@0",
            "b@file:///b.whl",
            "--index-url https://host/simple",
        ] {
            let refused = checked(&format!("{plain}{address}\n")).unwrap_err();
            assert!(refused.contains(address), "{refused}");
        }
    }
}
