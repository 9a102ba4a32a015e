//! Vending, against a credential-svc that is made for the test.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use contracts::credential::{
    ErrorReason, VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedHeader,
    vend_service_server::{VendService, VendServiceServer},
};
use contracts::registry as pb;
use pretty_assertions::assert_eq;
use service_kit::{
    Workload,
    pipe::pipe,
    status::{Reason, StatusBuilder},
};
use tonic::{Code, Request, Response, transport::Server};

use super::*;
use crate::{
    domain::{Audience, CallError, Consumer, ConsumerKind, ConsumerRef, Links},
    snapshot::testing::{Made, Registry, bearer, person_with, plain_revision},
};

/// Answers one after the other, and counts.
#[derive(Clone, Default)]
pub(super) struct Credentials {
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

pub(super) fn vendor(
    answers: impl IntoIterator<Item = Result<VendHeadersResponse, Status>>,
) -> (Arc<Vendor>, Credentials) {
    let credentials = Credentials {
        answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        ..Credentials::default()
    };
    let (channel, listener) = pipe(Workload::Gateway);
    let service = VendServiceServer::new(credentials.clone());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(listener));
    (Arc::new(Vendor::new(channel, Clock::System)), credentials)
}

pub(super) fn vended(generation: i64, value: &str, seconds: u64) -> Result<VendHeadersResponse, Status> {
    Ok(VendHeadersResponse {
        headers: vec![VendedHeader {
            name: "Authorization".to_owned(),
            value: value.to_owned(),
        }],
        credential_generation: generation,
        entry_credential_generation: 10 * generation,
        expire_time: Some((service_kit::Clock::System.now() + Duration::from_secs(seconds)).into()),
        ..VendHeadersResponse::default()
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

pub(super) fn with_secret() -> Running {
    installation(pb::entry_revision::CredentialModel::StaticCredential(
        pb::StaticCredential {
            field: "key".to_owned(),
            injection: Some(bearer()),
        },
    ))
}

fn with_account() -> Running {
    installation(pb::entry_revision::CredentialModel::Oauth(pb::OAuthCredential {
        injection: Some(bearer()),
        ..pb::OAuthCredential::default()
    }))
}

fn generations(installation: i64, entry: i64) -> Generations {
    Generations {
        installation,
        entry,
        token: 0,
    }
}

fn header<'a>(vended: &'a Vended, name: &str) -> Option<&'a str> {
    vended.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn nothing_is_vended_where_there_is_no_secret() {
    let (vendor, credentials) = vendor([]);
    let installation = installation(pb::entry_revision::CredentialModel::NoCredential(pb::NoCredential {}));
    let vended = vendor.headers(&installation, None, None).await.unwrap();
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
    let all = futures::future::join_all((0..20).map(|_| vendor.headers(&installation, None, None))).await;
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
        header(
            &vendor.headers(&installation, None, None).await.unwrap(),
            "authorization"
        ),
        Some("one")
    );
    Arc::make_mut(&mut installation.installation).credential_generation += 1;
    assert_eq!(
        header(
            &vendor.headers(&installation, None, None).await.unwrap(),
            "authorization"
        ),
        Some("two")
    );
    // It ends within the margin, so it is not kept at all.
    assert_eq!(
        header(
            &vendor.headers(&installation, None, None).await.unwrap(),
            "authorization"
        ),
        Some("two again")
    );
    // credential-svc may have heard of less than this gateway has.
    let asked = credentials.asked.lock().unwrap().clone();
    let known: Vec<i64> = asked.iter().map(|asked| asked.known_credential_generation).collect();
    assert_eq!(known, [1, 2, 2]);
    assert_eq!(credentials.times.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_new_credential_of_the_entry_asks_again_too() {
    let (vendor, credentials) = vendor([vended(1, "one", 300), vended(1, "two", 300)]);
    let mut running = with_secret();
    for _ in 0..2 {
        let one = vendor.headers(&running, None, None).await.unwrap();
        assert_eq!(header(&one, "authorization"), Some("one"));
    }
    Arc::make_mut(&mut running.entry).credential_generation += 1;
    let two = vendor.headers(&running, None, None).await.unwrap();
    assert_eq!(header(&two, "authorization"), Some("two"));
    assert_eq!(credentials.times.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_refused_credential_is_replaced_once_for_all() {
    let (vendor, credentials) = vendor([vended(1, "old", 300), vended(2, "new", 300)]);
    let installation = with_secret();
    let old = vendor.headers(&installation, None, None).await.unwrap();
    let all = futures::future::join_all(
        (0..10).map(|_| vendor.headers(&installation, None, Some(Refused::Credential(old.generations)))),
    )
    .await;
    for new in all {
        assert_eq!(header(&new.unwrap(), "authorization"), Some("new"));
    }
    assert_eq!(
        header(
            &vendor.headers(&installation, None, None).await.unwrap(),
            "authorization"
        ),
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

/// From the refusal on, not only once the replacement has come; and whoever was refused an older one gets the replacement, too.
#[tokio::test]
async fn what_was_refused_is_given_to_nobody_while_it_is_replaced() {
    let (vendor, credentials) = vendor([vended(1, "one", 300), vended(2, "two", 300), vended(3, "three", 300)]);
    let installation = with_secret();
    let mut current = vendor.headers(&installation, None, None).await.unwrap();
    let first = current.generations;
    for next in ["two", "three"] {
        current.set_refused();
        let older = Some(Refused::Credential(first));
        let (new, to_older) = futures::join!(
            vendor.headers(&installation, None, None),
            vendor.headers(&installation, None, older)
        );
        current = new.unwrap();
        for given in [&current, &to_older.unwrap()] {
            assert_eq!(header(given, "authorization"), Some(next));
        }
    }
    assert_eq!(credentials.times.load(Ordering::SeqCst), 3);
}

/// It may have been refused by mistake: whoever comes next finds out.
#[tokio::test]
async fn what_could_not_be_replaced_is_asked_for_again() {
    let (vendor, credentials) = vendor([
        vended(1, "one", 300),
        Err(Status::unavailable("")),
        vended(1, "one", 300),
    ]);
    let installation = with_secret();
    vendor.headers(&installation, None, None).await.unwrap().set_refused();
    assert!(vendor.headers(&installation, None, None).await.is_err());
    let again = vendor.headers(&installation, None, None).await.unwrap();
    assert_eq!(header(&again, "authorization"), Some("one"));
    assert_eq!(credentials.times.load(Ordering::SeqCst), 3);
}

fn told(error: VendError, running: &Running) -> (&'static str, String) {
    let links = Links::new("https://tools.example.com".parse().unwrap());
    let gateway = ConsumerRef::new(ConsumerKind::Gateway, "default");
    match error.into_call_error(running, &gateway, &links) {
        CallError::Repair(repair) => {
            assert_eq!(
                repair.install_url,
                "https://tools.example.com/install/time?gateway=default"
            );
            (repair.reason.name(), repair.message)
        }
        CallError::Credential { fault, message, .. } => (fault.name(), message),
        CallError::CredentialsUnavailable => ("unavailable", String::new()),
        CallError::Internal => ("internal", String::new()),
        other => panic!("{other}"),
    }
}

/// A refusal becomes an error, with the install link where that helps.
#[tokio::test]
async fn refusals_become_errors_with_a_link() {
    let scopes = Reason::of(ErrorReason::ScopeRequired, ErrorReason::as_str_name);
    let scopes = StatusBuilder::new(Code::FailedPrecondition, scopes, "no").with("scopes", "mail.read mail.write");
    let away = Reason::of(ErrorReason::AuthorizationServerUnavailable, ErrorReason::as_str_name);
    let pauses = StatusBuilder::new(Code::Unavailable, away, "no").retry_after(Duration::from_secs(120));
    let away = StatusBuilder::new(Code::Unavailable, away, "no");
    let busy = Reason::of(ErrorReason::AuthorizationServerBusy, ErrorReason::as_str_name);
    let busy = StatusBuilder::new(Code::Unavailable, busy, "no");
    let refused = Reason::of(ErrorReason::CredentialExpired, ErrorReason::as_str_name);
    let refused = StatusBuilder::new(Code::FailedPrecondition, refused, "no");
    let refused = refused.with("condition_reason", "AUTHORIZATION_SERVER_REFUSED");
    let (vendor, _) = vendor([
        refusal(ErrorReason::CredentialRequired),
        refusal(ErrorReason::CredentialExpired),
        refusal(ErrorReason::DestinationChanged),
        Err(scopes.build()),
        refusal(ErrorReason::CallerTokenRequired),
        refusal(ErrorReason::CallerTokenRefused),
        Err(away.build()),
        Err(Status::unavailable("down")),
        Err(refused.build()),
        Err(busy.build()),
        Err(pauses.build()),
        vended(1, "works", 300),
    ]);
    let installation = with_account();
    let mut seen = Vec::new();
    for _ in 0..11 {
        let error = vendor.headers(&installation, None, None).await.unwrap_err();
        seen.push(told(error, &installation));
    }
    let reasons: Vec<_> = seen.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(
        reasons,
        [
            "credential_required",
            "credential_expired",
            "destination_changed",
            "scope_required",
            "caller_token_required",
            "caller_token_refused",
            "authorization_server_unavailable",
            "unavailable",
            "credential_expired",
            "authorization_server_unavailable",
            "authorization_server_unavailable"
        ]
    );
    for (index, text) in [
        (0, "not connected to an account. Open the link to connect one"),
        (1, "connect again"),
        (3, "mail.read mail.write. Open the link to connect again"),
        (4, "in place of a gateway token"),
        (8, "Connecting the account again does not change that"),
        (6, "Neither The time nor Chandlery is at fault"),
        (9, "answers slowly, and many calls wait for it"),
        (
            10,
            "asks for a pause: it limits requests, or is busy. So there is no token for this call. Try again in 120 s.",
        ),
    ] {
        assert!(seen[index].1.contains(text), "{}", seen[index].1);
    }
    assert!(
        vendor.headers(&installation, None, None).await.is_ok(),
        "a refusal is not kept"
    );
}

#[test]
fn errors_say_what_helps_with_each_kind_of_credential() {
    let scopes = VendError::ScopesRequired("write".into());
    let (_, text) = told(scopes, &with_secret());
    assert!(
        text.contains("write. Open the link to enter a credential that has them"),
        "{text}"
    );
    let (_, text) = told(
        VendError::ScopesRequired("a".repeat(5000).as_str().into()),
        &with_account(),
    );
    assert!(text.len() < 600, "{text}");
    let (reason, text) = told(VendError::Expired, &passed_through());
    assert_eq!(reason, "caller_token_refused");
    assert!(text.contains("does not accept your sign-in"), "{text}");
    let (_, text) = told(VendError::CallerTokenRequired { given: true }, &passed_through());
    assert!(text.contains("of another identity provider"), "{text}");
    assert_eq!(told(VendError::Inconsistent, &with_secret()).0, "internal");
}

/// The token that was refused is named, and so are the scopes that are demanded: once for all calls.
#[tokio::test]
async fn a_refusal_is_passed_on_as_it_was() {
    let numbered = |number, value: &str| {
        vended(1, value, 300).map(|vended| VendHeadersResponse {
            token_number: number,
            ..vended
        })
    };
    let (vendor, credentials) = vendor([numbered(7, "old"), numbered(8, "new"), numbered(9, "wider")]);
    let installation = with_account();
    let old = vendor.headers(&installation, None, None).await.unwrap();
    let refused = Refused::Credential(old.generations);
    let new = vendor.headers(&installation, None, Some(refused)).await.unwrap();
    assert_eq!(header(&new, "authorization"), Some("new"));
    // Another call was refused the same token.
    let again = vendor.headers(&installation, None, Some(refused)).await.unwrap();
    assert_eq!(header(&again, "authorization"), Some("new"));
    for _ in 0..2 {
        let refused = Refused::Scopes(new.generations, "read write");
        let wider = vendor.headers(&installation, None, Some(refused)).await.unwrap();
        assert_eq!(header(&wider, "authorization"), Some("wider"));
    }
    let asked = credentials.asked.lock().unwrap().clone();
    let asked: Vec<_> = asked
        .iter()
        .map(|asked| (asked.rejected_token_number, asked.demanded_scopes.as_str()))
        .collect();
    assert_eq!(asked, [(0, ""), (7, ""), (0, "read write")]);
    let nothing = Refused::Credential(Generations::default());
    assert_eq!(
        vendor.headers(&installation, None, Some(nothing)).await.unwrap_err(),
        VendError::Expired,
        "what was not sent cannot be replaced"
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
        searched: false,
        tokens_only: false,
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

pub(super) fn passed_through() -> Running {
    installation(pb::entry_revision::CredentialModel::JwtPassthrough(
        pb::JwtPassthroughCredential {
            injection: Some(bearer()),
            ..pb::JwtPassthroughCredential::default()
        },
    ))
}

fn for_caller(value: &str) -> Result<VendHeadersResponse, Status> {
    vended(1, value, 300).map(|vended| VendHeadersResponse {
        for_caller_only: true,
        ..vended
    })
}

/// Alice, with this token, which lives for so many seconds.
pub(super) fn token(token: &str, seconds: u64) -> Arc<CallerToken> {
    let expires = service_kit::Clock::System.now() + Duration::from_secs(seconds);
    person_with("alice", token, expires).token.unwrap()
}

#[tokio::test]
async fn a_callers_own_headers_are_for_their_token_alone() {
    let (vendor, credentials) = vendor([for_caller("one"), for_caller("two"), for_caller("bob's")]);
    let installation = passed_through();
    let bob = person_with("bob", "t1", service_kit::Clock::System.now() + Duration::from_secs(300));
    let bob = bob.token.unwrap();
    for _ in 0..2 {
        for (caller, expected) in [(&token("t1", 300), "one"), (&token("t2", 300), "two"), (&bob, "bob's")] {
            let vended = vendor.headers(&installation, Some(caller), None).await.unwrap();
            assert_eq!(header(&vended, "authorization"), Some(expected));
            assert_eq!(vended.caller, Some(caller.digest()));
        }
    }
    assert_eq!(credentials.times.load(Ordering::SeqCst), 3);
    let asked = credentials.asked.lock().unwrap()[0].caller.clone().unwrap();
    assert_eq!(
        (asked.subject.as_str(), asked.token.as_str(), asked.audiences.as_slice()),
        ("alice", "t1", ["chandlery".to_owned()].as_slice())
    );
    assert_eq!(asked.issuer, crate::snapshot::testing::ISSUER);
    assert!(!asked.is_id_token);
}

#[tokio::test]
async fn a_callers_own_headers_do_not_outlive_their_token() {
    let (vendor, credentials) = vendor([for_caller("one"), for_caller("two")]);
    let installation = passed_through();
    let expired = token("t", 0);
    for expected in ["one", "two"] {
        let vended = vendor.headers(&installation, Some(&expired), None).await.unwrap();
        assert_eq!(header(&vended, "authorization"), Some(expected));
    }
    assert_eq!(credentials.times.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_callers_token_goes_nowhere_without_need() {
    let (vendor, credentials) = vendor([vended(1, "shared", 300)]);
    let vended = vendor
        .headers(&with_secret(), Some(&token("t", 300)), None)
        .await
        .unwrap();
    assert_eq!(vended.caller, None);
    assert_eq!(credentials.asked.lock().unwrap()[0].caller, None);
}

/// Whatever the cause, one caller's credential is never kept for others.
#[tokio::test]
async fn headers_whose_owner_is_in_doubt_are_not_used() {
    let (vendor, credentials) = vendor([
        for_caller("alice's"),
        vended(1, "shared", 300),
        for_caller("alice's"),
        vended(1, "shared", 300),
    ]);
    let (shared, own) = (with_secret(), passed_through());
    let alice = token("t", 300);
    for (running, caller) in [
        (&shared, Some(&*alice)),
        (&own, Some(&*alice)),
        (&own, None),
        (&own, None),
    ] {
        let vended = vendor.headers(running, caller, None).await;
        assert_eq!(vended.unwrap_err(), VendError::Inconsistent);
    }
    assert_eq!(credentials.times.load(Ordering::SeqCst), 4);
}
