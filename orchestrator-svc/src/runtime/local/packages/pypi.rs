//! Trees of PyPI packages: virtual environments.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::PackageRequest;
use super::made::{inside, read_made};

/// The lock file.
pub(super) const LOCK: [&str; 1] = ["requirements.txt"];
/// Creates the environment, and writes the lock file for `wanted.txt`, unless there is one. Only wheels are used, since building a package would
/// run its code.
pub(super) const RESOLVE: &str = "set -e
\"$0\" -q venv --relocatable venv
[ -e requirements.txt ] ||
exec \"$0\" -q pip compile --no-header --no-annotate --generate-hashes --no-build --python venv/bin/python -o requirements.txt wanted.txt";
/// Installs exactly what the lock file lists. No code of the wheels runs: the environment's interpreter, with which uv would compile, would
/// execute their `.pth` files. The base interpreter, determined before, ignores them. Its errors are ignored, since some files may be for
/// another version of Python.
pub(super) const INSTALL: &str = "set -e
base=$(readlink -f venv/bin/python)
\"$0\" -q pip sync --require-hashes --no-build --link-mode copy --python venv/bin/python requirements.txt
\"$base\" -I -S -m compileall -q venv/lib >/dev/null 2>&1 || :";
/// The file that names the interpreter of the environment.
const INTERPRETER: &str = "interpreter";

/// Variables of every step. An interpreter that uv downloaded would be removed with the fetch.
pub(super) const ENVIRONMENT: [(&str, &str); 1] = [("UV_PYTHON_DOWNLOADS", "never")];

/// Writes `wanted.txt` for the requested package.
pub(super) fn ask(request: &PackageRequest, folder: &Path) -> io::Result<()> {
    fs::write(
        folder.join("wanted.txt"),
        format!("{}{}\n", request.name, request.version),
    )
}

/// Records the interpreter of the new environment, before packages are installed into it, which could name any other.
pub(super) fn note_interpreter(tree: &Path, folder: &Path) -> io::Result<()> {
    let interpreter = tree.join("venv/bin/python").canonicalize()?;
    fs::write(folder.join(INTERPRETER), interpreter.as_os_str().as_bytes())
}

/// The recorded interpreter.
pub(super) fn interpreter(folder: &Path) -> io::Result<PathBuf> {
    Ok(OsString::from_vec(read_made(folder, INTERPRETER)?).into())
}

/// Checks that a lock file names no package by URL, such as a repository or a file.
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

/// The exact version of the requested package.
pub(super) fn version(request: &PackageRequest, folder: &Path) -> io::Result<String> {
    let lock = String::from_utf8(read_made(folder, LOCK[0])?).map_err(io::Error::other)?;
    let bare = |name: &str| {
        let name = name.split('[').next().unwrap_or_default().to_ascii_lowercase();
        // Names are equal whatever separates their words (PEP 503).
        name.split(['-', '_', '.'])
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    };
    let version = lock.lines().find_map(|line| {
        let (name, version) = line.split_once("==")?;
        (bare(name) == bare(&request.name)).then(|| version.split([' ', ';']).next().unwrap_or_default().to_owned())
    });
    version.ok_or_else(|| io::Error::other("the lock file does not name the package"))
}

/// The program to run.
pub(super) fn program(request: &PackageRequest, tree: &Path) -> io::Result<String> {
    let name = request.program.as_deref().unwrap_or(&request.name);
    let program = inside(tree, "venv/bin")?.join(name);
    if !fs::symlink_metadata(&program).is_ok_and(|found| found.is_file()) {
        let what = format!("the package {} has no program {name}", request.name);
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
