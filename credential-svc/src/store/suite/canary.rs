//! No token, code, verifier or secret of a client is in anything that is told or logged.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tracing::subscriber::DefaultGuard;

use super::{
    Bench,
    accounts::{ALICE, World, demanded, machine, plan, rejected},
    service::{Step, owner},
};
use crate::domain::{
    authorization::fake::{LIFE, Script, refused},
    owner::Source,
    ports::Store as _,
};

/// What this thread logs.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes it until the guard is dropped.
    pub(super) fn take() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(in crate::store) async fn nothing_that_is_told_or_logged_holds_a_token<B: Bench>() {
    // A thread of its own, on which everything runs: the log of one thread can be captured.
    let told = std::thread::spawn(|| {
        let (log, _guard) = Log::take();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut told = runtime.block_on(async { accounts::<B>().await + &machines::<B>().await });
        let log = log.text();
        assert!(log.contains("another token was issued"), "the log was taken: {log}");
        told.push_str(&log);
        told
    });
    let told = told.join().unwrap();
    assert!(
        told.contains("alice@example.com") && told.contains("invalid_grant"),
        "it is complete"
    );
    let found = told
        .find("canary")
        .map(|at| &told[at.saturating_sub(200)..told.len().min(at + 50)]);
    assert_eq!(found, None);
}

/// Everything that people and workloads are told, except in what is vended.
async fn accounts<B: Bench>() -> String {
    let world = World::<B>::of_accounts().await;
    world.servers.register_with("canary-registered-secret");
    let service = world.replica().await;
    let started = service.start(ALICE).await.unwrap();
    let mut told = format!(
        "{:?} {:?}",
        started.url,
        service.finish("mallory", &started, |_| {}).await
    );
    let summary = service.finish(ALICE, &started, |_| {}).await;
    told += &format!("{summary:?} {:?}", service.finish(ALICE, &started, |_| {}).await);
    service.token().await.unwrap();
    told += &format!("{:?}", service.call(demanded(&["write"])).await.unwrap_err());
    service.advance(LIFE);
    service.script([Step::Before(Box::pin(async {})), Step::Refuse]);
    service.token().await.unwrap();
    let (_, kept) = service.store().read(&owner("a")).await.unwrap().unwrap();
    told += &format!("{kept:?}");
    world.servers.script([Script::Fail(refused("invalid_grant"))]);
    service.advance(LIFE);
    told += &format!("{:?}", service.token().await.unwrap_err());
    service.reconcile().await.unwrap();
    told += &format!("{:?}", world.registry.reported(&owner("a")));
    told += &format!("{:?}", service.credentials.get(&service.subject("a")).await);
    told += &format!("{:?}", service.credentials.delete(service.subject("a")).await);
    world.servers.revoked(2).await;
    // The state is told, to the person's browser.
    told.replace(started.state.expose_secret(), "")
}

async fn machines<B: Bench>() -> String {
    let world = World::<B>::new(plan(machine(), Source::Prompted)).await;
    let service = world.replica().await;
    let mut told = format!("{:?}", service.put("a", &[("secret", "canary-secret")]).await);
    service.token().await.unwrap();
    service.call(rejected(1)).await.unwrap();
    world.servers.script([Script::Fail(refused("invalid_client"))]);
    service.advance(LIFE + Duration::from_secs(60));
    told += &format!("{:?}", service.token().await.unwrap_err());
    told += &format!("{:?}", service.credentials.get(&service.subject("a")).await);
    told
}
