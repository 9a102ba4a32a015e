//! Clients in other languages, in `clients/`, each made by its template `proto/buf.gen.LANGUAGE.yaml` as a platform team makes it.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    Stack,
    script::{Outcome, run},
    tools::{Tool, own, repository},
    walk,
};

/// A copy of `clients/LANGUAGE` with what buf generated beside it, in `gen`.
#[derive(Debug)]
pub struct Client {
    folder: TempDir,
    path: OsString,
}

impl Client {
    /// Generates it; `plugins` are the folders of the programs that the template names.
    ///
    /// # Panics
    /// If buf refuses.
    pub async fn generate(language: &str, plugins: &[PathBuf]) -> Self {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        for file in fs::read_dir(own(&format!("clients/{language}"))).expect("there is such a client") {
            let file = file.expect("it can be read");
            // A person may have generated there.
            if file.path().is_dir() {
                continue;
            }
            fs::copy(file.path(), folder.path().join(file.file_name())).expect("it can be copied");
        }
        let inherited = env::var_os("PATH").unwrap_or_default();
        let folders = plugins.iter().cloned().chain(env::split_paths(&inherited));
        let path = env::join_paths(folders).expect("no folder has a colon in its name");
        let client = Self { folder, path };
        let mut buf = Command::new(Tool::Buf.path());
        buf.current_dir(repository().join("proto"))
            .arg("generate")
            .args(["--template", &format!("buf.gen.{language}.yaml"), "--output"])
            .arg(client.folder())
            .env("PATH", &client.path)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let outcome = run(buf).await;
        assert!(outcome.success, "buf generate: {}{}", outcome.stdout, outcome.stderr);
        client
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a program in its folder.
    pub async fn run(&self, program: impl Into<PathBuf>, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(program.into());
        command
            .current_dir(self.folder())
            .args(arguments)
            .env("PATH", &self.path);
        run(command).await
    }
}

/// A registry with an entry that a client is to list; its address, and a token.
///
/// # Panics
/// If it does not start.
pub async fn registry_with_an_entry() -> (Stack, String) {
    let stack = Stack::start().await;
    let mut entry = walk::remote("https://mcp.example.com/mcp");
    entry.display_name = "Tracker".to_owned();
    entry.labels.insert("department".to_owned(), "research".to_owned());
    stack.admin().publish("tracker", entry).await;
    let token = stack.token("alice@example.com", &[], false);
    (stack, token)
}

/// Asserts that a client has listed the entry of [`registry_with_an_entry`], which is approved and not hidden.
///
/// # Panics
/// If it has not.
pub fn has_listed_the_entry(listed: &Value) {
    let entry = json!({"name": "entries/tracker", "display_name": "Tracker", "labels": {"department": "research"}});
    let entries = listed.as_array().expect("a client prints a list");
    assert!(entries.contains(&entry), "{listed}");
}
