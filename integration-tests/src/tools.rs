//! Where the programs of others are, as `integration-tests/tools` installed them.
//!
//! A journey names those it needs in its module documentation, in a line `//! Tools: node, python`. `integration-tests/run` reads that line to
//! install them; here it is compared with what the journey asks for, so it cannot be forgotten.

use std::{collections::BTreeMap, env, fs, path::PathBuf, sync::OnceLock};

/// The repository's root.
pub fn repository() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// The folder of a file of this crate that programs of others read: `node`, `python`.
pub fn own(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The programs of others, by what they are called.
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
    /// The folder `node_modules` made from `node/package-lock.json`; it comes with [`Tool::Node`].
    NodeModules,
    /// buf; it comes with [`Tool::Node`].
    Buf,
    /// The plugin of buf that makes Go's messages; the one for Go's clients lies beside it.
    ProtocGenGo,
    /// The folder of `lib` and `bin` that Maven made from `clients/java/pom.xml`; `javac` and `java` are on `PATH`.
    Java,
    /// The folder of PostgreSQL's server programs.
    Postgres,
}

impl Tool {
    /// What a journey and `integration-tests/tools` call it.
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
            Self::Postgres => "postgres",
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
            Self::Postgres => "CHANDLERY_TEST_POSTGRES_BIN",
        }
    }

    /// Where it is.
    ///
    /// # Panics
    /// If it was not installed: a journey without its parts proves nothing, so it fails rather than being skipped. As [`Tool::declared`].
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

    /// Checks that the journey that runs names it in its line `//! Tools:`.
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

/// The file of the journey that this process runs, and the tools that it names; none in a benchmark.
fn journey() -> Option<&'static (String, Vec<String>)> {
    static JOURNEY: OnceLock<Option<(String, Vec<String>)>> = OnceLock::new();
    let read = || {
        let program = env::current_exe().ok()?;
        // Cargo appends a hash.
        let (name, _) = program.file_stem()?.to_str()?.rsplit_once('-')?;
        let file = format!("tests/{name}.rs");
        let text = fs::read_to_string(own(&file)).ok()?;
        let tools = text.lines().find_map(|line| line.strip_prefix("//! Tools: "));
        let tools = tools.unwrap_or_default().split(", ").map(str::to_owned).collect();
        Some((file, tools))
    };
    JOURNEY.get_or_init(read).as_ref()
}

/// What an npm package's command runs: `node_modules/.bin/NAME`, resolved.
pub fn npm_command(name: &str) -> PathBuf {
    let link = Tool::NodeModules.path().join(".bin").join(name);
    fs::canonicalize(&link).unwrap_or_else(|error| panic!("{}: {error}", link.display()))
}

/// What a Python package's command runs.
pub fn python_command(name: &str) -> PathBuf {
    Tool::Python.path().with_file_name(name)
}

/// For `--server-read`: what the Python of [`Tool::Python`] needs where no one can see that a server needs it, in a shell's script.
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

/// The variables that the last run of `integration-tests/tools` left, for a `cargo test` typed by hand.
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
