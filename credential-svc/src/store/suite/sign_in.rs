//! People connect accounts.

use std::{collections::BTreeMap, time::Duration};

use futures::FutureExt as _;
use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;
use url::Url;

use super::{
    Bench,
    accounts::{ALICE, World, bearer, client, plan, sign_in},
    service::{HOME, Step, owner},
};
use crate::domain::{
    authorization::{
        fake::{ISSUER, Script, refused},
        finishing::Returned,
        plan::{ClientId, ClientPlan, Resource, Server, SignIn, Source as Tokens},
        servers::{ServerError, TokenKind, Upstream},
        starting::Started,
    },
    error::Error,
    owner::Source,
    ports::Store as _,
    record::Value,
};

/// Of [`ISSUER`], in redirect URIs that are registered there.
const TAG: &str = "hPhi4surPQFoR02ACPwY-g";

/// An answer that comes to this redirect URI, and does not say whose it is.
fn from_nobody(redirect_uri: String) -> impl FnOnce(&mut Returned) {
    move |returned| {
        returned.issuer.clear();
        returned.redirect_uri = redirect_uri;
    }
}

pub(super) fn query(started: &Started) -> BTreeMap<String, String> {
    let url: Url = started.url.parse().unwrap();
    url.query_pairs().into_owned().collect()
}

#[track_caller]
pub(super) fn invalid<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert!(matches!(answer, Err(Error::AuthorizationStateInvalid)), "{answer:?}");
}

#[track_caller]
fn foreign<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert!(
        matches!(&answer, Err(Error::AuthorizationAnswerForeign(of)) if of == ISSUER),
        "{answer:?}"
    );
}

pub(in crate::store) async fn an_account_is_connected_and_used<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.reconcile().await.unwrap();
    let condition = || world.registry.reported(&owner("a")).unwrap();
    assert_eq!((condition().ready, condition().reason), (false, "CREDENTIAL_REQUIRED"));
    let unconnected = service.token().await;
    assert!(
        matches!(&unconnected, Err(Error::CredentialRequired { message, .. }) if message.contains("connect an account")),
        "{unconnected:?}"
    );

    let started = service.start(ALICE).await.unwrap();
    assert!(
        started.url.starts_with("https://as.example.com/authorize?tenant=1&"),
        "{}",
        started.url
    );
    let query = query(&started);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "registered-1"),
        ("redirect_uri", &format!("http://127.0.0.1:8080/oauth/callback/{TAG}")),
        ("scope", "offline_access read"),
        ("resource", "https://example.com/mcp"),
        ("state", started.state.expose_secret()),
        ("code_challenge_method", "S256"),
        ("prompt", "consent"),
        ("hint", "a b"),
    ] {
        assert_eq!(query.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(
        service.token().await.unwrap_err().to_string(),
        unconnected.unwrap_err().to_string()
    );

    let summary = service.finish(ALICE, &started, |_| {}).await.unwrap();
    let request = &world.servers.requests("authorization_code")[0].parameters;
    let verifier = &request["code_verifier"];
    assert_eq!(
        crate::domain::authorization::pending::challenge(&verifier.as_str().into()),
        query["code_challenge"]
    );
    assert_eq!(request["redirect_uri"], query["redirect_uri"]);
    assert_eq!(request["resource"], query["resource"]);
    let connection = summary.connection.unwrap();
    assert_eq!((summary.generation, summary.bound_destination.as_str()), (1, HOME));
    assert_eq!(
        (
            connection.issuer.as_str(),
            connection.account.as_str(),
            connection.is_refreshable
        ),
        (ISSUER, "alice@example.com", true)
    );
    assert_eq!((condition().ready, condition().reason), (true, "CONNECTED"));
    assert!(
        !condition().message.contains("alice"),
        "{condition:?}",
        condition = condition()
    );
    for replica in [&service, &world.replica().await] {
        assert_eq!(replica.token().await.unwrap(), bearer(1, 1));
    }
}

pub(in crate::store) async fn a_sign_in_is_finished_once_by_who_began_it<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let started = service.start(ALICE).await.unwrap();
    invalid(service.finish("mallory", &started, |_| {}).await);
    let forged = service.finish(ALICE, &started, |returned| returned.state = "YWJj".into());
    invalid(forged.await);
    assert_eq!(world.servers.requests("authorization_code"), []);
    // Two browsers with the same answer, at two replicas.
    let other = world.replica().await;
    let again = Started {
        url: started.url.clone(),
        state: started.state.clone(),
        expire_time: 0,
    };
    let meddle = other.clone();
    let first = async move { drop(meddle.finish(ALICE, &again, |_| {}).await.unwrap()) };
    service.script([Step::Before(first.boxed())]);
    invalid(service.finish(ALICE, &started, |_| {}).await);
    invalid(service.finish(ALICE, &started, |_| {}).await);
    assert_eq!(world.servers.requests("authorization_code").len(), 1);

    let late = service.start(ALICE).await.unwrap();
    service.advance(Duration::from_secs(600));
    invalid(service.finish(ALICE, &late, |_| {}).await);
    // Whoever begins too often loses the oldest.
    let mut begun = Vec::new();
    for _ in 0..5 {
        begun.push(service.start(ALICE).await.unwrap());
    }
    invalid(service.finish(ALICE, &begun[0], |_| {}).await);
    service.finish(ALICE, &begun[1], |_| {}).await.unwrap();
    assert_eq!(world.servers.registrations(), 1, "the client is registered once");
}

