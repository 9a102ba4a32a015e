//! Starts bridges with the folders, the sandbox and the packages of this machine.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::sandbox::{Grant, Protection};
use stdio_bridge::{File, Limits, Spec};
use tokio_util::sync::CancellationToken;

use super::{
    bridge::Bridge,
    folders::{Folders, Own},
    packages::{FETCH_MILLIS, Fetch, PackageRequest, Settings, Step, Trees, manager, origin},
    program::Program,
    programs::Programs,
    sandbox::{Sandbox, SandboxError},
};
use crate::{
    config::Config,
    domain::{
        package::Package,
        spec::{Launch, Transport},
    },
};

/// Why a package whose new versions its owner must confirm does not run.
const UNASKED: &str = "the entry requires that new versions are confirmed, but the package could be fetched only by npx or uvx, which do not \
                       ask for that: npm or uv is not installed with them, or the entry sets one of their options that Chandlery does not \
                       support; an admin must remove that option, or confirm_new_versions";

/// The interpreters that packages of npm may use.
const INTERPRETERS: [&str; 2] = ["node", "python3"];

/// Why the local runtime cannot be used on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Its folders cannot be created or cleared.
    #[error("the folder for running servers cannot be used: {0}")]
    Folders(#[from] io::Error),
    /// The program of the configuration cannot be opened.
    #[error("the program {} cannot be opened: {error}", path.display())]
    Program {
        /// As configured.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Servers cannot be sandboxed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// A server that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) bridge: Bridge,
    pub(crate) socket: PathBuf,
    /// The package that it runs, if its command names one.
    pub(crate) package: Option<Package>,
}

/// Starts bridges.
#[derive(Debug)]
pub(crate) struct Machine {
    config: Config,
    program: Program,
    folders: Folders,
    sandbox: Sandbox,
    trees: Trees,
    /// The home folder of the service's user.
    home: Option<PathBuf>,
    /// The variables that servers inherit from the service.
    inherited: BTreeMap<String, String>,
}

impl Machine {
    /// Creates the folders, tests the sandbox, and ends processes that an earlier run left: those that outlived a bridge that was killed.
    pub(crate) async fn new(config: Config) -> Result<Self, LocalError> {
        let folders = Folders::new(&config.data_dir)?;
        let data = folders.data().to_owned();
        kill_marked(move |marker| Folders::is_marker(&data, marker)).await?;
        let hidden = match &config.hidden_dir {
            Some(folder) => folder.canonicalize()?,
            None => folders.data().to_owned(),
        };
        let program = Program::choose(&config).await.map_err(|error| LocalError::Program {
            path: config.program.clone(),
            error,
        })?;
        let (configured, launcher) = (config.sandbox.clone(), program.path());
        let sandbox = {
            let scratch = folders.make("probe")?;
            tokio::task::spawn_blocking(move || Sandbox::new(configured, &launcher, &hidden, &scratch.temporary))
                .await
                .map_err(io::Error::other)??
        };
        folders.remove("probe")?;
        let (packages, pins, removal) = (folders.packages(), folders.all_pins()?, folders.removal());
        let trees = tokio::task::spawn_blocking(move || Trees::new(packages, pins, removal))
            .await
            .map_err(io::Error::other)??;
        let inherited = config.inherited_environment.iter();
        let inherited = inherited
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
            .collect();
        Ok(Self {
            config,
            program,
            folders,
            sandbox,
            trees,
            home: std::env::home_dir(),
            inherited,
        })
    }

    /// See `LocalRuntime::holder`.
    pub(crate) fn holder(&self) -> &str {
        self.folders.holder()
    }

    /// The working folder of an owner's server.
    pub(crate) fn working_folder(&self, owner: &str) -> PathBuf {
        self.folders.work(owner)
    }

    /// What is protected from the servers of this machine.
    pub(crate) fn protections(&self) -> Vec<Protection> {
        self.sandbox.protections()
    }

    /// A text for the users of a server, without the paths of the service's folders.
    pub(crate) fn without_folders(&self, text: &str) -> String {
        // The first folder may be inside the second.
        let folders = [self.folders.data(), self.sandbox.hidden()].into_iter();
        folders
            .filter(|folder| folder.parent().is_some())
            .fold(text.to_owned(), |text, folder| {
                text.replace(&*folder.to_string_lossy(), "…")
            })
    }

    /// The fetch that a server requires before it can run, if it does. With `newest`, of the newest versions that match, instead of the pinned ones.
    ///
    /// # Errors
    /// If the folders of packages cannot be read or written, and those of [`Self::request`].
    pub(crate) fn prepare_fetch(&self, owner: &str, launch: &Launch, newest: bool) -> io::Result<Option<Fetch>> {
        let Some(request) = self.request(launch)? else {
            return Ok(None);
        };
        self.folders.make(owner)?;
        self.trees.prepare_fetch(&request, &self.folders.pins(owner), newest)
    }

    /// Whether a fetch is the one that a launch requires.
    pub(crate) fn is_for(&self, launch: &Launch, fetch: &Fetch) -> bool {
        self.request(launch)
            .is_ok_and(|request| request.as_ref() == Some(&fetch.request))
    }

    /// The package that a command names, if the service fetches it, rather than the launcher (npx, uvx).
    ///
    /// # Errors
    /// If the launcher would fetch it, although the owner must confirm new versions.
    fn request(&self, launch: &Launch) -> io::Result<Option<PackageRequest>> {
        let Some(named) = PackageRequest::of(&launch.command, &launch.arguments[..launch.fixed_arguments]) else {
            return Ok(None);
        };
        let request = self.ours_to_fetch(launch, named);
        if launch.confirm_new_versions && request.is_none() {
            return Err(io::Error::other(UNASKED));
        }
        Ok(request)
    }

    /// The request for a package, with the entry's settings. `None` if the entry has settings that a fetch does not support, or the package manager
    /// of the launcher is not installed.
    fn ours_to_fetch(&self, launch: &Launch, mut named: PackageRequest) -> Option<PackageRequest> {
        named.confirm_new_versions = launch.confirm_new_versions;
        let fixed = &launch.fixed_environment;
        named.origin = origin(named.ecosystem, &launch.command, fixed)?;
        // A fetch does not use package settings that people entered, so such a server is left to the launcher.
        let mut of_people = launch.environment.keys().filter(|name| !fixed.contains_key(*name));
        if of_people.any(|name| Settings::concerns(named.ecosystem, name)) {
            return None;
        }
        self.programs(launch)
            .look_up(&manager(named.ecosystem, &launch.command))?;
        Some(named)
    }

    /// Looks programs up on the `PATH` of the entry. One that people entered is not used.
    fn programs<'a>(&'a self, launch: &'a Launch) -> Programs<'a> {
        let path = launch
            .fixed_environment
            .get("PATH")
            .or_else(|| self.inherited.get("PATH"));
        Programs {
            path: path.map_or("", String::as_str),
            hidden: self.sandbox.hidden(),
            writable: self.sandbox.writable(),
            home: self.home.as_deref(),
        }
    }

    /// Starts a bridge that runs the next step of a fetch. Of the server's settings, it gets only those about package registries.
    pub(crate) async fn fetch(&self, owner: &str, launch: &Launch, fetch: &Fetch) -> io::Result<Bridge> {
        let mut environment = self.inherited.clone();
        let inherited = |name: &str| std::env::var(name).ok();
        let settings = Settings::of(fetch.request.ecosystem, &launch.fixed_environment, inherited)
            .ok_or_else(|| io::Error::other("the entry has package settings that a fetch does not support"))?;
        let variables = fetch.environment(&settings).into_iter();
        environment.extend(variables);
        // A server of the same owner may be running: its folders are not changed.
        let own = Own {
            temporary: fetch.temporary(),
            ..self.folders.make(owner)?
        };
        environment.insert(
            "TMPDIR".to_owned(),
            self.sandbox.temporary_folder(&own).to_string_lossy().into_owned(),
        );
        let programs = self.programs(launch);
        match programs.settled_path() {
            // An unset `PATH` differs from an empty one.
            path if path.is_empty() => drop(environment.remove("PATH")),
            path => drop(environment.insert("PATH".to_owned(), path)),
        }
        let manager = manager(fetch.request.ecosystem, &launch.command);
        let manager = programs.look_up(&manager).unwrap_or_default();
        let manager = manager.to_string_lossy().into_owned();
        let mut grants = programs.grants(&manager, &[]);
        grants.extend(INTERPRETERS.iter().flat_map(|name| programs.grants(name, &[])));
        grants.push(Grant::write(fetch.tree()));
        // Installation scripts are third-party code: they get the ports and folders of the server.
        let scripts = fetch.step == Step::RunScripts;
        let home = if scripts { own.home.clone() } else { fetch.home() };
        environment.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
        grants.push(Grant::write(home));
        let mut confinement = self.sandbox.for_fetch(&own, grants);
        if let (Some(allowed), Some(ports)) = (&mut confinement.connect, fetch.ports(&settings)) {
            *allowed = ports.into_iter().collect();
        }
        let spec = Spec {
            socket: self.folders.socket(),
            lock: fetch.bridge_lock(),
            command: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), fetch.script().to_owned(), manager],
            secrets: in_urls(&environment),
            environment,
            marker: self.folders.fetch_marker(owner),
            working_folder: fetch.tree(),
            aside: self.folders.removed(),
            confinement,
            files: Vec::new(),
            transport: stdio_bridge::Transport::Task,
            limits: Limits {
                ready_millis: FETCH_MILLIS,
                ..self.config.limits.clone()
            },
        };
        Bridge::start(&self.program, &spec).await
    }

    /// Accepts the result of a step. Returns the fetch if it has another step; otherwise the package is ready to run.
    pub(crate) async fn fetched(self: &Arc<Self>, owner: &str, fetch: Fetch) -> io::Result<Option<Fetch>> {
        let (local, owner) = (Arc::clone(self), owner.to_owned());
        let finish = move || local.trees.finish(fetch, &local.folders.pins(&owner), &owner);
        tokio::task::spawn_blocking(finish).await.map_err(io::Error::other)?
    }

    /// Removes the files of an unfinished fetch.
    pub(crate) async fn give_up(self: &Arc<Self>, fetch: Fetch) -> io::Result<()> {
        let local = Arc::clone(self);
        blocking(move || local.trees.give_up(&fetch)).await
    }

    /// Starts a bridge that runs the launch. Its socket exists once the bridge reports that it is ready.
    pub(crate) async fn start(&self, owner: &str, mut launch: Launch) -> io::Result<Started> {
        let own = self.folders.make_for_start(owner)?;
        let socket = self.folders.socket();
        let request = self.request(&launch)?;
        let is_package = request.is_some();
        let mut fixed = launch.fixed_arguments;
        let mut command = launch.command.clone();
        let mut arguments = std::mem::take(&mut launch.arguments);
        if let Some((program, first)) = self
            .config
            .builtin_commands
            .get(&command)
            .and_then(|argv| argv.split_first())
        {
            command.clone_from(program);
            arguments.splice(0..0, first.iter().cloned());
            fixed += first.len();
        }
        let mut package = None;
        let mut grants = Vec::new();
        let is_own_path = launch.environment.get("PATH") == launch.fixed_environment.get("PATH");
        let mut environment = self.environment(&own, std::mem::take(&mut launch.environment));
        let programs = self.programs(&launch);
        if is_own_path {
            // One server must not be able to replace a program of another.
            environment.insert("PATH".to_owned(), programs.unshared_path());
        }
        if let Some(request) = request
            && let Some(pin) = self.folders.pins(owner).current(&request)
        {
            let tree = self.trees.folder(&pin);
            command = self.trees.program(&request, &tree)?;
            arguments.drain(..request.consumed);
            // The interpreter was determined before the package was unpacked, whose files could name any other.
            match &pin.interpreter {
                Some(interpreter) => grants.extend(programs.grants(&interpreter.to_string_lossy(), &[])),
                None => grants.extend(INTERPRETERS.iter().flat_map(|name| programs.grants(name, &[]))),
            }
            grants.push(Grant::read(tree));
            package = Some(pin.package);
        } else if launch.confirm_new_versions && is_package {
            return Err(io::Error::other(UNASKED));
        } else {
            grants.extend(programs.grants(&command, &arguments[..fixed]));
        }
        let mut secrets = std::mem::take(&mut launch.secrets);
        secrets.extend(in_urls(&environment));
        let spec = Spec {
            socket: socket.clone(),
            lock: self.folders.lock(owner),
            command,
            arguments,
            confinement: self.sandbox.for_server(&own, grants),
            environment,
            marker: self.folders.marker(owner),
            working_folder: own.work,
            aside: self.folders.removed(),
            files: launch.files.iter_mut().map(written).collect(),
            secrets,
            transport: match &launch.transport {
                Transport::Stdio { one_per_session } => stdio_bridge::Transport::Stdio {
                    one_per_session: *one_per_session,
                },
                Transport::StreamableHttp { port, path } => stdio_bridge::Transport::StreamableHttp {
                    port: *port,
                    path: path.clone(),
                },
            },
            limits: self.config.limits.clone(),
        };
        let bridge = Bridge::start(&self.program, &spec).await?;
        Ok(Started {
            bridge,
            socket,
            package,
        })
    }

    /// The environment of a server: inherited variables, then its own folders, then the variables of the launch.
    fn environment(&self, own: &Own, launch: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut environment = self.inherited.clone();
        environment.insert("HOME".to_owned(), text(&own.home));
        environment.insert("TMPDIR".to_owned(), text(self.sandbox.temporary_folder(own)));
        environment.extend(launch);
        environment
    }

    /// Ends processes that a server's bridge left because it was killed. Reads all of `/proc`.
    pub(crate) async fn sweep(&self, owner: &str) -> io::Result<()> {
        sweep(vec![self.folders.marker(owner)]).await
    }

    /// As [`Self::sweep`], for the bridge of a fetch.
    pub(crate) async fn sweep_fetch(&self, owner: &str) -> io::Result<()> {
        sweep(vec![self.folders.fetch_marker(owner)]).await
    }

    /// Removes everything that is stored for an owner. Does nothing if no server of the owner ever ran here.
    pub(crate) async fn remove(&self, owner: &str) -> io::Result<()> {
        if !self.folders.has(owner) {
            return Ok(());
        }
        sweep(vec![self.folders.marker(owner), self.folders.fetch_marker(owner)]).await?;
        self.folders.remove(owner)
    }
}

/// The passwords in the URLs of environment variables, such as that of a proxy or of a package registry, for a spec, which wipes them.
fn in_urls(environment: &BTreeMap<String, String>) -> Vec<String> {
    let found = environment.values().flat_map(|value| masking::of_urls(value));
    found.map(|mut found| std::mem::take(&mut *found)).collect()
}

/// A file for the bridge to write. Moves the content, which may be secret, instead of copying it.
fn written(file: &mut crate::domain::spec::File) -> File {
    File {
        path: std::mem::take(&mut file.path),
        content: std::mem::take(&mut file.content),
        secret: file.secret,
    }
}

async fn sweep(markers: Vec<String>) -> io::Result<()> {
    kill_marked(move |marker| markers.iter().any(|wanted| marker == wanted)).await
}

/// When the returned future is dropped, its thread ends no process that is started later: it may have the same marker.
async fn kill_marked(is_wanted: impl Fn(&str) -> bool + Send + 'static) -> io::Result<()> {
    let cancelled = CancellationToken::new();
    let _cancels = cancelled.clone().drop_guard();
    blocking(move || stdio_bridge::kill_marked(is_wanted, || cancelled.is_cancelled())).await
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
