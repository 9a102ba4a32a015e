//! Records tests that this machine cannot run, for the tests of all crates. Requires the feature `testing`.
//!
//! Rust's test harness cannot skip a test at run time: a test that returns early counts as passed. A test that returns
//! early therefore calls [`not_run`], which writes to standard error, past the harness's capture, and appends a line to
//! the file that `CHANDLERY_TEST_NOT_RUN` names. `integration-tests/run` sets that variable, lists the tests at the end
//! and does not count them as passed.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
};

/// The URL of a PostgreSQL server on which tests may create databases, from `CHANDLERY_TEST_POSTGRES_URL`. If the
/// variable is not set, the calling test is recorded as not run and must return.
pub fn postgres() -> Option<String> {
    let server = env::var("CHANDLERY_TEST_POSTGRES_URL").ok();
    if server.is_none() {
        not_run("requires PostgreSQL: CHANDLERY_TEST_POSTGRES_URL names no server");
    }
    server
}

/// The program `bao` of OpenBao, from `CHANDLERY_TEST_OPENBAO`. If the variable is not set, the calling test is recorded as not run
/// and must return.
pub fn openbao() -> Option<PathBuf> {
    let program = env::var_os("CHANDLERY_TEST_OPENBAO");
    if program.is_none() {
        not_run("requires OpenBao: CHANDLERY_TEST_OPENBAO names no program");
    }
    program.map(PathBuf::from)
}

/// Whether the process runs as root: only root can give a file to another user. If it does not, the calling test is
/// recorded as not run and must return.
pub fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        not_run("requires root, who alone can give a file to another user");
    }
    root
}

/// Records that the calling test is not run, and what it requires. Must be called on the thread of the test.
///
/// # Panics
/// If the record cannot be written, because the test would then count as passed.
pub fn not_run(reason: &str) {
    let line = line(reason);
    // `eprintln!` would not do: the harness shows its output only if a test fails.
    writeln!(io::stderr(), "NOT RUN: {line}").expect("standard error can be written");
    if let Some(file) = env::var_os("CHANDLERY_TEST_NOT_RUN") {
        append(Path::new(&file), &line).expect("CHANDLERY_TEST_NOT_RUN names a file that can be written");
    }
}

/// The line of the record: `PACKAGE PROGRAM TEST: REASON`.
fn line(reason: &str) -> String {
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    let program = env::current_exe().unwrap_or_default();
    let program = program.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    // Cargo appends a hash to the name.
    let program = program.rsplit_once('-').map_or(program, |(name, _)| name);
    let thread = thread::current();
    let test = thread.name().unwrap_or_default();
    format!("{package} {program} {test}: {reason}")
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).open(file)?;
    // A single write, because other test programs append to the same file.
    file.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_that_is_not_run_is_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not-run");
        for reason in ["requires a moon", "requires two moons"] {
            append(&file, &line(reason)).unwrap();
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let test = "service-kit service_kit not_run::tests::each_test_that_is_not_run_is_a_line";
        assert_eq!(text, format!("{test}: requires a moon\n{test}: requires two moons\n"));
    }
}
