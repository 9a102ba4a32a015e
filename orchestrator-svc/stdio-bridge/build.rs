//! Computes a digest of what the bridge is built from, by which a service recognizes a bridge of its own build.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

/// Relative to this package.
const SOURCES: [&str; 7] = [
    "src",
    "Cargo.toml",
    "../sandbox/src",
    "../sandbox/Cargo.toml",
    "../../masking/src",
    "../../masking/Cargo.toml",
    "../../Cargo.lock",
];

fn main() -> io::Result<()> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        collect(&package.join(source), &mut files)?;
    }
    files.sort();
    let mut digest = DefaultHasher::new();
    for file in files {
        file.strip_prefix(&package).ok().hash(&mut digest);
        fs::read(file)?.hash(&mut digest);
    }
    println!("cargo::rustc-env=STDIO_BRIDGE_SOURCES={:016x}", digest.finish());
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
