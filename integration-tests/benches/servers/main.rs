//! Measures the time from the start of a local server to its first response, with and without the sandbox.
//!
//! `cargo build --release -p chandlery -p stdio-bridge && cargo bench -p integration-tests --bench servers`. The bridge
//! that the orchestrator of this build uses starts the servers: the smallest possible server, and an npm and a PyPI
//! package that Chandlery has fetched. For comparison, `npx` and `uvx` start the packages from their caches, without a sandbox.
//! Each figure is the median of consecutive starts. `CHANDLERY_BIN` selects another build.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use integration_tests::{Stack, process::descendants, tools::python_command, walk};
use sandbox::{Confinement, Grant, Layers, Resources};
use stdio_bridge::{Event, Limits, Spec, Transport};

const STARTS: usize = 15;
/// The smallest MCP server: it responds to the first request, `initialize`, with an empty list of capabilities.
const SMALLEST: &str = "read line; printf '%s\\n' '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-06-18\",\
                        \"capabilities\":{},\"serverInfo\":{\"name\":\"s\",\"version\":\"1\"}}}'; cat >/dev/null";

/// The program that starts servers, and its arguments.
struct Bridge {
    program: String,
    arguments: Vec<String>,
}

/// The command of a server.
struct Server {
    command: String,
    arguments: Vec<String>,
    grants: Vec<Grant>,
}

fn main() -> integration_tests::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (stack, trees) = runtime.block_on(fetched());
    let scratch = tempfile::tempdir()?;
    let bridge = Bridge::of(&stack)?;
    let program = Path::new(&bridge.program);
    let held = sandbox::probe(program, &stack.data_dir().canonicalize()?, scratch.path())?.0;
    say(&format!(
        "started by {program:?} {:?}, held by {held:?}",
        bridge.arguments
    ));
    let off = Layers::default();
    let python = python_prefix()?;
    let smallest = Server {
        command: "/bin/sh".to_owned(),
        arguments: vec!["-c".to_owned(), SMALLEST.to_owned()],
        grants: Vec::new(),
    };
    let bare = measure(&bridge, &smallest, &off)?;
    let added = measure(&bridge, &smallest, &held)?.saturating_sub(bare);
    figure("the smallest server, not held", bare, None);
    figure("what holding it adds", added, Some(5));
    for (name, program, launcher, package, limit) in [
        (
            "npm",
            "node_modules/.bin/mcp-server-memory",
            "npx",
            "@modelcontextprotocol/server-memory",
            300,
        ),
        ("pypi", "venv/bin/mcp-server-time", "uvx", "mcp-server-time", 600),
    ] {
        let tree = trees
            .iter()
            .find(|tree| tree.join(program).exists())
            .ok_or("the package was fetched")?;
        let server = Server {
            command: tree.join(program).to_string_lossy().into_owned(),
            arguments: Vec::new(),
            grants: vec![Grant::read(tree), Grant::read(&python)],
        };
        figure(
            &format!("{name}, fetched and held"),
            measure(&bridge, &server, &held)?,
            Some(limit),
        );
        figure(
            &format!("{name}, fetched, not held"),
            measure(&bridge, &server, &off)?,
            None,
        );
        let launcher = match launcher {
            "uvx" => python_command("uvx").to_string_lossy().into_owned(),
            other => other.to_owned(),
        };
        let arguments = match name {
            "npm" => vec!["-y".to_owned(), package.to_owned()],
            _ => vec![package.to_owned()],
        };
        let server = Server {
            command: launcher.clone(),
            arguments,
            grants: Vec::new(),
        };
        figure(
            &format!("{name}, by {launcher} itself"),
            measure(&bridge, &server, &off)?,
            None,
        );
    }
    drop(stack);
    Ok(())
}

/// Starts Chandlery with both packages fetched, and returns their folders.
async fn fetched() -> (Stack, Vec<PathBuf>) {
    let stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let uvx = python_command("uvx").to_string_lossy().into_owned();
    for (id, command, arguments) in [
        ("memory", "npx", &["-y", "@modelcontextprotocol/server-memory"][..]),
        ("time", &uvx, &["mcp-server-time"]),
    ] {
        admin.publish(id, walk::stdio(command, arguments)).await;
        alice.install(id, None, &[]).await;
    }
    let packages = stack
        .data_dir()
        .join("runtimes/packages")
        .canonicalize()
        .expect("they were fetched");
    let trees = fs::read_dir(packages)
        .expect("it is a folder")
        .flatten()
        .map(|entry| entry.path());
    let trees = trees.collect();
    (stack, trees)
}

