//! The permission to follow a log, with the in-memory runtime and a fake registry.

use std::time::Duration;

use contracts::{
    orchestrator::ErrorReason,
    registry::{
        EntryRevision, Installation, SelfHostedServer, StdioTransport, StreamableHttpTransport, Tenancy,
        entry_revision::Server, installation::Scope, self_hosted_server::Transport,
    },
};
use registry_client::testing::FakeRegistry;
use service_kit::{
    User, UserId, Workload, clock::ManualClock, identity::Caller, pipe::pipe, serve::serve, status::reason_of,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Code;

use super::*;
use crate::{domain::spec::tests::spec, runtime::memory::MemoryRuntime};

type Lines = <RuntimeApi as RuntimeService>::StreamRuntimeLogsStream;

/// A log that alice follows. Her permission is checked again every millisecond.
struct Followed {
    registry: FakeRegistry,
    clock: ManualClock,
    lines: Lines,
    /// Without it, the log ends.
    _api: RuntimeApi,
    _registry: AbortOnDropHandle<()>,
}

fn alice(clock: &ManualClock) -> User {
    User {
        id: UserId::of("https://issuer.example", "alice"),
        machine: false,
        issuer: "https://issuer.example".to_owned(),
        subject: "alice".to_owned(),
        audiences: vec!["chandlery".to_owned()],
        email: None,
        display_name: None,
        groups: Vec::new(),
        admin: false,
        expires_at: Clock::Manual(clock.clone()).now() + Duration::from_secs(300),
    }
}

fn installed(registry: &FakeRegistry) {
    let server = SelfHostedServer {
        command: "serve".to_owned(),
        transport: Some(Transport::Stdio(StdioTransport::default())),
        ..SelfHostedServer::default()
    };
    registry.change(|objects| {
        objects.put(EntryRevision {
            entry_uid: "e".to_owned(),
            number: 1,
            server: Some(Server::SelfHosted(server)),
            ..EntryRevision::default()
        });
        objects.put(Installation {
            name: "installations/one".to_owned(),
            uid: "one".to_owned(),
            entry_uid: "e".to_owned(),
            running_entry_revision: 1,
            scope: Some(Scope::User("alice".to_owned())),
            ..Installation::default()
        });
    });
}

impl Followed {
    /// Has sent one line.
    async fn new() -> Self {
        let (registry, clock) = (FakeRegistry::new(), ManualClock::at(Clock::System.now()));
        installed(&registry);
        let (channel, listener) = pipe(Workload::Orchestrator);
        let routes = registry.routes().prepare();
        let served = tokio::spawn(async move { drop(serve(routes, listener, CancellationToken::new()).await) });
        let runtime = Arc::new(MemoryRuntime::default());
        runtime.apply("one", spec("run")).await;
        let api = RuntimeApi {
            check: Duration::from_millis(1),
            ..RuntimeApi::new(runtime, Access::new(channel), Clock::Manual(clock.clone()))
        };
        let mut request = Request::new(StreamRuntimeLogsRequest {
            name: "installations/one/runtime".to_owned(),
            follow: true,
            ..Default::default()
        });
        request.extensions_mut().insert(Caller::User(Arc::new(alice(&clock))));
        let mut lines = api.stream_runtime_logs(request).await.unwrap().into_inner();
        let first = lines.next().await.unwrap().unwrap();
        assert_eq!(first.line, "started with nothing");
        Self {
            registry,
            clock,
            lines,
            _api: api,
            _registry: AbortOnDropHandle::new(served),
        }
    }

    /// The error with which the stream ends.
    async fn end(&mut self) -> (Code, Option<ErrorReason>) {
        let end = tokio::time::timeout(Duration::from_secs(20), self.lines.next()).await;
        let end = end.expect("the stream ends").unwrap().unwrap_err();
        assert!(self.lines.next().await.is_none());
        (end.code(), reason_of(&end, ErrorReason::from_str_name))
    }
}

#[tokio::test]
async fn a_followed_log_ends_when_its_reader_loses_the_permission() {
    let mut followed = Followed::new().await;
    followed.registry.change(|objects| {
        objects.edit("one", |installation: &mut Installation| {
            installation.scope = Some(Scope::Team("teams/other".to_owned()));
        })
    });
    assert_eq!(
        followed.end().await,
        (Code::PermissionDenied, Some(ErrorReason::PermissionDenied))
    );
}

#[tokio::test]
async fn a_followed_log_ends_when_its_installation_is_gone() {
    let mut followed = Followed::new().await;
    followed
        .registry
        .change(|objects| objects.remove::<Installation>("one"));
    assert_eq!(
        followed.end().await,
        (Code::NotFound, Some(ErrorReason::ResourceNotFound))
    );
}

/// It may have data of everybody from then on.
#[tokio::test]
async fn a_followed_log_ends_when_others_share_the_server() {
    let mut followed = Followed::new().await;
    let transport = StreamableHttpTransport {
        tenancy: Tenancy::Shared.into(),
        ..StreamableHttpTransport::default()
    };
    followed.registry.change(|objects| {
        objects.edit("e/1", |revision: &mut EntryRevision| {
            if let Some(Server::SelfHosted(server)) = &mut revision.server {
                server.transport = Some(Transport::StreamableHttp(transport));
            }
        })
    });
    assert_eq!(
        followed.end().await,
        (Code::FailedPrecondition, Some(ErrorReason::SharedRuntime))
    );
}

#[tokio::test]
async fn a_followed_log_ends_when_the_token_of_its_reader_expires() {
    let mut followed = Followed::new().await;
    followed.clock.advance(Duration::from_secs(600));
    assert_eq!(
        followed.end().await,
        (Code::Unauthenticated, Some(ErrorReason::TokenInvalid))
    );
}
