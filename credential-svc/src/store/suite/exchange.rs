//! Callers' tokens are exchanged.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use data_encoding::BASE64URL_NOPAD;
use pretty_assertions::{assert_eq, assert_ne};
use serde_json::json;

use super::{
    Bench,
    accounts::{World, client, plan},
    service::Service,
};
use crate::domain::{
    authorization::{
        asked::Asked,
        exchange::Caller,
        fake::{ISSUER, Script},
        plan::{Exchange, Flow, Server, Source as Tokens},
        servers::ServerError,
    },
    error::Error,
    owner::Source,
};

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

fn asked(subject: &str) -> Asked {
    asked_with(subject, "canary-caller-token")
}

fn asked_with(subject: &str, token: &str) -> Asked {
    let caller = Caller {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        audiences: Vec::new(),
        expire_time: SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000),
        token: token.into(),
        is_id_token: false,
    };
    Asked {
        caller: Some(caller),
        ..Asked::default()
    }
}

/// The service of an entry that exchanges tokens, with the secret of its client.
async fn exchanging<B: Bench>() -> (World<B>, Arc<Service<B::Store>>) {
    let exchange = Tokens::Exchange(Exchange {
        server: Server::Issuer(ISSUER.to_owned()),
        client: client(),
        scopes: Vec::new(),
        flow: Flow::Exchange {
            audience: String::new(),
            resource: String::new(),
            requested_token_type: String::new(),
            subject_token_type: String::new(),
        },
    });
    let world = World::<B>::new(plan(exchange, Source::Prompted)).await;
    let service = world.replica().await;
    service.put("a", &[("secret", "canary-secret")]).await.unwrap();
    (world, service)
}

pub(in crate::store) async fn a_server_that_is_away_is_not_asked_by_each_call<B: Bench>() {
    let (world, service) = exchanging::<B>().await;
    let (bearer, _) = service.call(asked("alice")).await.unwrap();
    world
        .servers
        .script([Script::Fail(ServerError::Unavailable("it is away".to_owned()))]);
    for _ in 0..5 {
        let error = service.call(asked("bob")).await.unwrap_err();
        assert!(
            matches!(&error, Error::AuthorizationServerUnavailable(why) if why == "it is away"),
            "{error:?}"
        );
    }
    assert_eq!(world.servers.requests(TOKEN_EXCHANGE).len(), 2);
    assert_eq!(
        service.call(asked("alice")).await.unwrap().0,
        bearer,
        "whoever has a token goes on"
    );
    service.advance(Duration::from_secs(1));
    service.call(asked("bob")).await.unwrap();
    assert_eq!(world.servers.requests(TOKEN_EXCHANGE).len(), 3);
    world.servers.script([Script::Fail(ServerError::Busy {
        why: "it has too much to do".to_owned(),
        pause: Duration::from_secs(120),
    })]);
    for _ in 0..2 {
        service.call(asked("carol")).await.unwrap_err();
        service.advance(Duration::from_secs(60));
    }
    assert_eq!(world.servers.requests(TOKEN_EXCHANGE).len(), 4);
    service.call(asked("carol")).await.unwrap();
    world
        .servers
        .script([Script::Fail(ServerError::Full("many wait".to_owned()))]);
    let error = service.call(asked("dave")).await.unwrap_err();
    assert!(matches!(error, Error::AuthorizationServerBusy(_)), "{error:?}");
    service.call(asked("dave")).await.unwrap();
}

/// Whoever calls with a token at which the server fails would stop a whole team.
pub(in crate::store) async fn what_fails_for_one_caller_concerns_no_other<B: Bench>() {
    let (world, service) = exchanging::<B>().await;
    let fails = [
        ServerError::Unavailable("it answered with status 500".to_owned()),
        ServerError::Busy {
            why: "it answered with status 429".to_owned(),
            pause: Duration::from_secs(120),
        },
    ];
    for (number, error) in fails.into_iter().enumerate() {
        let (mallory, bob) = (format!("mallory-{number}"), format!("bob-{number}"));
        world.servers.script([Script::Fail(error.clone())]);
        for _ in 0..2 {
            let told = service.call(asked(&mallory)).await.unwrap_err();
            assert_eq!(told.to_string(), error.to_string());
        }
        service.call(asked(&bob)).await.unwrap();
    }
    assert_eq!(world.servers.requests(TOKEN_EXCHANGE).len(), 4);
    let away = ServerError::Unreachable("nobody can connect to it".to_owned());
    world.servers.script([Script::Fail(away)]);
    for subject in ["carol", "dave"] {
        service.call(asked(subject)).await.unwrap_err();
    }
    assert_eq!(world.servers.requests(TOKEN_EXCHANGE).len(), 5, "that concerns all");
}

pub(in crate::store) async fn an_upstream_that_rejects_every_token_causes_few_exchanges<B: Bench>() {
    let (world, service) = exchanging::<B>().await;
    let rejected = |subject, number| Asked {
        rejected_token: number,
        ..asked(subject)
    };
    let (_, first) = service.call(asked("alice")).await.unwrap();
    let (_, second) = service.call(rejected("alice", first)).await.unwrap();
    for _ in 0..20 {
        assert_eq!(service.call(asked("alice")).await.unwrap().1, second);
        let error = service.call(rejected("alice", second)).await.unwrap_err();
        let condition = "TOKEN_REJECTED";
        assert!(
            matches!(&error, Error::Unusable { condition: told, .. } if *told == condition),
            "{error:?}"
        );
    }
    assert_eq!(
        service.call(rejected("alice", first)).await.unwrap().1,
        second,
        "it was replaced already"
    );
    assert_eq!(world.servers.requests(TOKEN_EXCHANGE).len(), 2);
    let (_, of_bob) = service.call(asked("bob")).await.unwrap();
    service.call(rejected("bob", of_bob)).await.unwrap();
    service.advance(Duration::from_secs(31));
    let (_, third) = service.call(rejected("alice", second)).await.unwrap();
    assert_ne!(third, second, "later it may help");
}

/// A client that a person allowed to read only must not get what another one may do for them.
pub(in crate::store) async fn a_token_that_may_do_less_is_exchanged_by_itself<B: Bench>() {
    let (world, service) = exchanging::<B>().await;
    let token = |scope: &str, id: u8| {
        let claims = json!({ "iss": ISSUER, "sub": "alice", "scope": scope, "jti": id });
        let claims = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
        asked_with("alice", &format!("e30.{claims}.c2ln"))
    };
    let broad = service.call(token("read write", 1)).await.unwrap();
    let narrow = service.call(token("read", 2)).await.unwrap();
    assert_ne!(narrow, broad);
    for id in 3..6 {
        assert_eq!(service.call(token("read write", id)).await.unwrap(), broad);
        assert_eq!(service.call(token("read", id)).await.unwrap(), narrow);
    }
    assert_eq!(world.servers.requests(TOKEN_EXCHANGE).len(), 2);
}
