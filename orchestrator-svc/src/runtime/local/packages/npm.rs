//! Trees of npm's packages.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use super::PackageRequest;
use super::made::{inside, read_made};

/// The lock file, and what it locks.
pub(super) const LOCK: [&str; 2] = ["package-lock.json", "package.json"];
/// Writes the lock file for `package.json`.
pub(super) const RESOLVE: &str = "exec \"$0\" install --package-lock-only --ignore-scripts --omit=dev --no-audit --no-fund \
                                  --no-update-notifier --loglevel=error";
/// Installs exactly what the lock file says.
pub(super) const INSTALL: &str =
    "exec \"$0\" ci --ignore-scripts --omit=dev --no-audit --no-fund --no-update-notifier --loglevel=error";
/// Runs the installation scripts of what is installed.
pub(super) const RUN_SCRIPTS: &str = "exec \"$0\" rebuild --no-audit --no-fund --no-update-notifier --loglevel=error";

/// Variables of every step, which override the settings in a folder and are passed on to each npm that npm starts. Dependencies on git
/// repositories are turned off, since npm would follow the settings in them and run their scripts. npm 10 does not know `allow_git`; its error for the missing
/// `git` shows the path. The two settings files have different names because npm refuses to read the same file twice.
pub(super) const ENVIRONMENT: [(&str, &str); 4] = [
    ("npm_config_git", "/nonexistent/git-repositories-are-not-fetched"),
    ("npm_config_allow_git", "none"),
    ("npm_config_userconfig", "/dev/null"),
    ("npm_config_globalconfig", "/nonexistent/npmrc"),
];

/// Writes `package.json` for the requested package.
pub(super) fn ask(request: &PackageRequest, folder: &Path) -> io::Result<()> {
    let version = if request.version.is_empty() {
        "latest"
    } else {
        &request.version
    };
    // The name of the project is in the lock file, so it is the same for all installations.
    let project = json!({"name": "server", "private": true, "dependencies": {request.name.as_str(): version}});
    fs::write(folder.join("package.json"), project.to_string())
}

fn lock(folder: &Path) -> io::Result<Value> {
    Ok(serde_json::from_slice(&read_made(folder, LOCK[0])?)?)
}

/// The exact version of the requested package.
pub(super) fn version(request: &PackageRequest, folder: &Path) -> io::Result<String> {
    let lock = lock(folder)?;
    let version = lock["packages"][format!("node_modules/{}", request.name)]["version"].as_str();
    version
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("the lock file does not name the package"))
}

