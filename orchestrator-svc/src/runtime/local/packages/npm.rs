//! Trees of npm's packages.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use super::pin::read_made;
use crate::domain::package::Wanted;

/// The lock file, and what it locks.
pub(super) const LOCK: [&str; 2] = ["package-lock.json", "package.json"];
/// Resolves and installs what `package.json` asks for.
pub(super) const FETCH: &str =
    "exec \"$0\" install --ignore-scripts --omit=dev --no-audit --no-fund --no-update-notifier --loglevel=error";
/// Installs exactly what the lock file says.
pub(super) const FETCH_PINNED: &str =
    "exec \"$0\" ci --ignore-scripts --omit=dev --no-audit --no-fund --no-update-notifier --loglevel=error";
/// Runs the installation scripts of what is installed.
pub(super) const RUN_SCRIPTS: &str = "exec \"$0\" rebuild --no-audit --no-fund --no-update-notifier --loglevel=error";

/// Says what to fetch.
pub(super) fn ask(wanted: &Wanted, folder: &Path) -> io::Result<()> {
    let version = if wanted.version.is_empty() {
        "latest"
    } else {
        &wanted.version
    };
    // The name stands in the lock file: it is the same for all.
    let project = json!({"name": "server", "private": true, "dependencies": {wanted.name.as_str(): version}});
    fs::write(folder.join("package.json"), project.to_string())
}

fn lock(folder: &Path) -> io::Result<Value> {
    Ok(serde_json::from_slice(&read_made(folder, LOCK[0])?)?)
}

/// The exact version of what was asked for.
pub(super) fn version(wanted: &Wanted, folder: &Path) -> io::Result<String> {
    let lock = lock(folder)?;
    let version = lock["packages"][format!("node_modules/{}", wanted.name)]["version"].as_str();
    version
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("the lock file does not name the package"))
}

/// Whether some of it has scripts that run when it is installed.
pub(super) fn has_scripts(folder: &Path) -> io::Result<bool> {
    let lock = lock(folder)?;
    let packages = lock["packages"].as_object();
    let has = |package: &Value| package["hasInstallScript"] == true && package["optional"] != true;
    Ok(packages.is_some_and(|packages| packages.values().any(has)))
}

/// The program that `npx` would run: the only one, or the one that is called as the package is.
pub(super) fn program(wanted: &Wanted, tree: &Path) -> io::Result<String> {
    let modules = tree.join("node_modules");
    let text = read_made(&modules.join(&wanted.name), "package.json")?;
    let package: Value = serde_json::from_slice(&text)?;
    let bare = wanted.name.rsplit('/').next().unwrap_or(&wanted.name);
    let name = match &package["bin"] {
        Value::String(_) => Some(bare),
        Value::Object(programs) if programs.len() == 1 => programs.keys().next().map(String::as_str),
        Value::Object(programs) => programs.contains_key(bare).then_some(bare),
        _ => None,
    };
    let name = name.filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
    let name = name.ok_or_else(|| {
        let what = format!("the package {} has no program that is called as it is", wanted.name);
        io::Error::new(io::ErrorKind::NotFound, what)
    })?;
    Ok(modules.join(".bin").join(name).to_string_lossy().into_owned())
}