pub(in crate::store) async fn another_servers_answer_is_refused<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    for issuer in ["https://other.example.com", "https://as.example.com/", ""] {
        let started = service.start(ALICE).await.unwrap();
        foreign(
            service
                .finish(ALICE, &started, |returned| returned.issuer = issuer.to_owned())
                .await,
        );
        invalid(service.finish(ALICE, &started, |_| {}).await);
    }
    let started = service.start(ALICE).await.unwrap();
    let denied = service.finish(ALICE, &started, |returned| {
        returned.error = "access_denied".to_owned();
        returned.error_description = "no\u{202e} thanks\n".to_owned();
    });
    let denied = denied.await.unwrap_err();
    assert_eq!(
        denied.to_string(),
        "the authorization server answered access_denied: no thanks"
    );
    assert!(matches!(denied, Error::AuthorizationDenied(_)));
    assert_eq!(
        world.servers.requests("authorization_code"),
        [],
        "no code was sent anywhere"
    );
    // A server that does not announce it may leave it out, but may not lie.
    world.servers.change_metadata(|metadata| metadata.sends_issuer = false);
    let started = service.start(ALICE).await.unwrap();
    foreign(
        service
            .finish(ALICE, &started, |returned| {
                returned.issuer = "https://other.example.com".to_owned()
            })
            .await,
    );
    // Then the answer of another is seen by where it comes to.
    for elsewhere in ["", "/of-another"] {
        let started = service.start(ALICE).await.unwrap();
        let to = format!("http://127.0.0.1:8080/oauth/callback{elsewhere}");
        foreign(service.finish(ALICE, &started, from_nobody(to)).await);
    }
    assert_eq!(world.servers.requests("authorization_code"), []);
    let started = service.start(ALICE).await.unwrap();
    let to = query(&started)["redirect_uri"].clone();
    service.finish(ALICE, &started, from_nobody(to)).await.unwrap();
}

pub(in crate::store) async fn a_server_that_cannot_be_used_is_refused<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let refused = async |who: &str| {
        let error = service.start(ALICE).await.unwrap_err();
        assert!(
            matches!(&error, Error::AuthorizationServerRefused(why) if why.contains(who)),
            "{error:?}"
        );
    };
    // Its own parameters stay, but those that are ours to set.
    world.servers.change_metadata(|metadata| {
        metadata.authorization_endpoint = format!("{ISSUER}/authorize?tenant=1&client_id=evil&scope=admin");
    });
    let started = service.start(ALICE).await.unwrap();
    assert!(started.url.starts_with(&format!(
        "{ISSUER}/authorize?tenant=1&response_type=code&client_id=registered-1&"
    )));
    assert_eq!(
        (
            started.url.matches("client_id=").count(),
            started.url.matches("scope=").count()
        ),
        (1, 1)
    );
    world.servers.change_metadata(|metadata| metadata.has_pkce = false);
    refused("PKCE").await;
    world.servers.change_metadata(|metadata| {
        metadata.has_pkce = true;
        metadata.authorization_endpoint = "javascript:alert(1)".to_owned();
    });
    refused("not a web address").await;
    world
        .servers
        .change_metadata(|metadata| metadata.authorization_endpoint.clear());
    refused("no authorization endpoint").await;
    world.servers.change_metadata(|metadata| {
        metadata.authorization_endpoint = format!("{ISSUER}/authorize");
        metadata.registration_endpoint.clear();
        metadata.takes_client_documents = true;
    });
    assert_eq!(world.servers.registrations(), 1);
    // The client that was registered before is still used. Another gateway needs another.
    service.start(ALICE).await.unwrap();
    let elsewhere = world.replica_at("http://gateway.internal/tools/").await;
    let error = elsewhere.start(ALICE).await.unwrap_err();
    assert!(
        error.to_string().contains(
            "an admin must register a client there with the redirect URI http://gateway.internal/tools/oauth/callback,"
        ),
        "{error}"
    );
    world.servers.change_metadata(|metadata| metadata.sends_issuer = false);
    let error = elsewhere.start(ALICE).await.unwrap_err();
    assert!(
        error.to_string().contains(&format!("/oauth/callback/{TAG},")),
        "{error}"
    );
    world.servers.change_metadata(|metadata| metadata.sends_issuer = true);
    // Its document is read over https.
    let public = world.replica_at("https://tools.example.com").await;
    let started = public.start(ALICE).await.unwrap();
    assert_eq!(
        query(&started)["client_id"],
        format!("https://tools.example.com/oauth/client/{TAG}.json")
    );
    public.finish(ALICE, &started, |_| {}).await.unwrap();
    assert_eq!(
        world.servers.requests("authorization_code")[0].client,
        format!("https://tools.example.com/oauth/client/{TAG}.json")
    );
}

