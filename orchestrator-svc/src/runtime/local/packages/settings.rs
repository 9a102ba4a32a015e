//! The settings of npm and uv in environment variables: which registries to use, and through which proxies.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use crate::domain::package::Ecosystem;

/// The settings that a fetch supports. None of them makes the package manager run a program.
const OF_NPM: [&str; 3] = ["npm_config_registry", "npm_config_cafile", "NODE_EXTRA_CA_CERTS"];
const OF_UV: [&str; 10] = [
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_PYTHON",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
    "UV_HTTP_TIMEOUT",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Settings that do not change what is fetched, which a fetch ignores.
const HARMLESS: [&str; 15] = [
    "npm_config_audit",
    "npm_config_cache",
    "npm_config_color",
    "npm_config_fund",
    "npm_config_loglevel",
    "npm_config_progress",
    "npm_config_update_notifier",
    "npm_config_yes",
    "UV_CACHE_DIR",
    "UV_COMPILE_BYTECODE",
    "UV_LINK_MODE",
    "UV_NO_CACHE",
    "UV_NO_PROGRESS",
    "UV_TOOL_BIN_DIR",
    "UV_TOOL_DIR",
];
/// The proxy settings, which may also be written in capitals.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "all_proxy", "proxy", "no_proxy"];
/// The ports for DNS and for URLs without a port.
const PORTS: [u16; 2] = [53, 443];

/// The settings of a fetch: those of the entry, and where it has none, those of the service. Any of them may contain a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    /// The settings for an entry with the environment `fixed`. `inherited` looks a variable of the service up. `None` if the entry has a setting
    /// that a fetch does not support, or has the same setting twice.
    pub(crate) fn of(
        ecosystem: Ecosystem,
        fixed: &BTreeMap<String, String>,
        inherited: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let mut settings = Self::of_entry(ecosystem, fixed)?;
        // If the entry names the registry, none of the service's is used; if it names further registries, no further ones of the service.
        let names_registry = settings.0.keys().any(|name| is_default(name));
        let names_further = settings.0.keys().any(|name| is_registry(name));
        let inherited = |name: &str| inherited(name).filter(|value| !value.is_empty());
        for name in known(ecosystem).chain(PROXIES) {
            let is_settled =
                names_registry && is_registry(name) || names_further && is_registry(name) && !is_default(name);
            if !is_settled
                && !settings.0.contains_key(name)
                && let Some(value) = inherited(name).or_else(|| inherited(&name.to_ascii_uppercase()))
            {
                settings.0.insert(name, value);
            }
        }
        Some(settings)
    }

    /// Only the settings of the entry.
    pub(super) fn of_entry(ecosystem: Ecosystem, fixed: &BTreeMap<String, String>) -> Option<Self> {
        let mut settings = BTreeMap::new();
        // An empty setting is the same as none.
        for (name, value) in fixed.iter().filter(|(_, value)| !value.is_empty()) {
            // npm would replace these with variables of its environment.
            let is_template = ecosystem == Ecosystem::Npm && value.contains("${");
            match setting(ecosystem, name) {
                Some(_) if is_template => return None,
                Some(setting) => {
                    let other = settings.insert(setting, value.clone());
                    if other.is_some_and(|other| other != *value) {
                        return None;
                    }
                }
                None if is_managers(ecosystem, name) && !is_harmless(ecosystem, name) => return None,
                None => {}
            }
        }
        Some(Self(settings))
    }

    /// Whether a variable is a setting of packages, supported or not.
    pub(crate) fn concerns(ecosystem: Ecosystem, name: &str) -> bool {
        is_managers(ecosystem, name) || setting(ecosystem, name).is_some() || name == "PATH"
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The proxy settings in small letters and in capitals, since programs prefer one or the other.
    pub(super) fn proxies(&self) -> impl Iterator<Item = (String, String)> {
        let proxies = self.0.iter().filter(|(name, _)| PROXIES.contains(name));
        proxies
            .flat_map(|(name, value)| [(*name).to_owned(), name.to_ascii_uppercase()].map(|name| (name, value.clone())))
    }

    pub(super) fn of_manager(&self) -> impl Iterator<Item = (String, String)> {
        let others = self.0.iter().filter(|(name, _)| !PROXIES.contains(name));
        others.map(|(name, value)| ((*name).to_owned(), value.clone()))
    }

    /// The TCP ports of the registries and proxies. URLs in the metadata of packages with other ports are not reachable.
    pub(super) fn ports(&self) -> BTreeSet<u16> {
        let is_proxy = |name: &str| PROXIES.contains(&name) && name != "no_proxy";
        let values = self.all().filter(|(name, _)| is_registry(name) || is_proxy(name));
        let urls = values.flat_map(|(_, value)| addresses(value));
        urls.filter_map(|url| url.port_or_known_default())
            .chain(PORTS)
            .collect()
    }
}

fn known(ecosystem: Ecosystem) -> impl Iterator<Item = &'static str> {
    let known: &[_] = match ecosystem {
        Ecosystem::Npm => &OF_NPM,
        Ecosystem::Pypi => &OF_UV,
    };
    known.iter().copied()
}

/// The supported setting that a variable is, in the usual spelling.
fn setting(ecosystem: Ecosystem, name: &str) -> Option<&'static str> {
    let is_proxy = |proxy: &&str| proxy.eq_ignore_ascii_case(name);
    let is_known = |known: &&str| is_same(ecosystem, known, name);
    known(ecosystem)
        .find(is_known)
        .or_else(|| PROXIES.into_iter().find(is_proxy))
}

fn is_harmless(ecosystem: Ecosystem, name: &str) -> bool {
    HARMLESS.iter().any(|harmless| is_same(ecosystem, harmless, name))
}

