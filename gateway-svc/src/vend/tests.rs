//! Vending, against a credential-svc that is made for the test.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use contracts::credential::{
    VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedHeader,
    vend_service_server::{VendService, VendServiceServer},
};
use contracts::registry as pb;
use pretty_assertions::assert_eq;
use service_kit::{
    Workload,
    pipe::pipe,
    status::{Reason, StatusBuilder},
};
use tonic::{Request, Response, transport::Server};

use super::*;
use crate::{
    domain::{Audience, Consumer, ConsumerKind},
    snapshot::testing::{Made, Registry, plain_revision},
};

/// Answers one after the other, and counts.
#[derive(Clone, Default)]
struct Credentials {
    answers: Arc<Mutex<VecDeque<Result<VendHeadersResponse, Status>>>>,
    asked: Arc<Mutex<Vec<VendHeadersRequest>>>,
    times: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl VendService for Credentials {
    async fn vend_headers(
        &self,
        request: Request<VendHeadersRequest>,
    ) -> Result<Response<VendHeadersResponse>, Status> {
        self.times.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(request.into_inner());
        let answer = self.answers.lock().unwrap().pop_front();
        answer
            .unwrap_or_else(|| Err(Status::unavailable("no answer left")))
            .map(Response::new)
    }

    async fn vend_runtime(&self, _: Request<VendRuntimeRequest>) -> Result<Response<VendRuntimeResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }
}

fn vendor(answers: impl IntoIterator<Item = Result<VendHeadersResponse, Status>>) -> (Arc<Vendor>, Credentials) {
    let credentials = Credentials {
        answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        ..Credentials::default()
    };
    let (channel, listener) = pipe(Workload::Gateway);
    let service = VendServiceServer::new(credentials.clone());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(listener));
    (Arc::new(Vendor::new(channel, Clock::System)), credentials)
}

fn vended(generation: i64, value: &str, seconds: u64) -> Result<VendHeadersResponse, Status> {
    Ok(VendHeadersResponse {
        headers: vec![VendedHeader {
            name: "Authorization".to_owned(),
            value: value.to_owned(),
        }],
        credential_generation: generation,
        entry_credential_generation: 10 * generation,
        expire_time: Some((service_kit::Clock::System.now() + Duration::from_secs(seconds)).into()),
    })
}

fn refusal(reason: ErrorReason) -> Result<VendHeadersResponse, Status> {
    let reason = Reason::of(reason, ErrorReason::as_str_name);
    Err(StatusBuilder::new(Code::FailedPrecondition, reason, "no").build())
}

fn installation(model: pb::entry_revision::CredentialModel) -> Running {
    let header = |name: &str, value: &str| pb::AdditionalHeader {
        name: name.to_owned(),
        source: Some(pb::additional_header::Source::Value(value.to_owned())),
    };
    let running = pb::EntryRevision {
        credential_model: Some(model),
        additional_headers: vec![
            header("x-tenant", "acme"),
            header("Authorization", "no"),
            header("Host", "no"),
            header("x-bad", "a\r\nb"),
        ],
        ..plain_revision("time")
    };
    let registry = Registry::default().entry("time", &[]).install(Made {
        running: Some(running),
        ..Made::new("i", "time", "alice")
    });
    registry.running("i")
}

fn with_secret() -> Running {
    installation(pb::entry_revision::CredentialModel::StaticCredential(
        pb::StaticCredential {
            field: "key".to_owned(),
            injection: Some(crate::snapshot::testing::bearer()),
        },
    ))
}

fn generations(installation: i64, entry: i64) -> Generations {
    Generations { installation, entry }
}

