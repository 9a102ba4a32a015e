//! What npm and uv are told by variables of where packages come from, and how to get there.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use crate::domain::package::Ecosystem;

/// Those of the package managers that a fetch follows. None of them runs anything.
const OF_NPM: [&str; 2] = ["npm_config_registry", "npm_config_cafile"];
const OF_UV: [&str; 7] = [
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_PYTHON",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
];
/// How to get to a registry.
const PROXIES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// For names, and for what no setting says otherwise.
const PORTS: [u16; 2] = [53, 443];

/// The settings for a fetch: the entry's, and where it says nothing the service's own. Any of them may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    /// Of an entry whose environment is `fixed`; `inherited` finds what the service's says. `None`: the entry says something of its own that no
    /// fetch would follow, or one thing twice.
    pub(crate) fn of(
        ecosystem: Ecosystem,
        fixed: &BTreeMap<String, String>,
        inherited: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let mut settings = Self::of_entry(ecosystem, fixed)?;
        // Where an entry names a registry, none of the service's is asked beside it.
        let names_registry = settings.0.keys().any(|name| is_registry(name));
        let in_capitals = |name: &str| inherited(&name.to_ascii_uppercase()).filter(|_| OF_NPM.contains(&name));
        for name in known(ecosystem).chain(PROXIES) {
            let is_said = settings.0.contains_key(name) || names_registry && is_registry(name);
            if !is_said && let Some(value) = inherited(name).or_else(|| in_capitals(name)) {
                settings.0.insert(name, value);
            }
        }
        Some(settings)
    }

    /// What the entry says alone.
    pub(super) fn of_entry(ecosystem: Ecosystem, fixed: &BTreeMap<String, String>) -> Option<Self> {
        let mut settings = BTreeMap::new();
        for (name, value) in fixed {
            let same = |known: &&str| is_same(ecosystem, known, name);
            let found = known(ecosystem)
                .find(same)
                .or_else(|| PROXIES.into_iter().find(|proxy| proxy == name));
            match found {
                Some(found) if settings.insert(found, value.clone()).is_some() => return None,
                Some(_) => {}
                None if is_managers(ecosystem, name) => return None,
                None => {}
            }
        }
        Some(Self(settings))
    }

    /// Whether a variable says something of packages, whatever a fetch makes of it.
    pub(crate) fn concerns(ecosystem: Ecosystem, name: &str) -> bool {
        is_managers(ecosystem, name) || PROXIES.contains(&name) || name == "PATH"
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    pub(super) fn proxies(&self) -> impl Iterator<Item = (&'static str, String)> {
        let proxies = self.0.iter().filter(|(name, _)| PROXIES.contains(name));
        proxies.map(|(name, value)| (*name, value.clone()))
    }

    pub(super) fn of_manager(&self) -> impl Iterator<Item = (&'static str, String)> {
        let others = self.0.iter().filter(|(name, _)| !PROXIES.contains(name));
        others.map(|(name, value)| (*name, value.clone()))
    }

    /// The TCP ports of the registries and proxies. What the metadata of packages names is not reached at others.
    pub(super) fn ports(&self) -> BTreeSet<u16> {
        let is_proxy = |name: &str| PROXIES.contains(&name) && !name.eq_ignore_ascii_case("NO_PROXY");
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

/// npm takes no notice of how the names of its variables are written.
fn is_same(ecosystem: Ecosystem, known: &str, name: &str) -> bool {
    match ecosystem {
        Ecosystem::Npm => known.eq_ignore_ascii_case(name),
        Ecosystem::Pypi => known == name,
    }
}

/// Whether a variable is one of the package manager's.
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
        let uv = of(Ecosystem::Pypi, &[("UV_DEFAULT_INDEX", "entry's")]).unwrap();
        let expected = [
            ("UV_DEFAULT_INDEX", "entry's".to_owned()),
            ("UV_PYTHON", "also".to_owned()),
        ];
        assert_eq!(uv, expected);
    }

    #[test]
    fn what_a_fetch_would_not_follow_is_not_fetched() {
        for fixed in [
            &[("npm_config_before", "2020-01-01")][..],
            &[("NPM_CONFIG_Prefer_Offline", "1")],
            &[("npm_config_registry", "a"), ("NPM_CONFIG_REGISTRY", "b")],
        ] {
            assert_eq!(of(Ecosystem::Npm, fixed), None, "{fixed:?}");
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
