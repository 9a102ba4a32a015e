//! Parses the commands of entries that name a package of npm or PyPI, which `npx` or `uvx` would fetch and run.

use crate::domain::package::Ecosystem;

/// A package that a command names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageRequest {
    pub(crate) ecosystem: Ecosystem,
    /// The package as the entry names it, with a version if the entry has one: `@scope/server@1.2`, `server[extra]==1.2`.
    pub(crate) requested: String,
    /// The name without version.
    pub(crate) name: String,
    /// A version, a range or a tag; empty for the newest version.
    pub(crate) version: String,
    /// The program of the package to run; `None` for the one with the package's name.
    pub(crate) program: Option<String>,
    /// How many of the entry's arguments name the package. Those that follow are the program's.
    pub(crate) consumed: usize,
    /// Whether the owner must confirm new versions.
    pub(crate) confirm_new_versions: bool,
    /// Identifies where the package is fetched from, and by which programs; see [`super::origin()`].
    pub(crate) origin: String,
}

impl PackageRequest {
    /// The package that a command names, if the command is `npx` or `uvx` with the name of one package of a registry. Any other use
    /// (`--package`, `--with`, URLs, folders) is left to the launcher. `confirm_new_versions` and `origin` are set by the caller.
    pub(crate) fn of(command: &str, arguments: &[String]) -> Option<Self> {
        match command.rsplit('/').next()? {
            "npx" => Self::of_npx(arguments),
            "uvx" => Self::of_uvx(arguments),
            _ => None,
        }
    }

    fn of_npx(arguments: &[String]) -> Option<Self> {
        let options = arguments
            .iter()
            .take_while(|argument| matches!(argument.as_str(), "-y" | "--yes" | "-q" | "--quiet"));
        let options = options.count();
        let requested = arguments.get(options)?;
        let scope = usize::from(requested.starts_with('@'));
        let (name, version) = match requested[scope..].find('@') {
            Some(at) => (&requested[..scope + at], &requested[scope + at + 1..]),
            None => (requested.as_str(), ""),
        };
        let bare = match name.strip_prefix('@') {
            Some(scoped) => scoped.split_once('/').filter(|(scope, _)| is_name(scope))?.1,
            None => name,
        };
        (is_name(bare) && is_version(version) && !requested.ends_with('@')).then(|| Self {
            ecosystem: Ecosystem::Npm,
            requested: requested.clone(),
            name: name.to_owned(),
            version: version.to_owned(),
            program: None,
            consumed: options + 1,
            confirm_new_versions: false,
            origin: String::new(),
        })
    }

    fn of_uvx(arguments: &[String]) -> Option<Self> {
        let options = arguments
            .iter()
            .take_while(|argument| matches!(argument.as_str(), "-q" | "--quiet"))
            .count();
        let (requested, program, consumed) = match arguments.get(options)?.as_str() {
            "--from" => (
                arguments.get(options + 1)?,
                Some(arguments.get(options + 2)?),
                options + 3,
            ),
            _ => (arguments.get(options)?, None, options + 1),
        };
        let end = requested.find(|c| "=<>!~@".contains(c)).unwrap_or(requested.len());
        let (named, version) = requested.split_at(end);
        let name = match named.split_once('[') {
            Some((name, extras)) => {
                let mut extras = extras.strip_suffix(']')?.split(',');
                extras.all(is_name).then_some(name)?
            }
            None => named,
        };
        let version = match version.strip_prefix('@') {
            Some("latest") => String::new(),
            Some(version) if !version.starts_with(|c: char| "=<>!~".contains(c)) && !version.is_empty() => {
                format!("=={version}")
            }
            Some(_) => return None,
            None => version.to_owned(),
        };
        let runs = program.is_none_or(|program| is_name(program));
        (is_name(name) && is_version(&version) && runs).then(|| Self {
            ecosystem: Ecosystem::Pypi,
            requested: requested.clone(),
            name: named.to_owned(),
            version,
            program: program.cloned().or_else(|| Some(name.to_owned())),
            consumed,
            confirm_new_versions: false,
            origin: String::new(),
        })
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 214
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether a text is a version, a range or a tag, rather than a URL, a path or an alias.
fn is_version(text: &str) -> bool {
    text.len() <= 100
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-^~<>=!*, ".contains(&b))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn request(line: &str) -> Option<(String, String, Option<String>, usize)> {
        let mut words = line.split(' ').map(str::to_owned);
        let command = words.next().unwrap();
        let found = PackageRequest::of(&command, &words.collect::<Vec<_>>())?;
        Some((found.name, found.version, found.program, found.consumed))
    }

    #[test]
    fn recognizes_what_names_a_package_and_nothing_else() {
        let some = |name: &str, version: &str, program: Option<&str>, consumed| {
            Some((
                name.to_owned(),
                version.to_owned(),
                program.map(str::to_owned),
                consumed,
            ))
        };
        assert_eq!(
            request("npx -y @scope/server /data"),
            some("@scope/server", "", None, 2)
        );
        assert_eq!(request("/usr/bin/npx server@1.2.3"), some("server", "1.2.3", None, 1));
        assert_eq!(request("npx @scope/server@^2 -y"), some("@scope/server", "^2", None, 1));
        assert_eq!(request("uvx server"), some("server", "", Some("server"), 1));
        assert_eq!(request("uvx server@1.2"), some("server", "==1.2", Some("server"), 1));
        assert_eq!(request("uvx server@latest"), some("server", "", Some("server"), 1));
        assert_eq!(
            request("uvx --from server[a,b]>=1 run --x"),
            some("server[a,b]", ">=1", Some("run"), 3)
        );
        for other in [
            "npx",
            "npx -p other server",
            "npx --package=other server",
            "npx --registry=https://x server",
            "npx github:owner/server",
            "npx owner/server",
            "npx ./server",
            "npx server@npm:other",
            "npx server@https://x/y.tgz",
            "npx server@",
            "npx @/server",
            "npx -c server",
            "uvx --with other server",
            "uvx --index-url https://x server",
            "uvx git+https://x/y",
            "uvx --from git+https://x/y server",
            "uvx --from server ../x",
            "uvx server@",
            "uvx server@==1",
            "uvx ./server.whl",
            "node server",
        ] {
            assert_eq!(request(other), None, "{other}");
        }
    }
}