fn header<'a>(vended: &'a Vended, name: &str) -> Option<&'a str> {
    vended.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn nothing_is_vended_where_there_is_no_secret() {
    let (vendor, credentials) = vendor([]);
    let installation = installation(pb::entry_revision::CredentialModel::NoCredential(pb::NoCredential {}));
    let vended = vendor.headers(&installation, None).await.unwrap();
    assert_eq!(
        (header(&vended, "x-tenant"), vended.headers.len()),
        (Some("acme"), 1),
        "and nothing that must not be sent"
    );
    assert_eq!(credentials.times.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn concurrent_calls_share_one_request() {
    let (vendor, credentials) = vendor([vended(3, "Bearer s3cret", 300)]);
    let installation = with_secret();
    let all = futures::future::join_all((0..20).map(|_| vendor.headers(&installation, None))).await;
    for vended in all {
        let vended = vended.unwrap();
        assert_eq!(
            (header(&vended, "authorization"), header(&vended, "x-tenant")),
            (Some("Bearer s3cret"), Some("acme"))
        );
        assert_eq!(vended.generations, generations(3, 30));
        assert!(
            !format!("{vended:?} {:?}", vended.headers).contains("s3cret"),
            "secrets do not print"
        );
    }
    assert_eq!(credentials.times.load(Ordering::SeqCst), 1);
    let asked = credentials.asked.lock().unwrap()[0].clone();
    assert_eq!(
        (
            asked.installation_uid.as_str(),
            asked.destination.as_str(),
            asked.rejected_credential_generation,
            asked.rejected_entry_credential_generation,
        ),
        ("i", "https://mcp.example.com", 0, 0)
    );
}

#[tokio::test]
async fn a_new_generation_and_the_end_of_the_old_one_ask_again() {
    let (vendor, credentials) = vendor([vended(1, "one", 300), vended(2, "two", 1), vended(2, "two again", 300)]);
    let mut installation = with_secret();
    assert_eq!(
        header(&vendor.headers(&installation, None).await.unwrap(), "authorization"),
        Some("one")
    );
    Arc::make_mut(&mut installation.installation).credential_generation += 1;
    assert_eq!(
        header(&vendor.headers(&installation, None).await.unwrap(), "authorization"),
        Some("two")
    );
    // It ends within the margin, so it is not kept at all.
    assert_eq!(
        header(&vendor.headers(&installation, None).await.unwrap(), "authorization"),
        Some("two again")
    );
    assert_eq!(credentials.times.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_new_credential_of_the_entry_asks_again_too() {
    let (vendor, credentials) = vendor([vended(1, "one", 300), vended(1, "two", 300)]);
    let mut running = with_secret();
    for _ in 0..2 {
        let one = vendor.headers(&running, None).await.unwrap();
        assert_eq!(header(&one, "authorization"), Some("one"));
    }
    Arc::make_mut(&mut running.entry).credential_generation += 1;
    let two = vendor.headers(&running, None).await.unwrap();
    assert_eq!(header(&two, "authorization"), Some("two"));
    assert_eq!(credentials.times.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_refused_credential_is_replaced_once_for_all() {
    let (vendor, credentials) = vendor([vended(1, "old", 300), vended(2, "new", 300)]);
    let installation = with_secret();
    let old = vendor.headers(&installation, None).await.unwrap();
    let all = futures::future::join_all((0..10).map(|_| vendor.headers(&installation, Some(old.generations)))).await;
    for new in all {
        assert_eq!(header(&new.unwrap(), "authorization"), Some("new"));
    }
    assert_eq!(
        header(&vendor.headers(&installation, None).await.unwrap(), "authorization"),
        Some("new")
    );
    assert_eq!(credentials.times.load(Ordering::SeqCst), 2);
    let asked = credentials.asked.lock().unwrap()[1].clone();
    assert_eq!(
        (
            asked.rejected_credential_generation,
            asked.rejected_entry_credential_generation
        ),
        (1, 10)
    );
}

/// A refusal becomes an error with the install link.
#[tokio::test]
async fn refusals_become_errors_with_a_link() {
    let (vendor, _) = vendor([
        refusal(ErrorReason::CredentialRequired),
        refusal(ErrorReason::CredentialExpired),
        refusal(ErrorReason::DestinationChanged),
        Err(Status::unavailable("down")),
        vended(1, "works", 300),
    ]);
    let installation = with_secret();
    let links = Links::new("https://tools.example.com".parse().unwrap());
    let gateway = ConsumerRef::new(ConsumerKind::Gateway, "default");
    let snapshot = Registry::default().entry("time", &[]).snapshot();
    let entry = snapshot.entry("e-time").unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let error = vendor.headers(&installation, None).await.unwrap_err();
        seen.push(match error.into_call_error(entry, &gateway, &links) {
            CallError::Repair(repair) => {
                assert_eq!(
                    repair.install_url,
                    "https://tools.example.com/install/time?gateway=default"
                );
                repair.reason.name()
            }
            CallError::CredentialsUnavailable => "unavailable",
            other => panic!("{other}"),
        });
    }
    assert_eq!(
        seen,
        [
            "credential_required",
            "credential_expired",
            "destination_changed",
            "unavailable"
        ]
    );
    assert!(
        vendor.headers(&installation, None).await.is_ok(),
        "a refusal is not kept"
    );
}

#[test]
fn passthrough_lets_only_the_allowed_through_and_never_replaces() {
    let consumer = Consumer {
        name: ConsumerRef::new(ConsumerKind::Gateway, "default"),
        uid: "g".into(),
        display_name: "g".to_owned(),
        description: String::new(),
        labels: crate::domain::Labels::default(),
        automatic: false,
        audience: Audience {
            organization: true,
            teams: Box::default(),
            author: None,
        },
        passthrough_headers: [
            "x-trace",
            "x-tenant",
            "authorization",
            "cookie",
            "host",
            "mcp-session-id",
            "no such",
        ]
        .map(str::to_owned)
        .into(),
        omit_entry_prefix: false,
    };
    let mut client = HeaderMap::new();
    for (name, value) in [
        ("x-trace", "1"),
        ("x-trace", "2"),
        ("x-tenant", "evil"),
        ("authorization", "Bearer caller"),
        ("cookie", "a=b"),
        ("host", "evil"),
        ("mcp-session-id", "s"),
        ("x-other", "no"),
    ] {
        client.append(name, value.parse().unwrap());
    }
    let mut ours = HeaderMap::new();
    ours.insert("x-tenant", "acme".parse().unwrap());
    let mut out = HeaderMap::new();
    passthrough(&client, &consumer, &ours, &mut out);
    let out: Vec<_> = out
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(out, [("x-trace", "1"), ("x-trace", "2")]);
}
