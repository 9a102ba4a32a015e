//! The origin of a package: the registry that an entry names, and the programs that fetch the package.
//!
//! Pins and trees are not shared between origins: an admin who names another registry, or another package manager, gets neither the versions nor
//! the files of the first one.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::Settings;
use crate::domain::package::Ecosystem;

/// The origin as a hex digest of the launcher and of the settings in `fixed`, the environment of the entry, without passwords. Settings in the
/// service's own environment are left out: an operator may move a registry without changing what servers run. `None` if the entry has settings
/// that a fetch does not support.
pub(crate) fn origin(ecosystem: Ecosystem, launcher: &str, fixed: &BTreeMap<String, String>) -> Option<String> {
    let mut digest = Sha256::new();
    let mut add = |name: &str, value: &str| {
        for part in [name, &without_passwords(value)] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    };
    add("launcher", launcher.rsplit_once('/').map_or("", |(folder, _)| folder));
    if let Some(path) = fixed.get("PATH") {
        add("PATH", path);
    }
    for (name, value) in Settings::of_entry(ecosystem, fixed)?.all() {
        add(name, value);
    }
    Some(hex::encode(digest.finalize()))
}

/// A setting without the user information of its URLs, since another password does not make another origin.
fn without_passwords(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        let end = after
            .find(|c: char| c.is_whitespace() || "/?#".contains(c))
            .unwrap_or(after.len());
        let authority = &after[..end];
        out.push_str(before);
        out.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use pretty_assertions::{assert_eq, assert_ne};

    use super::*;

    fn npm(fixed: &[(&str, &str)], launcher: &str) -> String {
        let fixed = fixed
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        origin(Ecosystem::Npm, launcher, &fixed.collect()).unwrap()
    }

    #[test]
    fn another_registry_is_another_origin() {
        const NAME: &str = "npm_config_registry";
        let ours = npm(&[(NAME, "https://registry.example/")], "npx");
        for other in [
            npm(&[], "npx"),
            npm(&[(NAME, "https://other.example/")], "npx"),
            npm(&[(NAME, "https://registry.example/"), ("PATH", "/opt/other")], "npx"),
            npm(
                &[(NAME, "https://registry.example/"), ("https_proxy", "http://proxy:1")],
                "npx",
            ),
            npm(&[(NAME, "https://registry.example/")], "/opt/other/npx"),
        ] {
            assert_ne!(other, ours);
        }
        for same in [
            npm(&[(NAME, "https://user:password@registry.example/")], "npx"),
            npm(
                &[
                    ("NPM_CONFIG_REGISTRY", "https://registry.example/"),
                    ("UV_INDEX", "https://x/"),
                    ("OTHER", "1"),
                ],
                "npx",
            ),
        ] {
            assert_eq!(same, ours);
        }
    }

    #[test]
    fn passwords_are_left_out_and_nothing_else() {
        let text = "a=https://u:p@host:1/x@y?z b=http://[::1]/ https://p@q@host";
        assert_eq!(
            without_passwords(text),
            "a=https://host:1/x@y?z b=http://[::1]/ https://host"
        );
        assert_eq!(without_passwords("/opt/a@b:/bin"), "/opt/a@b:/bin");
    }
}