/// The name of a variable as npm reads it: it ignores case.
fn is_same(ecosystem: Ecosystem, known: &str, name: &str) -> bool {
    match ecosystem {
        Ecosystem::Npm => known.eq_ignore_ascii_case(name),
        Ecosystem::Pypi => known == name,
    }
}

/// Whether a variable is a setting of the package manager.
fn is_managers(ecosystem: Ecosystem, name: &str) -> bool {
    let beginning = match ecosystem {
        Ecosystem::Npm => "npm_config_",
        Ecosystem::Pypi => "UV_",
    };
    name.get(..beginning.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

fn is_registry(name: &str) -> bool {
    name.contains("INDEX") || name == "npm_config_registry"
}

/// Whether a setting names the default registry.
fn is_default(name: &str) -> bool {
    matches!(name, "npm_config_registry" | "UV_DEFAULT_INDEX" | "UV_INDEX_URL")
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

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn entry(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    fn of(ecosystem: Ecosystem, fixed: &[(&str, &str)]) -> Option<Vec<(&'static str, String)>> {
        let inherited = |name: &str| match name {
            "npm_config_registry" | "UV_INDEX_URL" | "UV_EXTRA_INDEX_URL" => Some("service's".to_owned()),
            "npm_config_cafile" | "UV_PYTHON" => Some("also".to_owned()),
            _ => None,
        };
        let settings = Settings::of(ecosystem, &entry(fixed), inherited)?;
        Some(settings.all().map(|(name, value)| (name, value.to_owned())).collect())
    }

    #[test]
    fn the_entrys_registry_is_asked_alone() {
        let both =
            |name: &'static str, value: &str, other| Some(vec![(other, "also".to_owned()), (name, value.to_owned())]);
        let npm = |fixed: &[_]| of(Ecosystem::Npm, fixed);
        let ours = both("npm_config_registry", "service's", "npm_config_cafile");
        assert_eq!(npm(&[]), ours);
        assert_eq!(npm(&[("UV_INDEX", "x"), ("OTHER", "y")]), ours);
        let theirs = both("npm_config_registry", "entry's", "npm_config_cafile");
        for name in ["npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_Registry"] {
            assert_eq!(npm(&[(name, "entry's")]), theirs, "{name}");
        }
        let uv = |fixed: &[_]| of(Ecosystem::Pypi, fixed).unwrap();
        let expected = [
            ("UV_DEFAULT_INDEX", "entry's".to_owned()),
            ("UV_PYTHON", "also".to_owned()),
        ];
        assert_eq!(uv(&[("UV_DEFAULT_INDEX", "entry's")]), expected);
        // A further one is further to the service's own, and what is empty is nothing.
        let expected = [
            ("UV_INDEX", "entry's".to_owned()),
            ("UV_INDEX_URL", "service's".to_owned()),
            ("UV_PYTHON", "also".to_owned()),
        ];
        assert_eq!(uv(&[("UV_INDEX", "entry's"), ("UV_DEFAULT_INDEX", "")]), expected);
        assert_eq!(npm(&[("npm_config_registry", "")]), ours);
    }

    #[test]
    fn proxies_are_the_same_in_capitals() {
        let fixed = entry(&[
            ("HTTP_PROXY", "entry's"),
            ("http_proxy", "entry's"),
            ("ALL_PROXY", "all's"),
        ]);
        let inherited = |name: &str| matches!(name, "http_proxy" | "NO_PROXY").then(|| "service's".to_owned());
        let settings = Settings::of(Ecosystem::Pypi, &fixed, inherited).unwrap();
        let mut proxies: Vec<_> = settings.proxies().collect();
        proxies.sort();
        let expected = [
            ("ALL_PROXY", "all's"),
            ("HTTP_PROXY", "entry's"),
            ("NO_PROXY", "service's"),
            ("all_proxy", "all's"),
            ("http_proxy", "entry's"),
            ("no_proxy", "service's"),
        ];
        assert_eq!(
            proxies,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_a_fetch_would_not_follow_is_not_fetched() {
        for fixed in [
            &[("npm_config_before", "2020-01-01")][..],
            &[("NPM_CONFIG_Prefer_Offline", "1")],
            &[("npm_config_registry", "a"), ("NPM_CONFIG_REGISTRY", "b")],
            &[("npm_config_registry", "http://${http_proxy}/")],
            &[("HTTP_PROXY", "a"), ("http_proxy", "b")],
        ] {
            assert_eq!(of(Ecosystem::Npm, fixed), None, "{fixed:?}");
        }
        for harmless in ["npm_config_yes", "NPM_CONFIG_LOGLEVEL"] {
            assert!(of(Ecosystem::Npm, &[(harmless, "x")]).is_some());
        }
        for name in ["UV_NO_INDEX", "UV_FIND_LINKS", "UV_CONSTRAINT", "uv_index"] {
            assert_eq!(of(Ecosystem::Pypi, &[(name, "x")]), None, "{name}");
        }
    }

    #[test]
    fn only_the_ports_of_registries_and_proxies_are_reached() {
        let fixed = [
            (
                "UV_INDEX",
                "one=https://u:p@one.example:8443/simple http://two.example/simple",
            ),
            ("HTTPS_PROXY", "proxy:3128"),
            ("NO_PROXY", "other.example:1"),
            ("UV_PYTHON", "/opt/python:2"),
        ];
        let ports = |ecosystem, fixed: &[_]| {
            let settings = Settings::of(ecosystem, &entry(fixed), |_| None).unwrap();
            settings.ports().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(ports(Ecosystem::Pypi, &fixed), [53, 80, 443, 3128, 8443]);
        assert_eq!(
            ports(Ecosystem::Npm, &[("npm_config_registry", "http://[::1]:4873")]),
            [53, 443, 4873]
        );
    }
}