pub(in crate::store) async fn the_upstream_says_where_to_sign_in<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let server = async |started: &Started| {
        let summary = service.finish(ALICE, started, |_| {}).await.unwrap();
        summary.connection.unwrap().issuer
    };
    let started = service.start(ALICE).await.unwrap();
    assert_eq!(server(&started).await, ISSUER, "the first that it names");
    world.servers.set_upstream(Some(Upstream {
        resource: "https://example.com".to_owned(),
        authorization_servers: vec!["https://other.example.com".to_owned()],
        scopes: Vec::new(),
    }));
    let started = service.start(ALICE).await.unwrap();
    assert_eq!(query(&started)["resource"], "https://example.com");
    assert_eq!(query(&started)["scope"], "offline_access");
    assert_eq!(server(&started).await, "https://other.example.com");
    // An upstream that says nothing has its server at its own origin.
    world.servers.set_upstream(None);
    let started = service.start(ALICE).await.unwrap();
    assert_eq!(query(&started)["resource"], "https://example.com/mcp");
    assert_eq!(server(&started).await, HOME);
    assert_eq!(world.servers.registrations(), 3, "a client belongs to one server");
}

pub(in crate::store) async fn the_entrys_client_is_used_with_its_secret<B: Bench>() {
    let named = SignIn {
        server: Some(Server::Issuer(ISSUER.to_owned())),
        client: Some(client()),
        scopes: vec!["write".to_owned()],
        ..sign_in()
    };
    let world = World::<B>::new(plan(Tokens::SignIn(named), Source::Stored)).await;
    let service = world.replica().await;
    service.put_entry(&[("secret", "canary-secret")]).await.unwrap();
    let started = service.start(ALICE).await.unwrap();
    assert_eq!(query(&started)["client_id"], "machine");
    assert_eq!(query(&started)["scope"], "offline_access write");
    service.finish(ALICE, &started, |_| {}).await.unwrap();
    assert_eq!(world.servers.requests("authorization_code")[0].secret, "canary-secret");
    // A secret that was replaced since is used for the next token.
    service.put_entry(&[("secret", "canary-newer")]).await.unwrap();
    service.advance(Duration::from_secs(3600));
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
    assert_eq!(world.servers.requests("refresh_token")[0].secret, "canary-newer");
    assert_eq!(world.servers.registrations(), 0);
}

pub(in crate::store) async fn clients_that_admins_registered_are_not_mixed_up<B: Bench>() {
    let named = SignIn {
        server: Some(Server::Issuer(ISSUER.to_owned())),
        client: Some(client()),
        ..sign_in()
    };
    let world = World::<B>::new(plan(Tokens::SignIn(named), Source::Stored)).await;
    let service = world.replica().await;
    service.put_entry(&[("secret", "canary-secret")]).await.unwrap();
    let shared = "http://127.0.0.1:8080/oauth/callback";
    // What a server answers that does not say who it is, and whose client has that redirect URI, too.
    let of_another = async |started: &Started| {
        foreign(service.finish(ALICE, started, from_nobody(shared.to_owned())).await);
    };
    let says_who_it_is = service.start(ALICE).await.unwrap();
    assert_eq!(query(&says_who_it_is)["redirect_uri"], shared);
    of_another(&says_who_it_is).await;
    // One that no longer says so when its sign-in is finished.
    let changed = service.start(ALICE).await.unwrap();
    world.servers.change_metadata(|metadata| metadata.sends_issuer = false);
    of_another(&changed).await;
    let does_not = service.start(ALICE).await.unwrap();
    assert_eq!(query(&does_not)["redirect_uri"], format!("{shared}/{TAG}"));
    of_another(&does_not).await;
    assert_eq!(world.servers.requests("authorization_code"), []);
    let started = service.start(ALICE).await.unwrap();
    let to = query(&started)["redirect_uri"].clone();
    service.finish(ALICE, &started, from_nobody(to)).await.unwrap();
}