/// Checks that each package of a lock file is a file with a digest, from an HTTP server.
///
/// # Errors
/// Names the first package that is not.
pub(super) fn check(folder: &Path) -> io::Result<()> {
    let lock = lock(folder)?;
    let packages = lock["packages"].as_object();
    let packages = packages.ok_or_else(|| io::Error::other("the lock file names no packages"))?;
    for (place, package) in packages.iter().filter(|(place, _)| !place.is_empty()) {
        if let Some(what) = flaw(package).or_else(|| odd_dependency(package)) {
            let name = place.rsplit("node_modules/").next().unwrap_or(place);
            let name: String = name.escape_debug().take(214).collect();
            return Err(io::Error::other(format!(
                "it depends on {name}, which {what}: only packages from a registry, with a digest, are fetched"
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
        // A bundled package is covered by the digest of the package that contains it.
        return (package["inBundle"] != true).then_some("has no source");
    };
    let is_http = ["https://", "http://"]
        .iter()
        .any(|scheme| resolved.starts_with(scheme));
    if !is_http {
        return Some(if resolved.starts_with("git") {
            "is a git repository"
        } else {
            "is not on an HTTP server"
        });
    }
    let integrity = package["integrity"].as_str().unwrap_or_default();
    // npm ignores algorithms that it does not know, and accepts any one of several digests.
    let strong = integrity
        .split_ascii_whitespace()
        .filter(|digest| is_strong(digest))
        .count();
    match strong {
        1 => None,
        0 => Some("has no digest (SHA-256 or longer)"),
        _ => Some("has more than one digest"),
    }
}

/// Whether a text is a digest of Subresource Integrity: an algorithm, and as many bytes in base64 as it produces.
fn is_strong(digest: &str) -> bool {
    const ALGORITHMS: [(&str, usize, usize); 3] = [("sha256-", 43, 1), ("sha384-", 64, 0), ("sha512-", 86, 2)];
    ALGORITHMS.iter().any(|(algorithm, length, padding)| {
        digest.strip_prefix(algorithm).is_some_and(|value| {
            let (value, end) = value.split_at_checked(*length).unwrap_or_default();
            let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
            value.bytes().all(is_base64) && value.len() == *length && end == &"=="[..*padding]
        })
    })
}

/// A dependency by URL, which need not be one of the registry.
fn odd_dependency(package: &Value) -> Option<&'static str> {
    const KINDS: [&str; 3] = ["dependencies", "optionalDependencies", "peerDependencies"];
    let asked = KINDS.iter().filter_map(|kind| package[kind].as_object());
    let mut asked = asked.flat_map(|all| all.values()).filter_map(Value::as_str);
    let is_address = |asked: &str| asked.contains(':') && !asked.starts_with("npm:");
    asked.any(is_address).then_some("depends on another one by its URL")
}

/// Whether a package of the lock file has installation scripts.
pub(super) fn has_scripts(folder: &Path) -> io::Result<bool> {
    let lock = lock(folder)?;
    let packages = lock["packages"].as_object();
    let has = |package: &Value| package["hasInstallScript"] == true && package["optional"] != true;
    Ok(packages.is_some_and(|packages| packages.values().any(has)))
}

/// The program that `npx` would run: the package's only one, or the one with the package's name.
pub(super) fn program(request: &PackageRequest, tree: &Path) -> io::Result<String> {
    let modules = tree.join("node_modules");
    let text = read_made(
        &inside(tree, &format!("node_modules/{}", request.name))?,
        "package.json",
    )?;
    let package: Value = serde_json::from_slice(&text)?;
    let bare = request.name.rsplit('/').next().unwrap_or(&request.name);
    let name = match &package["bin"] {
        Value::String(_) => Some(bare),
        Value::Object(programs) if programs.len() == 1 => programs.keys().next().map(String::as_str),
        Value::Object(programs) => programs.contains_key(bare).then_some(bare),
        _ => None,
    };
    let name = name.filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
    let name = name.ok_or_else(|| {
        let what = format!("the package {} has no program of its own name", request.name);
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
        let digest = format!("sha512-{}==", "Ab+/0z".repeat(15).split_at(86).0);
        let (url, digest) = ("https://registry.example/c.tgz", digest.as_str());
        assert_eq!(checked(json!({"resolved": url, "integrity": digest})), Ok(()));
        assert_eq!(checked(json!({"inBundle": true})), Ok(()));
        let several = json!({"resolved": url, "integrity": format!("sha1-{} {digest}", "a".repeat(27)), "dependencies": {"d": "npm:@e/f@1"}});
        assert_eq!(checked(several), Ok(()));
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
            (json!({"resolved": url, "integrity": "none-AAAA"}), "no digest"),
            (json!({"resolved": url, "integrity": "sha512-AAAA"}), "no digest"),
            (
                json!({"resolved": url, "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}),
                "no digest",
            ),
            (
                json!({"resolved": url, "integrity": digest.replace('+', ".")}),
                "no digest",
            ),
            (
                json!({"resolved": url, "integrity": format!("{digest}?x")}),
                "no digest",
            ),
            (
                json!({"resolved": url, "integrity": format!("{digest} {digest}")}),
                "more than one",
            ),
            (
                json!({"resolved": url, "integrity": digest, "optionalDependencies": {"d": "http://127.0.0.1/d.tgz"}}),
                "URL",
            ),
            (json!({"resolved": url, "inBundle": true}), "digest"),
            (json!({"version": "1.0.0"}), "no source"),
        ] {
            let refused = checked(package).unwrap_err();
            assert!(refused.contains("@b/c") && refused.contains(what), "{refused}");
        }
    }
}
