//! Serves an app over pipes and TCP ports, for tests.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use futures::Stream;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

use crate::{app::App, connection::Connection, peer::Workload, pipe, serve};

/// An app that is served, with its tasks. It stops when dropped.
#[derive(Debug)]
pub struct Served {
    routes: tonic::service::Routes,
    stop: CancellationToken,
    _guard: DropGuard,
}

impl Served {
    /// Starts the app's tasks, health and reflection.
    pub fn start(mut app: App) -> Self {
        let stop = CancellationToken::new();
        for task in std::mem::take(&mut app.tasks) {
            tokio::spawn((task.run)(stop.clone()));
        }
        let (routes, health) = serve::routes(&[&app]);
        tokio::spawn(stop.clone().run_until_cancelled_owned(health));
        Self {
            routes,
            stop: stop.clone(),
            _guard: stop.drop_guard(),
        }
    }

    /// A channel over which `workload` calls the app.
    pub fn pipe(&self, workload: Workload) -> Channel {
        let (channel, listener) = pipe::pipe(workload);
        self.accept(listener);
        channel
    }

    /// The address of a TCP port on which people call the app.
    pub async fn tcp(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        self.accept(pipe::tcp(listener));
        Ok(address)
    }

    /// Stops serving and ends the tasks.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn accept(&self, connections: impl Stream<Item = io::Result<Connection>> + Send + 'static) {
        let serving = serve::serve(self.routes.clone(), connections, self.stop.clone());
        tokio::spawn(serving);
    }
}
