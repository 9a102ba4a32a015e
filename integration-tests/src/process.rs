//! Programs that a test starts. Their output is kept, and they end with the test.

use std::{
    fs,
    io::Write as _,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::wait::eventually_within;

/// The output lines of a program, from standard output and standard error.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("no holder of this lock panics").clone()
    }

    /// Whether a line contains this text.
    pub fn contain(&self, text: &str) -> bool {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .iter()
            .any(|line| line.contains(text))
    }

    fn push(&self, line: String) {
        self.0.lock().expect("no holder of this lock panics").push(line);
    }

    fn collect(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let lines = self.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
                lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
                line.clear();
            }
        });
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    pid: Pid,
    lines: Lines,
}

impl Program {
    /// Starts a program without standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: Command) -> Self {
        Self::start_into(command, Lines::default())
    }

    /// Starts a program whose lines are appended to `lines`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_into(mut command: Command, lines: Lines) -> Self {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let pid = child.id().expect("it was just started");
        lines.collect(child.stdout.take().expect("it is piped"));
        lines.collect(child.stderr.take().expect("it is piped"));
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid is small"));
        Self {
            name,
            child,
            pid,
            lines,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// The output of the program.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The exit status, if the program has ended by itself.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills the program with SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        let _ = signal::kill(self.pid, Signal::SIGKILL);
        let _ = self.child.wait().await;
    }

    /// Sends SIGTERM, and waits until the program has ended.
    ///
    /// # Panics
    /// If it does not end within 20 seconds.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        let _ = signal::kill(self.pid, Signal::SIGTERM);
        match tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await {
            Ok(status) => status.expect("it is our child"),
            Err(_) => panic!("{} does not end when asked to", self.name),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            let lines = self.lines.all();
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "--- last lines of {} ---", self.name);
            for line in &lines[lines.len().saturating_sub(80)..] {
                let _ = writeln!(out, "{line}");
            }
        }
    }
}

/// A process according to `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// `cmdline`, the arguments joined by spaces.
    pub arguments: String,
    /// `environ`, if it can be read.
    pub environment: String,
}

/// All visible processes except zombies.
pub fn processes() -> Vec<ProcessInfo> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name, in parentheses, may contain anything; the fields after it are fixed.
            let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
            let state = rest.next()?;
            if state == "Z" || state == "X" {
                return None;
            }
            let parent = rest.next()?.parse().ok()?;
            let text = |file: &str| {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            Some(ProcessInfo {
                pid,
                parent,
                arguments: text("cmdline"),
                environment: text("environ"),
            })
        })
        .collect()
}

/// The descendants of the process `root`.
pub fn descendants(root: i32) -> Vec<ProcessInfo> {
    let all = processes();
    let mut found: Vec<ProcessInfo> = Vec::new();
    let mut frontier = vec![root];
    while let Some(parent) = frontier.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            frontier.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// Waits until no process has `mark` in its environment or arguments.
///
/// # Panics
/// If there is such a process after ten seconds.
pub async fn no_process_with(mark: &str) {
    let own = i32::try_from(std::process::id()).expect("a pid is small");
    eventually_within(
        Duration::from_secs(10),
        &format!("all processes with {mark} end"),
        || async {
            processes()
                .iter()
                .all(|process| {
                    process.pid == own || !(process.environment.contains(mark) || process.arguments.contains(mark))
                })
                .then_some(())
        },
    )
    .await;
}

/// A TCP port of 127.0.0.1 that was free a moment ago, for programs that must be given one.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("the loopback interface has free ports")
        .port()
}
