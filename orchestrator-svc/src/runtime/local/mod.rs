//! Servers as processes of this machine, each behind a bridge process of its own.

mod bridge;
mod folders;

use std::{collections::BTreeMap, io, path::PathBuf};

use contracts::registry::{EntryRevision, Installation};
use stdio_bridge::Spec;

pub(crate) use bridge::Bridge;
use folders::Folders;

use crate::{
    config::Config,
    domain::plan::{Missing, Plan, Secrets},
};

/// Starts bridges.
#[derive(Debug)]
pub(crate) struct LocalRuntime {
    config: Config,
    folders: Folders,
    /// What servers inherit of the service's environment.
    inherited: BTreeMap<String, String>,
}

impl LocalRuntime {
    /// Makes the folders and ends what an earlier run left behind, which can be only what outlived its killed bridge.
    pub(crate) async fn new(config: Config) -> io::Result<Self> {
        let folders = Folders::new(&config.data_dir)?;
        let prefix = folders.marker("");
        tokio::task::spawn_blocking(move || stdio_bridge::kill_marked(&prefix))
            .await
            .map_err(io::Error::other)??;
        let inherited = config.inherited_environment.iter();
        let inherited = inherited
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
            .collect();
        Ok(Self {
            config,
            folders,
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

    /// Starts a bridge that runs the plan. The path is its socket, there once the bridge says that it is ready.
    pub(crate) async fn start(&self, uid: &str, mut plan: Plan) -> io::Result<(Bridge, PathBuf)> {
        let working_folder = self.folders.make(uid)?;
        let socket = self.folders.socket();
        let mut environment = self.inherited.clone();
        environment.append(&mut std::mem::take(&mut plan.environment));
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
        }
        let spec = Spec {
            socket: socket.clone(),
            lock: self.folders.lock(uid),
            command,
            arguments,
            environment,
            marker: self.folders.marker(uid),
            working_folder,
            files: std::mem::take(&mut plan.files),
            secrets: std::mem::take(&mut plan.secrets),
            transport: plan.transport.clone(),
            limits: self.config.limits.clone(),
        };
        let bridge = Bridge::start(&self.config, &spec).await?;
        Ok((bridge, socket))
    }

    /// Ends what a bridge left behind that was itself killed.
    pub(crate) async fn sweep(&self, uid: &str) -> io::Result<()> {
        let marker = self.folders.marker(uid);
        tokio::task::spawn_blocking(move || stdio_bridge::kill_marked(&marker))
            .await
            .map_err(io::Error::other)?
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
