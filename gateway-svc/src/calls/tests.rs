//! How long calls wait for servers, in time that passes only in the test.

use std::time::Duration;

use contracts::registry::{self as pb, entry_revision::CredentialModel};
use http::HeaderMap;
use registry_client::watch::Sink as _;
use service_kit::{Clock, Workload, cancel::Cancel, egress::EgressPolicy, http1::HttpPath, pipe::pipe};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    domain::{Caller, ConsumerKind, ConsumerRef, Endpoint, Subject, UpstreamFault},
    resolve,
    snapshot::{
        Feed,
        testing::{Made, Registry, bearer, fill, hosted_revision, person, runtime},
    },
    upstream::{Client, Era, Limits, Revision},
};

/// What the registry knows of the server.
#[derive(Clone, Copy, Debug)]
enum Known {
    Starting,
    /// It is stopping, and does not receive calls.
    Stopping,
    /// It cannot be reached.
    Gone,
    /// Nor can its successor.
    GoneAgain,
    Running,
    /// It runs, and credential-svc does not answer for its credential.
    Vending,
}
use Known::{Gone, GoneAgain, Running, Starting, Stopping, Vending};

impl Known {
    const fn endpoint(self) -> Option<&'static str> {
        match self {
            Starting => None,
            Stopping => Some("unix:/stopping"),
            Gone => Some("unix:/gone"),
            GoneAgain => Some("unix:/gone-again"),
            Running => Some("unix:/running"),
            Vending => Some("unix:/vending"),
        }
    }

    fn registry(self) -> Registry {
        let mut running = hosted_revision("time");
        if matches!(self, Vending) {
            running.credential_model = Some(CredentialModel::StaticCredential(pb::StaticCredential {
                field: "key".to_owned(),
                injection: Some(bearer()),
            }));
        }
        let registry = Registry::default()
            .entry("time", &["now"])
            .gateway("default")
            .assign("default", "time", "now")
            .install(Made {
                running: Some(running),
                ..Made::new("own", "time", "alice")
            });
        match self.endpoint() {
            Some(endpoint) => registry.with(runtime("own", endpoint)),
            None => registry,
        }
    }
}

/// Makes a call while the registry learns this, each after so many seconds: after how many it is answered, and how.
async fn answered(learned: &[(u64, Known)]) -> (u64, Result<(), CallError>) {
    answered_unless(learned, Cancel::default(), CancellationToken::new()).await
}

/// Unless the client cancels the call, or the gateway stops.
async fn answered_unless(
    learned: &[(u64, Known)],
    cancel: Cancel,
    stop: CancellationToken,
) -> (u64, Result<(), CallError>) {
    let store = Store::new(Duration::from_secs(60), Clock::System);
    let mut feed = Feed::new(Arc::clone(&store), mpsc::unbounded_channel().0);
    fill(&mut feed, 1, learned[0].1.registry().objects).await;
    feed.connected(true);
    let (unanswering, _nobody) = pipe(Workload::Gateway);
    let calls = Calls::new(
        store,
        Arc::new(Vendor::new(unanswering, Clock::System)),
        Upstreams::new(
            EgressPolicy::new(Vec::new()),
            Limits::default(),
            HttpPath::default(),
            Clock::System,
        ),
        Links::new("http://127.0.0.1".parse().unwrap()),
        Arc::new(|_| {}),
        stop,
        Late::default(),
    );
    let begun = Instant::now();
    let changes = async {
        for (revision, (after, known)) in (2..).zip(&learned[1..]) {
            sleep_until(begun + Duration::from_secs(*after)).await;
            fill(&mut feed, revision, known.registry().objects).await;
        }
        std::future::pending().await
    };
    let (caller, gateway) = (person("alice"), ConsumerRef::new(ConsumerKind::Gateway, "default"));
    let visitor = Visitor {
        caller: &caller,
        consumer: &gateway,
        headers: &HeaderMap::new(),
        subject: &"users/alice".into(),
        client: Client::Caller("users/alice".into()),
        profile: None,
        era: Era::Legacy,
        revision: Revision::LATEST,
        prepared: None,
    };
    let call = Call {
        visitor: &visitor,
        method: "tools/call",
        to: To::Tool("time__now"),
        params: &[],
        meta: None,
        extra: &[],
        together: None,
        cancel,
    };
    let send = async |way: Way| {
        let target = &way.to;
        let Some(Endpoint::Hosted(endpoint)) = &target.running.endpoint else {
            panic!("{:?}", target.running.endpoint)
        };
        let why = match &**endpoint {
            "unix:/running" => return Ok(Ok(())),
            "unix:/vending" => return Ok(calls.call_at(way, &call, None).await?.map(drop)),
            "unix:/stopping" => UpstreamError::NotTaken,
            _ => UpstreamError::Unreachable("no such file".to_owned()),
        };
        Ok(Err(Refusal::new(way.to.running.clone(), why)))
    };
    let answer = tokio::select! {
        answer = calls.deliver(&call, send) => answer,
        () = changes => unreachable!(),
    };
    (begun.elapsed().as_secs(), answer)
}

