//! Servers as processes of this machine, each behind a bridge process of its own.

mod bridge;
mod folders;
mod packages;
mod programs;
mod removal;
mod sandbox;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use contracts::registry::{EntryRevision, Installation};
use stdio_bridge::{Limits, Spec, Transport};

use ::sandbox::{Grant, Protection};
pub(crate) use bridge::Bridge;
use folders::{Folders, Own};
pub(crate) use packages::Fetch;
use packages::{FETCH_MILLIS, Settings, Step, Trees, manager, origin};
use programs::Programs;
use sandbox::Sandbox;
pub use sandbox::SandboxError;

use crate::{
    config::Config,
    domain::{
        package::{Package, Wanted},
        plan::{Missing, Plan, Secrets},
    },
};

/// Why a package does not run of whose new versions its owner is to be asked.
const UNASKED: &str = "only npx or uvx can fetch it, and they ask nobody about new versions: npm or uv is not beside them, or the entry has \
                       settings of theirs that Chandlery does not follow; an admin must take those away, or confirm_new_versions";

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
pub(crate) struct LocalRuntime {
    config: Config,
    folders: Folders,
    sandbox: Sandbox,
    trees: Trees,
    /// Of this user.
    home: Option<PathBuf>,
    /// What servers inherit of the service's environment.
    inherited: BTreeMap<String, String>,
}

impl LocalRuntime {
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

