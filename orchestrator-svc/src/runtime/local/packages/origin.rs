//! Where an entry has its package fetched from, and by which programs.
//!
//! What one origin gave is no answer for another: an admin who names another registry, or another package manager, gets neither the versions
//! nor the files that the first one gave.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use url::Url;

use super::{PROXIES, SETTINGS};
use crate::domain::package::Ecosystem;

/// For names, and for what no setting says otherwise.
const PORTS: [u16; 2] = [53, 443];

/// What tells origins apart, as a hex digest, without passwords: all that the entry says of it, of whose environment `fixed` is. What the
/// service's own environment says is the operator's, who may move a registry without any server running other versions for that.
pub(crate) fn origin(ecosystem: Ecosystem, launcher: &str, fixed: &BTreeMap<String, String>) -> String {
    let mut digest = Sha256::new();
    let mut add = |name: &str, value: &str| {
        for part in [name, &without_passwords(value)] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    };
    add("launcher", launcher.rsplit_once('/').map_or("", |(folder, _)| folder));
    for name in std::iter::once("PATH").chain(PROXIES).chain(settings(ecosystem)) {
        if let Some(value) = fixed.get(name) {
            add(name, value);
        }
    }
    hex::encode(digest.finalize())
}

/// Those of one package manager.
fn settings(ecosystem: Ecosystem) -> impl Iterator<Item = &'static str> {
    SETTINGS
        .into_iter()
        .filter(move |name| name.starts_with("UV_") == (ecosystem == Ecosystem::Pypi))
}

/// The TCP ports of the registries and proxies that `setting` finds. What the metadata of packages names is not reached at others.
pub(super) fn ports(ecosystem: Ecosystem, setting: impl Fn(&str) -> Option<String>) -> BTreeSet<u16> {
    let proxies = PROXIES
        .into_iter()
        .filter(|name| !name.eq_ignore_ascii_case("NO_PROXY"));
    let values = settings(ecosystem)
        .filter(|name| name.contains("INDEX") || name.to_ascii_lowercase().ends_with("registry"))
        .chain(proxies)
        .filter_map(setting);
    let mut ports = BTreeSet::from(PORTS);
    for value in values {
        ports.extend(addresses(&value).filter_map(|url| url.port_or_known_default()));
    }
    ports
}

/// The URLs of a setting: one, or some with names, as in `UV_INDEX`; of a proxy, perhaps without scheme.
fn addresses(value: &str) -> impl Iterator<Item = Url> {
    value.split_ascii_whitespace().filter_map(|word| {
        let Some(scheme) = word.find("://") else {
            return Url::parse(&format!("http://{word}")).ok();
        };
        let name = word[..scheme].rfind('=').map_or(0, |end| end + 1);
        Url::parse(&word[name..]).ok()
    })
}

/// A setting without the user information of its URLs: a password that is replaced makes no other origin.
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
        origin(Ecosystem::Npm, launcher, &fixed.collect())
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
                    (NAME, "https://registry.example/"),
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

    #[test]
    fn only_the_ports_of_registries_and_proxies_are_reached() {
        let setting = |name: &str| match name {
            "UV_INDEX" => Some("one=https://u:p@one.example:8443/simple http://two.example/simple".to_owned()),
            "npm_config_registry" => Some("http://[::1]:4873".to_owned()),
            "HTTPS_PROXY" => Some("proxy:3128".to_owned()),
            "NO_PROXY" => Some("other.example".to_owned()),
            _ => None,
        };
        let ports = |ecosystem| ports(ecosystem, setting).into_iter().collect::<Vec<_>>();
        assert_eq!(ports(Ecosystem::Pypi), [53, 80, 443, 3128, 8443]);
        assert_eq!(ports(Ecosystem::Npm), [53, 443, 3128, 4873]);
    }
}