#[tokio::test(start_paused = true)]
async fn a_call_reaches_a_server_that_comes_in_time() {
    for (learned, answered_after) in [
        (&[(0, Running)][..], 0),
        (&[(0, Starting), (49, Running)], 49),
        (&[(0, Stopping), (49, Running)], 49),
        (&[(0, Gone), (19, Running)], 19),
        (&[(0, Gone), (19, Starting), (49, Running)], 49),
        (&[(0, Stopping), (40, Starting), (49, Running)], 49),
        (&[(0, Gone), (19, Stopping), (49, Running)], 49),
        (&[(0, Gone), (1, Starting), (40, GoneAgain), (49, Running)], 49),
        // Refused only now: the time in which it was not yet refused does not count.
        (&[(0, Starting), (40, Stopping), (89, Running)], 89),
    ] {
        let (after, answer) = answered(learned).await;
        assert!(answer.is_ok(), "{learned:?}: {answer:?}");
        assert_eq!(after, answered_after, "{learned:?}");
    }
}

/// Nobody is sent a link to repair what is only starting.
#[tokio::test(start_paused = true)]
async fn a_call_waits_as_long_as_promised_and_no_longer() {
    for (learned, given_up_after) in [
        (&[(0, Starting)][..], 50),
        (&[(0, Stopping)], 50),
        (&[(0, Gone)], 20),
        (&[(0, Gone), (10, Starting)], 50),
        (&[(0, Stopping), (10, Starting)], 50),
        (&[(0, Gone), (10, Stopping)], 50),
        (&[(0, Stopping), (10, Gone)], 30),
        (&[(0, Gone), (10, GoneAgain)], 30),
        (&[(0, Gone), (10, Starting), (40, GoneAgain)], 50),
        (&[(0, Starting), (40, Gone)], 60),
        (&[(0, Starting), (40, Gone), (50, Starting)], 90),
    ] {
        let (after, answer) = answered(learned).await;
        let Err(CallError::Upstream { fault, message, .. }) = answer else {
            panic!("{learned:?}: {answer:?}")
        };
        assert_eq!(
            (after, fault),
            (given_up_after, UpstreamFault::Unreachable),
            "{learned:?}"
        );
        let starting = matches!(learned.last(), Some((_, Starting)));
        assert_eq!(message.contains("is being started"), starting, "{learned:?}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_waits_no_longer() {
    for known in [Starting, Stopping, Gone] {
        let cancel = Cancel::default();
        cancel.cancel();
        let (after, answer) = answered_unless(&[(0, known)], cancel, CancellationToken::new()).await;
        assert!(matches!(answer, Err(CallError::Cancelled)), "{known:?}: {answer:?}");
        assert_eq!(after, 0, "{known:?}");
    }
}

/// The gateway ends sooner than the server may come. Calls that need not wait are made.
#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_while_the_gateway_stops() {
    for known in [Starting, Stopping, Gone, Vending] {
        let stop = CancellationToken::new();
        let stopping = async {
            sleep_until(Instant::now() + Duration::from_secs(5)).await;
            stop.cancel();
        };
        let learned = [(0, known), (10, Running)];
        let answered = answered_unless(&learned, Cancel::default(), stop.clone());
        let ((after, answer), ()) = tokio::join!(answered, stopping);
        assert!(matches!(answer, Err(CallError::Stopping)), "{known:?}: {answer:?}");
        assert_eq!(after, 5, "{known:?}");
        let (after, answer) = answered_unless(&[(0, known)], Cancel::default(), stop.clone()).await;
        assert!(matches!(answer, Err(CallError::Stopping)), "{known:?}: {answer:?}");
        assert_eq!(after, 0, "{known:?}");
        let (_, answer) = answered_unless(&[(0, Running)], Cancel::default(), stop).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
}

/// A bridge shares its processes fairly among those whom calls are for: the same person's sessions are one share, also those with gateway
/// tokens that they created for teams.
#[tokio::test]
async fn a_bridge_with_a_process_for_each_session_learns_whom_a_call_is_for() {
    let with = |model: pb::ProcessModel| {
        let mut revision = hosted_revision("time");
        let Some(pb::entry_revision::Server::SelfHosted(server)) = &mut revision.server else {
            panic!("{revision:?}")
        };
        server.transport = Some(pb::self_hosted_server::Transport::Stdio(pb::StdioTransport {
            process_model: model.into(),
        }));
        let registry = Registry::default()
            .entry("time", &["now"])
            .gateway("default")
            .assign("default", "time", "now")
            .install(Made {
                running: Some(revision),
                ..Made::new("own", "time", "alice")
            });
        registry.with(runtime("own", "unix:/running")).snapshot()
    };
    let gateway = ConsumerRef::new(ConsumerKind::Gateway, "default");
    let links = Links::new("http://127.0.0.1".parse().unwrap());
    let unused = tonic::transport::Endpoint::from_static("http://unused.invalid").connect_lazy();
    let vendor = Vendor::new(unused, Clock::System);
    let mut told = Vec::new();
    let token = |creator: Option<&Caller>| Caller {
        subject: Subject::Team("core".into()),
        consumers: None,
        token: None,
        creator: creator.map(|creator| creator.subject_name().into()),
    };
    let (alice, bob) = (person("alice"), person("bob"));
    let (alices, bobs) = (token(Some(&alice)), token(Some(&bob)));
    for (model, caller, session) in [
        (pb::ProcessModel::OnePerSession, &alice, 1),
        (pb::ProcessModel::OnePerSession, &alice, 2),
        (pb::ProcessModel::OnePerSession, &alices, 3),
        (pb::ProcessModel::OnePerSession, &bob, 4),
        (pb::ProcessModel::OnePerSession, &bobs, 5),
        (pb::ProcessModel::OnePerSession, &token(None), 6),
        (pb::ProcessModel::OneForAll, &alice, 7),
    ] {
        let target = resolve::call(&with(model), &person("alice"), &gateway, "time__now", None, &links).unwrap();
        let vended = vendor.headers(&target.running, None, None).await.unwrap();
        let visitor = Visitor {
            caller,
            consumer: &gateway,
            headers: &HeaderMap::new(),
            subject: &caller.subject_name().into(),
            client: Client::Session([session; 12]),
            profile: None,
            era: Era::Legacy,
            revision: Revision::LATEST,
            prepared: None,
        };
        let target = Targets::default().get(&target.running, &vended, &target.consumer, &visitor);
        told.push(target.unwrap().caller.clone());
    }
    let [first, second, by_token, other, others_token, nobodys_token, shared] = told.try_into().unwrap();
    assert!(first.is_some() && other.is_some() && nobodys_token.is_some());
    assert_eq!((&second, &by_token, &others_token), (&first, &first, &other));
    assert!(first != other && nobodys_token != first && nobodys_token != other);
    assert_eq!(shared, None);
}
