//! Runs scripts in other languages, in `node/`, `python/` and `go/`. Each does one thing, and prints the result as
//! JSON.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;

use crate::tools::{Tool, own};

/// The result of a program that has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the exit status was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Parses standard output as JSON.
    ///
    /// # Panics
    /// If the program failed or its output is not JSON.
    pub fn json(&self) -> Value {
        assert!(
            self.success,
            "the program failed\nstdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error})\nstdout: {}\nstderr: {}", self.stdout, self.stderr))
    }
}

/// Runs a program to its end, with a timeout of five minutes, because some programs are compilers.
///
/// # Panics
/// If it cannot be started or does not end in time.
pub async fn run(mut command: Command) -> Outcome {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = tokio::time::timeout(Duration::from_secs(300), command.output())
        .await
        .unwrap_or_else(|_| panic!("{program} does not end"))
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    Outcome {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `python/NAME` with arguments.
pub async fn python<I: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = I>) -> Outcome {
    let mut command = Command::new(Tool::Python.path());
    command.arg(own("python").join(name)).args(arguments);
    // Leaves no files beside the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run(command).await
}

/// A command that runs `node/NAME`, with the packages of the lock file.
pub fn node_command(name: &str) -> Command {
    let mut command = Command::new(Tool::Node.path());
    // Node.js resolves ES modules only from the importing file's folder; this hook uses the installed folder.
    command.arg("--import").arg(own("node").join("resolve.mjs"));
    command.arg(own("node").join(name));
    command.env("CHANDLERY_TEST_NODE_MODULES", Tool::NodeModules.path());
    command
}

/// Runs `node/NAME` with arguments.
pub async fn node<I: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = I>) -> Outcome {
    let mut command = node_command(name);
    command.args(arguments);
    run(command).await
}

/// Runs the program `go/NAME`, which requires only Go, with arguments.
pub async fn go<I: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = I>) -> Outcome {
    let mut command = Command::new(Tool::Go.path());
    command
        .current_dir(own("go"))
        .arg("run")
        .arg(format!("./{name}"))
        .args(arguments);
    run(command).await
}

/// Runs grpcurl with a plaintext address. `data` is the request as JSON.
pub async fn grpcurl(address: &str, token: Option<&str>, method: &str, data: &Value) -> Outcome {
    let mut command = Command::new(Tool::Grpcurl.path());
    command.arg("-plaintext");
    if let Some(token) = token {
        command.arg("-H").arg(format!("authorization: Bearer {token}"));
    }
    command.arg("-d").arg(data.to_string()).arg(address).arg(method);
    run(command).await
}
