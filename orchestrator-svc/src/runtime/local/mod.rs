//! Servers as processes of this machine, each behind a bridge process of its own.

mod bridge;
mod folders;
mod programs;
mod sandbox;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use contracts::registry::{EntryRevision, Installation};
use stdio_bridge::Spec;

use ::sandbox::Protection;
pub(crate) use bridge::Bridge;
use folders::{Folders, Own};
use programs::Programs;
use sandbox::Sandbox;
pub use sandbox::SandboxError;

use crate::{
    config::Config,
    domain::plan::{Missing, Plan, Secrets},
};

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

/// Starts bridges.
#[derive(Debug)]
pub(crate) struct LocalRuntime {
    config: Config,
    folders: Folders,
    sandbox: Sandbox,
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
        let inherited = config.inherited_environment.iter();
        let inherited = inherited
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
            .collect();
        Ok(Self {
            config,
            folders,
            sandbox,
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

    /// Starts a bridge that runs the plan. The path is its socket, there once the bridge says that it is ready.
    pub(crate) async fn start(&self, uid: &str, mut plan: Plan) -> io::Result<(Bridge, PathBuf)> {
        let own = self.folders.make(uid)?;
        let socket = self.folders.socket();
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
        let environment = self.environment(&own, std::mem::take(&mut plan.environment));
        let programs = Programs {
            path: environment.get("PATH").map_or("", String::as_str),
            hidden: self.sandbox.hidden(),
            home: self.home.as_deref(),
        };
        let programs = programs.grants(&command, &arguments[..fixed]);
        let spec = Spec {
            socket: socket.clone(),
            lock: self.folders.lock(uid),
            command,
            arguments,
            environment,
            marker: self.folders.marker(uid),
            confinement: self.sandbox.confinement(&own, programs),
            working_folder: own.work,
            files: std::mem::take(&mut plan.files),
            secrets: std::mem::take(&mut plan.secrets),
            transport: plan.transport.clone(),
            limits: self.config.limits.clone(),
        };
        let bridge = Bridge::start(&self.config, &spec).await?;
        Ok((bridge, socket))
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