pub(in crate::store) async fn a_code_that_is_not_accepted_connects_nothing<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    for (error, is) in [
        (
            refused("invalid_grant"),
            (|error| matches!(error, Error::AuthorizationDenied(_))) as fn(&Error) -> bool,
        ),
        (refused("invalid_client"), |error| {
            matches!(error, Error::AuthorizationServerRefused(_))
        }),
        (ServerError::Unavailable("down".to_owned()), |error| {
            matches!(error, Error::AuthorizationServerUnavailable(_))
        }),
        (ServerError::Unusable("a token of 3 GiB".to_owned()), |error| {
            matches!(error, Error::AuthorizationServerRefused(_))
        }),
    ] {
        let started = service.start(ALICE).await.unwrap();
        world.servers.script([Script::Fail(error)]);
        let error = service.finish(ALICE, &started, |_| {}).await.unwrap_err();
        assert!(is(&error), "{error:?}");
        invalid(service.finish(ALICE, &started, |_| {}).await);
    }
    // A client that its server does not know any more is registered again.
    service.start(ALICE).await.unwrap();
    assert_eq!(world.servers.registrations(), 2);
    // The store is unavailable when there are tokens: they cannot be issued again.
    let started = service.start(ALICE).await.unwrap();
    service.script([Step::Before(async {}.boxed()), Step::Refuse, Step::Lose]);
    let summary = service.finish(ALICE, &started, |_| {}).await.unwrap();
    assert_eq!(summary.generation, 1, "stored once");
    assert_eq!(service.token().await.unwrap(), bearer(1, 1));
}

pub(in crate::store) async fn another_account_replaces_the_first<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    // The same account: most servers have one grant for it, which ends with any of its tokens.
    service.connect().await;
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
    world.servers.set_account("bob@example.com");
    let summary = service.connect().await;
    assert_eq!(summary.connection.unwrap().account, "bob@example.com");
    assert_eq!(service.token().await.unwrap(), bearer(3, 3));
    let revoked = [
        (TokenKind::Refresh, "canary-refresh-2".to_owned()),
        (TokenKind::Access, "canary-access-2".to_owned()),
    ];
    assert_eq!(world.servers.revoked(2).await, revoked);
}

pub(in crate::store) async fn a_token_goes_where_it_is_for<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    world.replica().await.connect().await;
    for changed in [
        SignIn {
            upstream: Some("https://elsewhere.example.net/mcp".to_owned()),
            ..sign_in()
        },
        SignIn {
            resource: Resource::Given("https://example.com/other".to_owned()),
            ..sign_in()
        },
    ] {
        let service = world.replica_with(changed).await;
        let error = service.token().await.unwrap_err();
        assert!(error.to_string().contains("connect"), "{error}");
    }
}

pub(in crate::store) async fn a_server_never_learns_the_secret_of_a_client_of_another<B: Bench>() {
    let named = |server: &str, id: &str| SignIn {
        server: Some(Server::Issuer(server.to_owned())),
        client: Some(ClientPlan {
            id: ClientId::Given(id.to_owned()),
            ..client()
        }),
        ..sign_in()
    };
    for (server, id) in [("https://other.example.com", "machine"), (ISSUER, "another")] {
        let world = World::<B>::of_accounts().await;
        let before = world.replica_with(named(ISSUER, "machine")).await;
        before.put("a", &[("secret", "canary-secret")]).await.unwrap();
        before.connect().await;
        let after = world.replica_with(named(server, id)).await;
        after.put("a", &[("secret", "canary-of-another")]).await.unwrap();
        after.credentials.delete(after.subject("a")).await.unwrap();
        let Some((_, Value::Record(left))) = after.store().read(&owner("a")).await.unwrap() else {
            panic!("{server} {id}");
        };
        assert!(left.tokens.unrevoked.is_empty(), "{server} {id}");
        assert_eq!(world.servers.revoked(0).await, [], "{server} {id}");
    }
}