    /// What to run for an installation.
    pub(crate) fn plan(
        &self,
        installation: &Installation,
        revision: &EntryRevision,
        secrets: &Secrets,
    ) -> Result<Plan, Missing> {
        Plan::new(installation, revision, secrets, &self.folders.work(&installation.uid))
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

    /// What has to be fetched before a plan can run. `anew`: the newest versions that fit, though it has others.
    ///
    /// # Errors
    /// When the folders of packages cannot be read or written, and as [`Self::wanted`].
    pub(crate) fn prepare_fetch(&self, uid: &str, plan: &Plan, anew: bool) -> io::Result<Option<Fetch>> {
        let Some(wanted) = self.wanted(plan)? else {
            return Ok(None);
        };
        self.folders.make(uid)?;
        self.trees.prepare_fetch(&wanted, &self.folders.pins(uid), anew)
    }

    /// Whether what is fetched is what a plan names.
    pub(crate) fn wants(&self, plan: &Plan, fetch: &Fetch) -> bool {
        self.wanted(plan)
            .is_ok_and(|wanted| wanted.as_ref() == Some(&fetch.wanted))
    }

    /// The package that a plan's command names, if it is for us to fetch it.
    ///
    /// # Errors
    /// If it is for the launcher, which asks nobody, and the package's owner is to be asked about new versions.
    fn wanted(&self, plan: &Plan) -> io::Result<Option<Wanted>> {
        let Some(named) = Wanted::of(&plan.command, &plan.arguments[..plan.fixed_arguments]) else {
            return Ok(None);
        };
        let wanted = self.ours_to_fetch(plan, named);
        if plan.confirm_new_versions && wanted.is_none() {
            return Err(io::Error::other(UNASKED));
        }
        Ok(wanted)
    }

    /// With all that the plan says of it; `None` if that is more than a fetch follows, or the launcher's package manager is not there.
    fn ours_to_fetch(&self, plan: &Plan, mut named: Wanted) -> Option<Wanted> {
        named.confirm_new_versions = plan.confirm_new_versions;
        let fixed = &plan.fixed_environment;
        named.origin = origin(named.ecosystem, &plan.command, fixed)?;
        // What a person says of registries, where the entry lets them, is for the launcher.
        let mut of_people = plan.environment.keys().filter(|name| !fixed.contains_key(*name));
        if of_people.any(|name| Settings::concerns(named.ecosystem, name)) {
            return None;
        }
        self.programs(plan).look_up(&manager(named.ecosystem, &plan.command))?;
        Some(named)
    }

    /// Finds programs where the entry, but not a person's value, says that they are.
    fn programs<'a>(&'a self, plan: &'a Plan) -> Programs<'a> {
        let path = plan
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

    /// Starts a bridge that fetches a package. It gets nothing of the plan but where packages come from.
    pub(crate) async fn fetch(&self, uid: &str, plan: &Plan, fetch: &Fetch) -> io::Result<Bridge> {
        let mut environment = self.inherited.clone();
        let inherited = |name: &str| std::env::var(name).ok();
        let settings = Settings::of(fetch.wanted.ecosystem, &plan.fixed_environment, inherited)
            .ok_or_else(|| io::Error::other("its settings are not those of a fetch"))?;
        let variables = fetch.environment(&settings).into_iter();
        environment.extend(variables);
        let own = self.folders.make_anew(uid)?;
        environment.insert(
            "TMPDIR".to_owned(),
            self.sandbox.temporary_folder(&own).to_string_lossy().into_owned(),
        );
        let programs = self.programs(plan);
        match programs.settled_path() {
            // None is another than an empty one.
            path if path.is_empty() => drop(environment.remove("PATH")),
            path => drop(environment.insert("PATH".to_owned(), path)),
        }
        let manager = manager(fetch.wanted.ecosystem, &plan.command);
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
            lock: self.folders.lock(uid),
            command: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), fetch.script().to_owned(), manager],
            environment,
            marker: self.folders.marker(uid),
            working_folder: fetch.tree(),
            confinement,
            files: Vec::new(),
            secrets: Vec::new(),
            transport: Transport::Task,
            limits: Limits {
                ready_millis: FETCH_MILLIS,
                ..self.config.limits.clone()
            },
        };
        Bridge::start(&self.config, &spec).await
    }

    /// Takes over what a bridge fetched: it is then ready to run, or something more has to run first.
    pub(crate) async fn fetched(self: &Arc<Self>, uid: &str, fetch: Fetch) -> io::Result<Option<Fetch>> {
        let (local, uid) = (Arc::clone(self), uid.to_owned());
        let finish = move || local.trees.finish(fetch, &local.folders.pins(&uid), &uid);
        tokio::task::spawn_blocking(finish).await.map_err(io::Error::other)?
    }

    /// Removes what a bridge did not fetch to the end.
    pub(crate) async fn give_up(self: &Arc<Self>, fetch: Fetch) -> io::Result<()> {
        let local = Arc::clone(self);
        blocking(move || local.trees.give_up(&fetch)).await
    }

    /// Starts a bridge that runs the plan. The path is its socket, there once the bridge says that it is ready.
    pub(crate) async fn start(&self, uid: &str, mut plan: Plan) -> io::Result<Started> {
        let own = self.folders.make_anew(uid)?;
        let socket = self.folders.socket();
        let wanted = self.wanted(&plan)?;
        let is_package = wanted.is_some();
        let mut fixed = plan.fixed_arguments;
        let mut command = plan.command.clone();
        let mut arguments = std::mem::take(&mut plan.arguments);
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
        let is_own_path = plan.environment.get("PATH") == plan.fixed_environment.get("PATH");
        let mut environment = self.environment(&own, std::mem::take(&mut plan.environment));
        let programs = self.programs(&plan);
        if is_own_path {
            // No server is to put a program in the way of another.
            environment.insert("PATH".to_owned(), programs.unshared_path());
        }
        if let Some(wanted) = wanted
            && let Some(pin) = self.folders.pins(uid).current(&wanted)
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
        } else if plan.confirm_new_versions && is_package {
            return Err(io::Error::other(UNASKED));
        } else {
            grants.extend(programs.grants(&command, &arguments[..fixed]));
        }
        let spec = Spec {
            socket: socket.clone(),
            lock: self.folders.lock(uid),
            command,
            arguments,
            confinement: self.sandbox.for_server(&own, grants),
            environment,
            marker: self.folders.marker(uid),
            working_folder: own.work,
            files: std::mem::take(&mut plan.files),
            secrets: std::mem::take(&mut plan.secrets),
            transport: plan.transport.clone(),
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
    fn environment(&self, own: &Own, plan: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut environment = self.inherited.clone();
        environment.insert("HOME".to_owned(), text(&own.home));
        environment.insert("TMPDIR".to_owned(), text(self.sandbox.temporary_folder(own)));
        environment.extend(plan);
        environment
    }

    /// Ends what a bridge left behind that was itself killed.
    pub(crate) async fn sweep(&self, uid: &str) -> io::Result<()> {
        let marker = self.folders.marker(uid);
        blocking(move || stdio_bridge::kill_marked(&marker)).await
    }

    /// Removes all that an installation's servers had here. One that never ran here had nothing.
    pub(crate) async fn remove(&self, uid: &str) -> io::Result<()> {
        if !self.folders.has(uid) {
            return Ok(());
        }
        self.sweep(uid).await?;
        self.folders.remove(uid)
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
