//! Upstreams: servers of this crate, which record, misbehave or respond at minimal cost, and a real one.

pub mod everything;
pub mod fast;
pub mod hostile;
pub mod protected;
pub mod recording;
pub mod sessions;
pub mod suite;

use std::net::SocketAddr;

use axum::Router;
use tokio::{net::TcpListener, task::JoinHandle};

/// A server of this crate on 127.0.0.1. It stops when dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Served {
    /// Serves these routes.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback interface has free ports");
        Self::on(listener, router)
    }

    /// Serves these routes on a port that is bound.
    ///
    /// # Panics
    /// Never.
    pub fn on(listener: TcpListener, router: Router) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { address, task }
    }

    /// A URL of the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}
