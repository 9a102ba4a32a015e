//! The paths of the tools that `integration-tests/tools` has installed.
//!
//! A journey names the tools it requires in its module documentation, in a line `//! Tools: node, python`.
//! `integration-tests/run` reads that line to install them. This module compares it with the tools that the journey
//! uses, so that none is forgotten.

use std::{collections::BTreeMap, env, fs, path::PathBuf, sync::OnceLock};

/// The repository's root.
pub fn repository() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// A folder or file of this crate that scripts use, such as `node` or `python`.
pub fn own(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The tools.
#[derive(Clone, Copy, Debug)]
pub enum Tool {
    /// Node.js 22.
    Node,
    /// A Python with the packages of `python/requirements.txt`.
    Python,
    /// grpcurl.
    Grpcurl,
    /// A browser.
    Chromium,
    /// nginx.
    Nginx,
    /// Go 1.24 or newer.
    Go,
    /// The folder `node_modules` from `node/package-lock.json`, which is a part of [`Tool::Node`].
    NodeModules,
    /// buf, which is a part of [`Tool::Node`].
    Buf,
    /// buf's plugin for Go's messages. The plugin for Go's clients is in the same folder.
    ProtocGenGo,
    /// The folder with `lib` and `bin` from `clients/java/pom.xml`. `javac` and `java` are on `PATH`.
    Java,
    /// Keycloak's start script.
    Keycloak,
    /// The home of the JDK that it requires, which is a part of [`Tool::Keycloak`].
    KeycloakJdk,
    /// The folder of PostgreSQL's server programs.
    Postgres,
    /// OpenBao's program `bao`.
    Openbao,
}

impl Tool {
    /// The name in journeys and in `integration-tests/tools`.
    fn name(self) -> &'static str {
        match self {
            Self::Node | Self::NodeModules | Self::Buf => "node",
            Self::Python => "python",
            Self::Grpcurl => "grpcurl",
            Self::Chromium => "chromium",
            Self::Nginx => "nginx",
            Self::Go => "go",
            Self::ProtocGenGo => "protoc-gen-go",
            Self::Java => "java",
            Self::Keycloak | Self::KeycloakJdk => "keycloak",
            Self::Postgres => "postgres",
            Self::Openbao => "openbao",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Node => "CHANDLERY_TEST_NODE",
            Self::Python => "CHANDLERY_TEST_PYTHON",
            Self::Grpcurl => "CHANDLERY_TEST_GRPCURL",
            Self::Chromium => "CHANDLERY_TEST_CHROMIUM",
            Self::Nginx => "CHANDLERY_TEST_NGINX",
            Self::Go => "CHANDLERY_TEST_GO",
            Self::NodeModules => "CHANDLERY_TEST_NODE_MODULES",
            Self::Buf => "CHANDLERY_TEST_BUF",
            Self::ProtocGenGo => "CHANDLERY_TEST_PROTOC_GEN_GO",
            Self::Java => "CHANDLERY_TEST_JAVA",
            Self::Keycloak => "CHANDLERY_TEST_KEYCLOAK",
            Self::KeycloakJdk => "CHANDLERY_TEST_KEYCLOAK_JDK",
            Self::Postgres => "CHANDLERY_TEST_POSTGRES_BIN",
            Self::Openbao => "CHANDLERY_TEST_OPENBAO",
        }
    }

    /// The path of the tool.
    ///
    /// # Panics
    /// If the tool is not installed: a journey that is skipped would prove nothing. Also like [`Tool::declared`].
    pub fn path(self) -> PathBuf {
        self.declared();
        let variable = self.variable();
        env::var_os(variable)
            .map(PathBuf::from)
            .or_else(|| left_behind().get(variable).map(PathBuf::from))
            .unwrap_or_else(|| {
                panic!(
                    "{variable} is not set: run `integration-tests/tools {}` once",
                    self.name()
                )
            })
    }

    /// Checks that the journey names the tool in its line `//! Tools:`.
    ///
    /// # Panics
    /// If it does not.
    pub fn declared(self) {
        let Some((journey, tools)) = journey() else {
            return;
        };
        assert!(
            tools.iter().any(|tool| tool == self.name()),
            "{journey} uses {0}: name it in a line `//! Tools: {0}` at its beginning, so that integration-tests/run installs it",
            self.name()
        );
    }
}

/// The file of the journey in this process, and the tools that it names; `None` in a benchmark.
fn journey() -> Option<&'static (String, Vec<String>)> {
    static JOURNEY: OnceLock<Option<(String, Vec<String>)>> = OnceLock::new();
    let read = || {
        let program = env::current_exe().ok()?;
        // Cargo appends a hash to the name.
        let (name, _) = program.file_stem()?.to_str()?.rsplit_once('-')?;
        let file = format!("tests/{name}.rs");
        let text = fs::read_to_string(own(&file)).ok()?;
        let tools = text.lines().find_map(|line| line.strip_prefix("//! Tools: "));
        let tools = tools.unwrap_or_default().split(", ").map(str::to_owned).collect();
        Some((file, tools))
    };
    JOURNEY.get_or_init(read).as_ref()
}

/// The script of an npm package's command: the resolved `node_modules/.bin/NAME`.
pub fn npm_command(name: &str) -> PathBuf {
    let link = Tool::NodeModules.path().join(".bin").join(name);
    fs::canonicalize(&link).unwrap_or_else(|error| panic!("{}: {error}", link.display()))
}

/// The program of a Python package's command.
pub fn python_command(name: &str) -> PathBuf {
    Tool::Python.path().with_file_name(name)
}

/// The folders of [`Tool::Python`], for `--server-read`: if a shell script starts Python, nothing shows that the server
/// requires them.
///
/// # Panics
/// If it is not a virtual environment.
pub fn python_folders() -> String {
    let environment = Tool::Python
        .path()
        .parent()
        .and_then(std::path::Path::parent)
        .map(PathBuf::from);
    let environment = environment.expect("it is in a folder bin");
    let base = fs::canonicalize(Tool::Python.path()).expect("it exists");
    let prefix = base
        .parent()
        .and_then(std::path::Path::parent)
        .expect("it is in a folder bin");
    format!("{},{}", environment.display(), prefix.display())
}

/// The variables that the last run of `integration-tests/tools` wrote, for a `cargo test` typed by hand.
fn left_behind() -> &'static BTreeMap<String, String> {
    static LEFT: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    LEFT.get_or_init(|| {
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cache")))
            .unwrap_or_default();
        let text = fs::read_to_string(cache.join("chandlery/tools/tools.env")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    })
}
