//! Parses arguments that name a package of a package registry, with or without a version. Everything that could mean
//! something else is rejected: URLs, paths, archives, version control references, aliases.

/// The name in `name` or `@scope/name`, each optionally followed by `@` and a version, a range or a tag, as
/// npm-package-arg parses it.
pub(super) fn npm(package: &str) -> Option<&str> {
    let (name, version) = match package.char_indices().skip(1).find(|(_, c)| *c == '@') {
        Some((at, _)) => (&package[..at], Some(&package[at + 1..])),
        None => (package, None),
    };
    let bare = match name.strip_prefix('@') {
        Some(scoped) => {
            let (scope, bare) = scoped.split_once('/')?;
            is_npm_name(scope).then_some(bare)?
        }
        None => name,
    };
    (is_npm_name(bare) && !is_archive(package) && version.is_none_or(is_npm_version)).then_some(name)
}

fn is_npm_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || b"._-".contains(&byte))
}

/// Accepts a version, a range of one comparison, or a tag. Rejects `user/repository`, `./folder` and `scheme:anything`.
fn is_npm_version(version: &str) -> bool {
    let plain = [">=", "<=", "^", "~", "=", ">", "<"]
        .iter()
        .find_map(|comparison| version.strip_prefix(comparison))
        .unwrap_or(version);
    plain
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'*')
        && plain
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-_*".contains(&byte))
}

/// The name with its extras in `name` or `name[extra]`, each optionally followed by one comparison with a version, or
/// in `name@VERSION`, as uv parses it.
pub(super) fn python(package: &str) -> Option<&str> {
    let end = package
        .find(['=', '~', '<', '>', '@', '!', ' ', ';'])
        .unwrap_or(package.len());
    let (name, rest) = package.split_at(end);
    let versioned = match rest.strip_prefix('@') {
        // To uv, anything but a version is a URL or a path here.
        Some(version) => version == "latest" || is_python_version(version),
        None => {
            rest.is_empty()
                || ["==", "~=", ">=", "<="]
                    .iter()
                    .any(|comparison| rest.strip_prefix(comparison).is_some_and(is_python_version))
        }
    };
    (versioned && is_python_name(name) && !is_archive(name)).then_some(name)
}

/// A name with extras according to PEP 508.
fn is_python_name(name: &str) -> bool {
    let (name, extras) = match name.split_once('[') {
        Some((name, extras)) => match extras.strip_suffix(']') {
            Some(extras) => (name, Some(extras)),
            None => return false,
        },
        None => (name, None),
    };
    let is_identifier = |text: &str| {
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        ends(text.bytes().next())
            && ends(text.bytes().next_back())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    is_identifier(name) && extras.is_none_or(|extras| extras.split(',').all(is_identifier))
}

/// A version according to PEP 440 in normal form: `1.2.3`, `2!1.0rc1.post2.dev3`. Local versions do not exist in a
/// registry.
fn is_python_version(version: &str) -> bool {
    let parse = || {
        let version = match version.split_once('!') {
            Some((epoch, version)) => number(epoch)?.is_empty().then_some(version)?,
            None => version,
        };
        let mut rest = number(version)?;
        while let Some(next) = rest.strip_prefix('.').and_then(number) {
            rest = next;
        }
        for words in [&["a", "b", "rc"][..], &[".post"], &[".dev"]] {
            if let Some(behind) = words.iter().find_map(|word| rest.strip_prefix(word)) {
                rest = number(behind)?;
            }
        }
        Some(rest.is_empty())
    };
    parse().unwrap_or(false)
}

/// The rest after leading digits; `None` if there are none.
fn number(text: &str) -> Option<&str> {
    let behind = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (behind.len() < text.len()).then_some(behind)
}

/// Whether a program may treat the text as the name of a file.
fn is_archive(text: &str) -> bool {
    const ENDINGS: [&str; 11] = [
        ".tgz", ".tar", ".gz", ".bz2", ".xz", ".zst", ".zip", ".whl", ".egg", ".py", ".js",
    ];
    let text = text.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| text.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_packages_with_versions() {
        for package in [
            "server",
            "server@1",
            "server@1.2.3",
            "server@^1.2",
            "server@~1.2.3-beta.1+build",
            "server@>=1.2",
            "server@latest",
            "server@next",
            "server@1.x",
            "server@*",
            "server@=1",
        ] {
            assert_eq!(npm(package), Some("server"), "{package}");
        }
        assert_eq!(npm("@scope/server@1"), Some("@scope/server"));
        assert_eq!(npm("@scope/server"), Some("@scope/server"));
        for package in [
            "server",
            "server==1",
            "server==1.2.3",
            "server~=1.2",
            "server>=1",
            "server@1.2.3",
            "server@latest",
            "server==1!2.0rc1.post2.dev3",
            "server==1.0.dev1",
            "server==1.0b2",
            "server==2024.10.1",
        ] {
            assert_eq!(python(package), Some("server"), "{package}");
        }
        assert_eq!(python("mcp[cli,http]==1.0"), Some("mcp[cli,http]"));
    }

    #[test]
    fn rejects_everything_else() {
        for package in [
            "",
            "@",
            "server@",
            "@scope",
            "@scope/",
            "@/server",
            "@scope/server@",
            "server@npm:other@1",
            "server@other@1",
            "server@git+https://evil.example/x",
            "server@https://evil.example/x.tgz",
            "server@file:x",
            "server@./x",
            "server@..",
            "server@.",
            "server@~/x",
            "server@/x",
            "server@user/repository",
            "server@github:user/repository",
            "server@x.tgz",
            "server@1.tar.gz",
            "server@1.TAR",
            "server@workspace:*",
            "server@1 || 2",
            "server@1 2",
            "server@\u{202e}1",
            "server@-1",
            "./server",
            "../server",
            "/server",
            "~/server",
            "user/repository",
            "server.tgz",
            "https://evil.example",
            "git@host:x",
            "C:server",
            "Server",
            "server%20",
            "-p",
            "--package=x",
            "server@===1",
            "@scope/a/b",
            "..",
            ".server",
        ] {
            assert_eq!(npm(package), None, "{package}");
        }
        for package in [
            "",
            "server==",
            "server@",
            "server @ https://evil.example",
            "server@https://evil.example",
            "server@git+https://x",
            "server@./x",
            "server@x",
            "server@1.tar.gz",
            "server@1/x",
            "server==1,<2",
            "server==1; python_version<'3'",
            "server==x",
            "server===1",
            "server!=1",
            "server==1.",
            "server==1..2",
            "server==1.0.",
            "server==1+evil",
            "server==1.0rc",
            "server==1.0a1.",
            "server[",
            "server[]",
            "server[a",
            "./server",
            "server.whl",
            "server.py",
            "git+https://x",
            "server==1.0.0.dev",
            "-p",
            "server<1",
            "server==1.rc1",
            "server==1post1",
            "server==1.0a1.b",
            "server==!1",
            "server==x!1",
            "server==1.*",
            "server@1.0.tar.gz",
        ] {
            assert_eq!(python(package), None, "{package}");
        }
    }
}
