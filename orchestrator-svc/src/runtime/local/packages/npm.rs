//! Trees of npm's packages.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use super::pin::read_made;
use crate::domain::package::Wanted;

/// The lock file, and what it locks.
pub(super) const LOCK: [&str; 2] = ["package-lock.json", "package.json"];
/// Writes the lock file of what `package.json` asks for.
pub(super) const RESOLVE: &str = "exec \"$0\" install --package-lock-only --ignore-scripts --omit=dev --no-audit --no-fund \
                                  --no-update-notifier --loglevel=error";
/// Installs exactly what the lock file says.
pub(super) const INSTALL: &str =
    "exec \"$0\" ci --ignore-scripts --omit=dev --no-audit --no-fund --no-update-notifier --loglevel=error";
/// Runs the installation scripts of what is installed.
pub(super) const RUN_SCRIPTS: &str = "exec \"$0\" rebuild --no-audit --no-fund --no-update-notifier --loglevel=error";

/// For each step. A repository of Git is one whose own settings npm would follow, and whose scripts it would run; variables go before
/// the settings of a folder, and reach each npm that npm starts. npm 10 does not know `allow_git`; what it says of a missing `git` names
/// the path. The two files of settings have different names because npm refuses to read one twice.
pub(super) const ENVIRONMENT: [(&str, &str); 4] = [
    ("npm_config_git", "/nonexistent/git-repositories-are-not-fetched"),
    ("npm_config_allow_git", "none"),
    ("npm_config_userconfig", "/dev/null"),
    ("npm_config_globalconfig", "/nonexistent/npmrc"),
];

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

/// Refuses a lock file with anything that is not a file with a digest, from an HTTP server.
///
/// # Errors
/// Names the first such package, and says what it is.
pub(super) fn check(folder: &Path) -> io::Result<()> {
    let lock = lock(folder)?;
    let packages = lock["packages"].as_object();
    let packages = packages.ok_or_else(|| io::Error::other("the lock file names no packages"))?;
    for (place, package) in packages.iter().filter(|(place, _)| !place.is_empty()) {
        if let Some(what) = flaw(package) {
            let name = place.rsplit("node_modules/").next().unwrap_or(place);
            let name: String = name.escape_debug().take(214).collect();
            return Err(io::Error::other(format!(
                "it needs {name}, which {what}: only packages of a registry, with a digest, are fetched"
            )));
        }
    }
    Ok(())
}

fn flaw(package: &Value) -> Option<&'static str> {
    if package["link"] == true {
        return Some("is a folder");
    }
    let Some(resolved) = package["resolved"].as_str() else {
        // What is in the file of another package has that one's digest.
        return (package["inBundle"] != true).then_some("comes from nowhere");
    };
    let is_http = ["https://", "http://"]
        .iter()
        .any(|scheme| resolved.starts_with(scheme));
    if !is_http {
        return Some(if resolved.starts_with("git") {
            "is a repository of git"
        } else {
            "is not on an HTTP server"
        });
    }
    let has_digest = package["integrity"].as_str().is_some_and(|digest| digest.contains('-'));
    (!has_digest).then_some("has no digest")
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

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn refuses_what_is_not_a_registrys() {
        let checked = |package: Value| {
            let folder = tempfile::tempdir().unwrap();
            let lock = json!({"packages": {"": {"name": "server"}, "node_modules/a/node_modules/@b/c": package}});
            fs::write(folder.path().join(LOCK[0]), lock.to_string()).unwrap();
            check(folder.path()).map_err(|error| error.to_string())
        };
        let (url, digest) = ("https://registry.example/c.tgz", "sha512-eA==");
        assert_eq!(checked(json!({"resolved": url, "integrity": digest})), Ok(()));
        assert_eq!(checked(json!({"inBundle": true})), Ok(()));
        for (package, what) in [
            (
                json!({"resolved": "git+ssh://git@host/a.git#1", "integrity": digest}),
                "git",
            ),
            (json!({"resolved": "git+https://host/a.git#1", "inBundle": true}), "git"),
            (json!({"resolved": "file:../a.tgz", "integrity": digest}), "HTTP"),
            (json!({"resolved": "../a", "link": true, "inBundle": true}), "folder"),
            (json!({"resolved": url}), "digest"),
            (json!({"resolved": url, "integrity": ""}), "digest"),
            (json!({"resolved": url, "inBundle": true}), "digest"),
            (json!({"version": "1.0.0"}), "nowhere"),
        ] {
            let refused = checked(package).unwrap_err();
            assert!(refused.contains("@b/c") && refused.contains(what), "{refused}");
        }
    }
}
