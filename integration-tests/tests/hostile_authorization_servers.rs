//! Alice's mail server names an authorization server that is hostile. She is told whose fault it is and what to do, nothing is kept, no code
//! and no token goes anywhere else, and the calls of her calendar go on, whose authorization server is an honest one.

#[path = "hostile_authorization_servers/journey.rs"]
mod journey;

use futures::FutureExt as _;
use integration_tests::{
    caller::reason,
    eventually,
    hostile_authorization_server::{Behaviour, MixUp},
    plain_browser::Browser,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::Code;
use url::Url;

use journey::{Expected, Journey, connect, create, leave, publish, redirected};

const REFUSED: &str = "AUTHORIZATION_SERVER_REFUSED";
const STATE_INVALID: &str = "AUTHORIZATION_STATE_INVALID";
const AN_ADMIN: &str = "An admin must change the entry or the authorization server";

fn with_metadata(metadata: Value) -> Behaviour {
    Behaviour {
        metadata,
        ..Behaviour::default()
    }
}

fn issuing(tokens: Value) -> Behaviour {
    Behaviour {
        tokens,
        ..Behaviour::default()
    }
}

fn coming_back_as(iss: Value) -> Behaviour {
    Behaviour {
        iss: Some(iss),
        ..Behaviour::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_another_server_or_without_pkce_is_not_used() {
    let mut journey = Journey::start().await;
    let another = with_metadata(json!({"issuer": "https://bank.example.com"}));
    let honest = with_metadata(json!({"issuer": journey.calendar.server.issuer()}));
    let without = with_metadata(json!({"code_challenge_methods_supported": null}));
    let plain = with_metadata(json!({"code_challenge_methods_supported": ["plain"]}));
    for (id, behaviour, part) in [
        (
            "another-issuer",
            another,
            "names another issuer: \"https://bank.example.com\"",
        ),
        ("honest-issuer", honest, "names another issuer"),
        ("no-pkce", without, "does not say that it supports PKCE with S256"),
        ("plain-pkce", plain, "does not say that it supports PKCE with S256"),
    ] {
        let site = publish(&journey.stack, id, behaviour).await;
        let expected = Expected {
            code: Code::FailedPrecondition,
            reason: REFUSED,
            page: &["The authorization server cannot be used", part, AN_ADMIN],
        };
        journey.is_refused(&site, &expected).await;
        assert!(site.server.asked("/authorize").is_empty() && site.server.asked("/register").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_leads_to_no_script_and_to_no_private_address() {
    let mut journey = Journey::start().await;
    let inside = TcpListener::bind("127.0.0.2:0")
        .await
        .expect("all of 127.0.0.0/8 is here");
    let private = format!("https://{}/", inside.local_addr().expect("it is bound"));
    let no_page = "http or https";
    let not_allowed = "--allow-upstream-cidr";
    let endpoint = |name: &str, url: &str| with_metadata(json!({ name: url }));
    let redirecting = Behaviour {
        metadata_at: Some(private.clone()),
        ..Behaviour::default()
    };
    for (id, behaviour, part) in [
        (
            "script",
            endpoint("authorization_endpoint", "javascript:alert(1)//"),
            no_page,
        ),
        (
            "data",
            endpoint("authorization_endpoint", "data:text/html,<script>"),
            no_page,
        ),
        (
            "file",
            endpoint("authorization_endpoint", "file:///etc/passwd"),
            no_page,
        ),
        ("program", endpoint("authorization_endpoint", "vscode://x/y"), no_page),
        (
            "in-the-clear",
            endpoint("authorization_endpoint", "http://8.8.8.8/"),
            "must be https",
        ),
        ("page-inside", endpoint("authorization_endpoint", &private), not_allowed),
        ("tokens-inside", endpoint("token_endpoint", &private), not_allowed),
        (
            "clients-inside",
            endpoint("registration_endpoint", &private),
            not_allowed,
        ),
        (
            "redirects-inside",
            redirecting,
            "has no metadata of an authorization server",
        ),
    ] {
        let site = publish(&journey.stack, id, behaviour).await;
        let expected = Expected {
            code: Code::FailedPrecondition,
            reason: REFUSED,
            page: &["The authorization server cannot be used", part, AN_ADMIN],
        };
        journey.is_refused(&site, &expected).await;
        assert!(site.server.asked("/authorize").is_empty() && site.server.asked("/token").is_empty());
    }
    assert!(inside.accept().now_or_never().is_none(), "somebody connected to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_another_server_goes_nowhere() {
    let mut journey = Journey::start().await;
    let honest = journey.calendar.server.issuer().to_owned();
    let before = journey.calendar.server.asked("/token").len();
    for (id, behaviour) in [
        ("foreign-iss", coming_back_as(json!(honest))),
        ("made-up-iss", coming_back_as(json!("https://bank.example.com"))),
        ("no-iss", coming_back_as(Value::Null)),
    ] {
        let site = publish(&journey.stack, id, behaviour).await;
        let expected = Expected {
            code: Code::FailedPrecondition,
            reason: STATE_INVALID,
            page: &[
                "another authorization server than the one you were sent to",
                "Connect again.",
            ],
        };
        journey.is_refused(&site, &expected).await;
        assert!(site.server.asked("/token").is_empty(), "{id}: a code was sent");
    }
    assert_eq!(journey.calendar.server.asked("/token").len(), before);
}

/// A hostile server sends Alice on to the honest one, which does not ask her again: as Chandlery's client there, and with the `state` of the
/// sign-in at the hostile one, so that the honest server's code is sent to the hostile one.
#[tokio::test(flavor = "multi_thread")]
async fn a_mix_up_is_seen_whether_or_not_servers_say_who_they_are() {
    let mut journey = Journey::start().await;
    let honest = &journey.calendar.server;
    let genuine = honest.asked("/authorize")[0].parameters.clone();
    let before = honest.asked("/token").len();
    let behaviour = Behaviour {
        metadata: json!({"authorization_response_iss_parameter_supported": null}),
        mixes_up: Some(MixUp {
            page: format!("{}/authorize", honest.issuer()),
            client: genuine["client_id"].clone(),
            redirect_uri: genuine["redirect_uri"].clone(),
        }),
        ..Behaviour::default()
    };
    for (id, iss) in [("mix-up", json!(honest.issuer())), ("silent-mix-up", Value::Null)] {
        journey.calendar.server.behave(coming_back_as(iss));
        let site = publish(&journey.stack, id, behaviour.clone()).await;
        let installation = create(&journey.alice, &site).await;
        let text = journey.opens(&site, &installation).await.text();
        for part in [
            "another authorization server than the one you were sent to",
            "Connect again.",
            "Nothing was changed.",
        ] {
            assert!(text.contains(part), "{id}: {part} in {text}");
        }
        assert!(site.server.asked("/token").is_empty(), "{id}: a code was sent");
        journey.kept_nothing(&site, &installation).await;
    }
    assert_eq!(journey.calendar.server.asked("/authorize").len(), 3, "she was there");
    assert_eq!(journey.calendar.server.asked("/token").len(), before);
    journey.others_go_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_absurd_size_are_not_kept() {
    let mut journey = Journey::start().await;
    let huge = "x".repeat(1 << 20);
    let large = "x".repeat(20 << 10);
    for (id, tokens, part) in [
        ("huge", json!({"access_token": huge}), "more than 64 KiB"),
        ("large", json!({"access_token": large}), "longer than 16 KiB"),
        ("large-refresh", json!({"refresh_token": large}), "longer than 16 KiB"),
        (
            "a-line-more",
            json!({"access_token": "a\r\nx-evil: 1"}),
            "characters that no token has",
        ),
        ("not-bearer", json!({"token_type": "DPoP"}), "not a Bearer token"),
        (
            "no-token",
            json!({"access_token": null}),
            "neither a token nor an error",
        ),
    ] {
        let site = publish(&journey.stack, id, issuing(tokens)).await;
        let expected = Expected {
            code: Code::FailedPrecondition,
            reason: REFUSED,
            page: &["The authorization server cannot be used", part, AN_ADMIN],
        };
        journey.is_refused(&site, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_sensible_end_serves() {
    let journey = Journey::start().await;
    for (id, expires_in) in [
        ("never", Value::Null),
        ("ended", json!(-1)),
        ("long-ended", json!(-1e300)),
        ("for-ever", json!(1e300)),
    ] {
        let site = publish(&journey.stack, id, issuing(json!({"expires_in": expires_in}))).await;
        let installation = create(&journey.alice, &site).await;
        let connected = connect(&journey.alice, &installation).await.expect("it is connected");
        let connection = connected.connection.expect("an account");
        assert_eq!(
            connection.expire_time.is_none(),
            expires_in.is_null(),
            "{id}: {connection:?}"
        );
        journey.alice.until_ready(&installation).await;
        journey.stack.admin().assign("team", id, "echo").await;
        let before = site.server.asked("/token").len();
        for _ in 0..20 {
            let answer = journey
                .client
                .call_text(&format!("{id}__echo"), json!({"text": "x"}))
                .await;
            assert_eq!(answer, "x");
        }
        // Not one for each call.
        let renewed = site.server.asked("/token").len() - before;
        assert!(renewed < 10, "{id}: {renewed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_trickles_slows_nobody_else() {
    let mut journey = Journey::start().await;
    let site = publish(&journey.stack, "mail", Behaviour::default()).await;
    let installation = create(&journey.alice, &site).await;
    connect(&journey.alice, &installation).await.expect("still honest");
    journey.alice.until_ready(&installation).await;
    journey.stack.admin().assign("team", "mail", "echo").await;
    let trickling = Behaviour {
        trickles: vec!["/token"],
        ..Behaviour::default()
    };
    site.server.behave(trickling);

    // A call whose token is renewed, and a sign-in of somebody else.
    let client = journey.stack.mcp("team", &journey.alice).await;
    assert_eq!(client.call_text("mail__echo", json!({"text": "x"})).await, "x");
    site.upstream.refuse_known_tokens();
    let before = site.server.asked("/token").len();
    let call = tokio::spawn(async move { client.call("mail__echo", json!({"text": "x"})).await });
    let bob = journey.stack.member("bob");
    let bobs = create(&bob, &site).await;
    let person = bob.clone();
    let sign_in = tokio::spawn(async move { connect(&person, &bobs).await });
    eventually("both ask for tokens", || async {
        (site.server.asked("/token").len() == before + 2).then_some(())
    })
    .await;
    for _ in 0..20 {
        journey.others_go_on().await;
    }
    assert!(!call.is_finished() && !sign_in.is_finished(), "they still wait");

    let status = sign_in.await.expect("no panic").expect_err("it is too slow");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "AUTHORIZATION_SERVER_UNAVAILABLE"),
        "{status:?}"
    );
    assert!(status.message().contains("did not answer") && status.message().contains("retry later"));
    let answer = call.await.expect("no panic");
    let content = &answer["result"];
    assert_eq!(
        content["structuredContent"]["error"], "authorization_server_unavailable",
        "{answer}"
    );
    let text = content["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains("Neither") && text.contains("Try again"), "{text}");
    // Alice's account is still connected, and her call works when the server has come to its senses.
    let kept = journey.alice.credential(&installation).await.connection;
    assert!(kept.is_some_and(|kept| kept.failure.is_empty()));
    let page = journey.opens(&site, &installation).await;
    let text = page.text();
    for part in [
        "The authorization server does not answer",
        "Neither you nor Chandlery is at fault",
        "Connect again in a moment",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // So do others whose authorization server gives its metadata like that.
    let slow = Behaviour {
        trickles: vec!["/.well-known/oauth-authorization-server"],
        ..Behaviour::default()
    };
    let slow = publish(&journey.stack, "slow", slow).await;
    let bobs = create(&bob, &slow).await;
    let sign_in = tokio::spawn(async move { redirected(&bob, &bobs).await });
    eventually("its metadata is asked for", || async {
        let asked = slow.server.asked("/.well-known/oauth-authorization-server");
        (!asked.is_empty()).then_some(())
    })
    .await;
    journey.others_go_on().await;
    assert!(!sign_in.is_finished(), "it still waits");
    let status = sign_in.await.expect("no panic").expect_err("it is too slow");
    assert_eq!(reason(&status), "AUTHORIZATION_SERVER_UNAVAILABLE", "{status:?}");

    site.server.behave(Behaviour::default());
    eventually("calls succeed again", || async {
        let answer = journey.client.call("mail__echo", json!({"text": "x"})).await;
        (answer["result"]["isError"] != true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_and_a_state_serve_once() {
    let journey = Journey::start().await;
    let site = publish(&journey.stack, "mail", Behaviour::default()).await;
    let installation = create(&journey.alice, &site).await;
    let first = redirected(&journey.alice, &installation).await.expect("it starts");
    journey
        .alice
        .finish_authorization(&first)
        .await
        .expect("it is finished");
    let asked = site.server.asked("/token").len();

    // The same answer again, and its state with another code.
    let parameter = |url: &str, name: &str| {
        let url = Url::parse(url).expect("a URL");
        let found = url.query_pairs().find(|(key, _)| key == name);
        found.expect("it is there").1.into_owned()
    };
    let with_code = first.replace(&parameter(&first, "code"), "hostile-code-of-mallory");
    for replayed in [&first, &with_code] {
        let status = journey
            .alice
            .finish_authorization(replayed)
            .await
            .expect_err("it was used");
        assert_eq!(reason(&status), STATE_INVALID, "{status:?}");
        assert!(status.message().contains("connect the account again"), "{status:?}");
    }
    assert_eq!(site.server.asked("/token").len(), asked, "nothing was sent");

    // The code again, with a new state: its server knows it no more.
    let second = redirected(&journey.alice, &installation).await.expect("it starts");
    let replayed = second.replace(&parameter(&second, "code"), &parameter(&first, "code"));
    let status = journey
        .alice
        .finish_authorization(&replayed)
        .await
        .expect_err("it was used");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "AUTHORIZATION_DENIED"),
        "{status:?}"
    );
    assert!(
        status
            .message()
            .contains("nothing was connected; connect the account again")
    );
    let kept = journey.alice.credential(&installation).await.connection;
    assert!(kept.is_some_and(|kept| kept.account.is_empty() && kept.failure.is_empty()));
    journey.others_go_on().await;
}

/// Mallory sends Alice a link with which her browser would connect Mallory's account, and Alice's answer falls into Mallory's hands.
#[tokio::test(flavor = "multi_thread")]
async fn another_persons_browser_finishes_nothing() {
    let mut journey = Journey::start().await;
    let site = publish(&journey.stack, "mail", Behaviour::default()).await;
    let (mallory, mut browser) = (
        journey.stack.member("mallory"),
        Browser::signed_in(&journey.stack, "mallory").await,
    );
    let (of_alice, of_mallory) = (create(&journey.alice, &site).await, create(&mallory, &site).await);
    let asked = site.server.asked("/token").len();
    let foreign = [
        "This sign-in does not belong to this browser",
        "connect again",
        "Nothing was changed.",
    ];

    // What Mallory's browser would be redirected to is opened in Alice's, who is signed in, and the other way round.
    let mallorys = leave(&journey.stack, &mut browser, &site, &of_mallory, false).await;
    let alices = leave(&journey.stack, &mut journey.browser, &site, &of_alice, false).await;
    for (victim, page) in [(&mut journey.browser, mallorys), (&mut browser, alices)] {
        let page = victim.get(page.refresh.as_deref().expect("it leaves")).await;
        let text = page.text();
        for part in foreign {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    // Nor by gRPC, with a token of their own.
    for (owner, other, installation) in [
        (&mallory, &journey.alice, &of_mallory),
        (&journey.alice, &mallory, &of_alice),
    ] {
        let redirected = redirected(owner, installation).await.expect("it starts");
        let status = other
            .finish_authorization(&redirected)
            .await
            .expect_err("it is another's");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, STATE_INVALID),
            "{status:?}"
        );
        assert!(status.message().contains("begun by somebody else"), "{status:?}");
    }
    assert_eq!(site.server.asked("/token").len(), asked, "no code was sent");
    journey.kept_nothing(&site, &of_alice).await;
    assert!(mallory.credential(&of_mallory).await.connection.is_none());
    journey.others_go_on().await;
}
