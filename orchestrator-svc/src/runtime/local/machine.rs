//! What this machine has for servers: folders, a sandbox, packages. Starts bridges.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::sandbox::{Grant, Protection};
use stdio_bridge::{File, Limits, Spec};

use super::{
    bridge::Bridge,
    folders::{Folders, Own},
    packages::{FETCH_MILLIS, Fetch, Settings, Step, Trees, Wanted, manager, origin},
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
                       ask for that: npm or uv is not installed beside them, or the entry sets one of their options that Chandlery does not \
                       support; an admin must remove that option, or confirm_new_versions";

/// What runs packages of npm: node, or what their own programs are made for.
const INTERPRETERS: [&str; 2] = ["node", "python3"];

/// Why nothing can run on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Its folders cannot be made or cleared.
    #[error("the folder for running servers cannot be used: {0}")]
    Folders(#[from] io::Error),
    /// Servers cannot be held.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// A server that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) bridge: Bridge,
    pub(crate) socket: PathBuf,
    /// What it runs, if its command names a package.
    pub(crate) package: Option<Package>,
}

/// Starts bridges.
#[derive(Debug)]
pub(crate) struct Machine {
    config: Config,
    folders: Folders,
    sandbox: Sandbox,
    trees: Trees,
    /// Of this user.
    home: Option<PathBuf>,
    /// What servers inherit of the service's environment.
    inherited: BTreeMap<String, String>,
}

impl Machine {
    /// Makes the folders, tries the sandbox, and ends what an earlier run left behind, which can be only what outlived its killed bridge.
    pub(crate) async fn new(config: Config) -> Result<Self, LocalError> {
        let folders = Folders::new(&config.data_dir)?;
        let prefix = folders.marker("");
        blocking(move || stdio_bridge::kill_marked(&prefix)).await?;
        let hidden = match &config.hidden_dir {
            Some(folder) => folder.canonicalize()?,
            None => folders.data().to_owned(),
        };
        let (wanted, program) = (config.sandbox.clone(), config.program.clone());
        let sandbox = {
            let scratch = folders.make("probe")?;
            tokio::task::spawn_blocking(move || Sandbox::new(wanted, &program, &hidden, &scratch.temporary))
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
            folders,
            sandbox,
            trees,
            home: std::env::home_dir(),
            inherited,
        })
    }

    /// As `LocalRuntime::holder`.
    pub(crate) fn holder(&self) -> &str {
        self.folders.holder()
    }

    /// Where an owner's server runs.
    pub(crate) fn working_folder(&self, owner: &str) -> PathBuf {
        self.folders.work(owner)
    }

    /// What is protected from the servers here.
    pub(crate) fn protections(&self) -> Vec<Protection> {
        self.sandbox.protections()
    }

    /// A text for those who use a server: where the data folder is does not concern them.
    pub(crate) fn without_folders(&self, text: &str) -> String {
        // The first may be in the second.
        let folders = [self.folders.data(), self.sandbox.hidden()].into_iter();
        folders
            .filter(|folder| folder.parent().is_some())
            .fold(text.to_owned(), |text, folder| {
                text.replace(&*folder.to_string_lossy(), "…")
            })
    }

    /// What has to be fetched before a server can run. `anew`: the newest versions that fit, though it has others.
    ///
    /// # Errors
    /// When the folders of packages cannot be read or written, and as [`Self::wanted`].
    pub(crate) fn prepare_fetch(&self, owner: &str, launch: &Launch, anew: bool) -> io::Result<Option<Fetch>> {
        let Some(wanted) = self.wanted(launch)? else {
            return Ok(None);
        };
        self.folders.make(owner)?;
        self.trees.prepare_fetch(&wanted, &self.folders.pins(owner), anew)
    }

    /// Whether what is fetched is what a command names.
    pub(crate) fn wants(&self, launch: &Launch, fetch: &Fetch) -> bool {
        self.wanted(launch)
            .is_ok_and(|wanted| wanted.as_ref() == Some(&fetch.wanted))
    }

    /// The package that a command names, if it is for us to fetch it.
    ///
    /// # Errors
    /// If it is for the launcher, which asks nobody, and the package's owner is to be asked about new versions.
    fn wanted(&self, launch: &Launch) -> io::Result<Option<Wanted>> {
        let Some(named) = Wanted::of(&launch.command, &launch.arguments[..launch.fixed_arguments]) else {
            return Ok(None);
        };
        let wanted = self.ours_to_fetch(launch, named);
        if launch.confirm_new_versions && wanted.is_none() {
            return Err(io::Error::other(UNASKED));
        }
        Ok(wanted)
    }

    /// With all that the entry says of it; `None` if that is more than a fetch follows, or the launcher's package manager is not there.
    fn ours_to_fetch(&self, launch: &Launch, mut named: Wanted) -> Option<Wanted> {
        named.confirm_new_versions = launch.confirm_new_versions;
        let fixed = &launch.fixed_environment;
        named.origin = origin(named.ecosystem, &launch.command, fixed)?;
        // What a person says of registries, where the entry lets them, is for the launcher.
        let mut of_people = launch.environment.keys().filter(|name| !fixed.contains_key(*name));
        if of_people.any(|name| Settings::concerns(named.ecosystem, name)) {
            return None;
        }
        self.programs(launch)
            .look_up(&manager(named.ecosystem, &launch.command))?;
        Some(named)
    }

    /// Finds programs where the entry, but not a person's value, says that they are.
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

    /// Starts a bridge that fetches a package. It gets nothing of the server's but where packages come from.
    pub(crate) async fn fetch(&self, owner: &str, launch: &Launch, fetch: &Fetch) -> io::Result<Bridge> {
        let mut environment = self.inherited.clone();
        let inherited = |name: &str| std::env::var(name).ok();
        let settings = Settings::of(fetch.wanted.ecosystem, &launch.fixed_environment, inherited)
            .ok_or_else(|| io::Error::other("its settings are not those of a fetch"))?;
        let variables = fetch.environment(&settings).into_iter();
        environment.extend(variables);
        // A server may run beside this: what is its own stays as it is.
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
            // None is another than an empty one.
            path if path.is_empty() => drop(environment.remove("PATH")),
            path => drop(environment.insert("PATH".to_owned(), path)),
        }
        let manager = manager(fetch.wanted.ecosystem, &launch.command);
        let manager = programs.look_up(&manager).unwrap_or_default();
        let manager = manager.to_string_lossy().into_owned();
        let mut grants = programs.grants(&manager, &[]);
        grants.extend(INTERPRETERS.iter().flat_map(|name| programs.grants(name, &[])));
        grants.push(Grant::write(fetch.tree()));
        // Scripts of packages are code of others: held as the server itself is, at the ports and in the folders that it may use.
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
            environment,
            marker: self.folders.fetch_marker(owner),
            working_folder: fetch.tree(),
            confinement,
            files: Vec::new(),
            secrets: Vec::new(),
            transport: stdio_bridge::Transport::Task,
            limits: Limits {
                ready_millis: FETCH_MILLIS,
                ..self.config.limits.clone()
            },
        };
        Bridge::start(&self.config, &spec).await
    }

    /// Takes over what a bridge fetched: it is then ready to run, or something more has to run first.
    pub(crate) async fn fetched(self: &Arc<Self>, owner: &str, fetch: Fetch) -> io::Result<Option<Fetch>> {
        let (local, owner) = (Arc::clone(self), owner.to_owned());
        let finish = move || local.trees.finish(fetch, &local.folders.pins(&owner), &owner);
        tokio::task::spawn_blocking(finish).await.map_err(io::Error::other)?
    }

    /// Removes what a bridge did not fetch to the end.
    pub(crate) async fn give_up(self: &Arc<Self>, fetch: Fetch) -> io::Result<()> {
        let local = Arc::clone(self);
        blocking(move || local.trees.give_up(&fetch)).await
    }

    /// Starts a bridge that runs the launch. The path is its socket, there once the bridge says that it is ready.
    pub(crate) async fn start(&self, owner: &str, mut launch: Launch) -> io::Result<Started> {
        let own = self.folders.make_anew(owner)?;
        let socket = self.folders.socket();
        let wanted = self.wanted(&launch)?;
        let is_package = wanted.is_some();
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
            // No server is to put a program in the way of another.
            environment.insert("PATH".to_owned(), programs.unshared_path());
        }
        if let Some(wanted) = wanted
            && let Some(pin) = self.folders.pins(owner).current(&wanted)
        {
            let tree = self.trees.folder(&pin);
            command = self.trees.program(&wanted, &tree)?;
            arguments.drain(..wanted.consumed);
            // What runs it was found before any of its files was there: they name what they like.
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
        let spec = Spec {
            socket: socket.clone(),
            lock: self.folders.lock(owner),
            command,
            arguments,
            confinement: self.sandbox.for_server(&own, grants),
            environment,
            marker: self.folders.marker(owner),
            working_folder: own.work,
            files: launch.files.iter_mut().map(written).collect(),
            secrets: std::mem::take(&mut launch.secrets),
            transport: match &launch.transport {
                Transport::Stdio => stdio_bridge::Transport::Stdio,
                Transport::StreamableHttp { port, path } => stdio_bridge::Transport::StreamableHttp {
                    port: *port,
                    path: path.clone(),
                },
            },
            limits: self.config.limits.clone(),
        };
        let bridge = Bridge::start(&self.config, &spec).await?;
        Ok(Started {
            bridge,
            socket,
            package,
        })
    }

    /// What is inherited, then what is the server's own, then what its entry says.
    fn environment(&self, own: &Own, launch: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut environment = self.inherited.clone();
        environment.insert("HOME".to_owned(), text(&own.home));
        environment.insert("TMPDIR".to_owned(), text(self.sandbox.temporary_folder(own)));
        environment.extend(launch);
        environment
    }

    /// Ends what a server's bridge left behind that was itself killed.
    pub(crate) async fn sweep(&self, owner: &str) -> io::Result<()> {
        let marker = self.folders.marker(owner);
        blocking(move || stdio_bridge::kill_marked(&marker)).await
    }

    /// As [`Self::sweep`], of a fetch.
    pub(crate) async fn sweep_fetch(&self, owner: &str) -> io::Result<()> {
        let marker = self.folders.fetch_marker(owner);
        blocking(move || stdio_bridge::kill_marked(&marker)).await
    }

    /// Removes all that an owner's servers had here. One whose server never ran here had nothing.
    pub(crate) async fn remove(&self, owner: &str) -> io::Result<()> {
        if !self.folders.has(owner) {
            return Ok(());
        }
        self.sweep(owner).await?;
        self.sweep_fetch(owner).await?;
        self.folders.remove(owner)
    }
}

/// For the bridge, which writes it. What it held is moved, not copied.
fn written(file: &mut crate::domain::spec::File) -> File {
    File {
        path: std::mem::take(&mut file.path),
        content: std::mem::take(&mut file.content),
        secret: file.secret,
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