impl Bridge {
    /// The one with which the orchestrator of this stack has started its servers.
    fn of(stack: &Stack) -> integration_tests::Result<Self> {
        let children = descendants(stack.pid()).into_iter();
        let mut bridges =
            children.filter(|process| process.parent == stack.pid() && process.arguments.contains(stdio_bridge::NAME));
        let bridge = bridges.next().ok_or("a server runs")?;
        let mut arguments = bridge.arguments.split_whitespace().map(str::to_owned);
        let program = arguments.next().ok_or("it has a name")?;
        Ok(Self {
            program,
            arguments: arguments.collect(),
        })
    }
}

fn python_prefix() -> integration_tests::Result<PathBuf> {
    let python = python_command("python").canonicalize()?;
    Ok(python.ancestors().nth(2).ok_or("python is in no folder")?.to_owned())
}

/// The median of several starts, after one that does not count.
fn measure(bridge: &Bridge, server: &Server, layers: &Layers) -> integration_tests::Result<Duration> {
    start(bridge, server, layers)?;
    let mut times = (0..STARTS)
        .map(|_| start(bridge, server, layers))
        .collect::<integration_tests::Result<Vec<_>>>()?;
    times.sort();
    Ok(times[STARTS / 2])
}

/// The time from the start of the bridge to the server's response.
fn start(bridge: &Bridge, server: &Server, layers: &Layers) -> integration_tests::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let own = folder.path().canonicalize()?;
    let home = env::home_dir().ok_or("there is a home")?;
    let mut environment: BTreeMap<_, _> = ["PATH", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?)))
        .collect();
    environment.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
    let mut grants = server.grants.clone();
    grants.push(Grant::write(&own));
    let spec = Spec {
        socket: own.join("socket"),
        lock: own.join("lock"),
        command: server.command.clone(),
        arguments: server.arguments.clone(),
        environment,
        marker: own.to_string_lossy().into_owned(),
        confinement: Confinement {
            layers: layers.clone(),
            grants,
            temporary_folder: own.clone(),
            hidden: Path::new("/hidden").to_owned(),
            connect: Some(vec![53, 443]),
            listen: Some(Vec::new()),
            resources: Resources::default(),
        },
        aside: own.clone(),
        working_folder: own,
        files: Vec::new(),
        secrets: Vec::new(),
        transport: Transport::Stdio { one_per_session: false },
        limits: Limits::default(),
    };
    let mut order = serde_json::to_vec(&spec)?;
    order.push(b'\n');
    let started = Instant::now();
    let mut bridge = Command::new(&bridge.program)
        .args(&bridge.arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = bridge.stdin.take().ok_or("it is piped")?;
    input.write_all(&order)?;
    let events = BufReader::new(bridge.stdout.take().ok_or("it is piped")?);
    let mut took = None;
    let mut said = Vec::new();
    for line in events.lines() {
        let event: Event = serde_json::from_str(&line?)?;
        if matches!(event, Event::Ready) {
            took = Some(started.elapsed());
            break;
        }
        said.push(event);
    }
    drop(input);
    bridge.wait()?;
    took.ok_or_else(|| format!("{} does not start: {said:?}", server.command).into())
}

fn figure(name: &str, took: Duration, limit: Option<u64>) {
    let milliseconds = took.as_secs_f64() * 1e3;
    let verdict = match limit {
        None => "told".to_owned(),
        Some(limit) if milliseconds <= limit as f64 => format!("at most {limit} ms: met"),
        Some(limit) => format!("at most {limit} ms: MISSED"),
    };
    say(&format!("{name:<60} {milliseconds:8.1} ms   {verdict}"));
}

fn say(line: &str) {
    // If standard output cannot be written, nobody reads the figures.
    let _ = writeln!(std::io::stdout(), "{line}");
}
