//! Many people, each with a token and a session.

use std::{fs, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, StatusCode};
use integration_tests::Stack;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::gateway::Many;
use crate::client::{Client, headers, message};

/// How many people there are.
pub(crate) const COUNT: usize = 10_000;
/// How many sessions are begun at the same time.
const CONNECTIONS: usize = 16;

/// Begins a session for each of them, makes one call in it, and returns the headers of its further requests.
pub(crate) async fn sessions(stack: &Stack, many: &Many) -> Arc<[HeaderMap]> {
    let tokens = tokens(stack);
    let mut opening = JoinSet::new();
    for some in tokens.chunks(COUNT.div_ceil(CONNECTIONS)) {
        let (some, address, path) = (some.to_vec(), stack.http().to_owned(), many.path.clone());
        let call = message(1, "tools/call", &json!({"name": many.tools[0], "arguments": {}}));
        opening.spawn(async move {
            let mut client = Client::connect(&address).await;
            let mut sessions = Vec::new();
            for token in some {
                let session = client.initialize(&path, &headers(&address, Some(&token))).await;
                let answer = client.post(&path, &session, call.clone()).await;
                assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
                sessions.push(session);
            }
            sessions
        });
    }
    opening.join_all().await.into_iter().flatten().collect()
}

/// A token of each of them. The program's `token` command makes one at a time, which would take minutes: it makes the first, and the others are
/// the same but for the person.
fn tokens(stack: &Stack) -> Vec<String> {
    let first = stack.token("principal@example.com", &[], false);
    let Header { kid, alg, typ, .. } = jsonwebtoken::decode_header(&first).expect("a JWT");
    let header = Header {
        kid,
        typ,
        ..Header::new(alg)
    };
    let claims = first.split('.').nth(1).expect("a JWT has three parts");
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).expect("base64url");
    let mut claims: Value = serde_json::from_slice(&claims).expect("an object");
    let key = fs::read(stack.data_dir().join("dev-issuer.key")).expect("it has issued a token");
    let key = EncodingKey::from_ec_der(&key);
    (0..COUNT)
        .map(|number| {
            let email = format!("principal-{number}@example.com");
            claims["sub"] = json!(email);
            claims["email"] = json!(email);
            claims["name"] = json!(format!("Principal-{number}"));
            claims["jti"] = json!(uuid::Uuid::new_v4().to_string());
            jsonwebtoken::encode(&header, &claims, &key).expect("a key for ES256")
        })
        .collect()
}
