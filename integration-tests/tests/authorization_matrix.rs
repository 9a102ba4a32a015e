//! Compares who may call what with a table: every RPC of all four services is called by every kind of caller
//! (`authorization_matrix/table.md`).
//!
//! The RPCs are read from the services' descriptors: the test fails for a new RPC until it has a row, and for a row
//! without an RPC.

#[path = "authorization_matrix/requests/mod.rs"]
mod requests;
#[path = "authorization_matrix/table.rs"]
mod table;
#[path = "authorization_matrix/world.rs"]
mod world;

use std::{collections::BTreeMap, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::StreamExt as _;
use integration_tests::caller::{help_links, reason};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::sync::oneshot;
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use requests::Request;
use table::Row;
use world::{Who, World};

const TABLE: &str = include_str!("authorization_matrix/table.md");

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_permits_whom_the_table_says() {
    let world = World::start().await;
    let rpcs = rpcs(&world);
    let rows = table::rows(TABLE);
    let mut faults = Vec::new();
    for (service, method) in rpcs.keys() {
        if !rows.iter().any(|row| row.service == *service && row.method == *method) {
            faults.push(format!(
                "{service}/{method} has no row: say in table.md who may call it"
            ));
        }
    }
    let wrong = futures::stream::iter(&rows).map(|row| fault(&world, row, &rpcs));
    // Only a few at a time, because each waits until what it has created is in force.
    faults.extend(
        wrong
            .buffered(4)
            .filter_map(std::future::ready)
            .collect::<Vec<_>>()
            .await,
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The difference between a row and what happens, if there is one.
async fn fault(world: &World, row: &Row, rpcs: &BTreeMap<(String, String), bool>) -> Option<String> {
    let Some(&stays_open) = rpcs.get(&(row.service.clone(), row.method.clone())) else {
        return Some(format!(
            "{}/{} is in the table, and there is no such RPC",
            row.service, row.method
        ));
    };
    let mut found = row.clone();
    for (who, outcome) in Who::ALL.into_iter().zip(&mut found.outcomes) {
        *outcome = call(world, row, who, stays_open).await;
    }
    (found != *row).then(|| format!("{}:\n  said  {}\n  found {}", row.service, row.line(), found.line()))
}

/// Every RPC that the services serve, and whether it streams requests.
fn rpcs(world: &World) -> BTreeMap<(String, String), bool> {
    let mut rpcs = BTreeMap::new();
    for descriptors in &world.descriptors {
        let set = FileDescriptorSet::decode(*descriptors).expect("reflection serves it");
        for file in set.file.iter().filter(|file| file.package().starts_with("chandlery.")) {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                assert!(
                    world.served.contains(&name.as_str()),
                    "{name} is described and not served"
                );
                for method in &service.method {
                    rpcs.insert((name.clone(), method.name().to_owned()), method.client_streaming());
                }
            }
        }
    }
    for service in &world.served {
        assert!(
            rpcs.keys().any(|(name, _)| name == service),
            "{service} is served and not described"
        );
    }
    rpcs
}

/// Makes one call, and returns its outcome.
async fn call(world: &World, row: &Row, who: Who, stays_open: bool) -> String {
    let service = row.service.rsplit('.').next().unwrap_or_default();
    let rpc = format!("{service}/{}", row.method);
    let Some(request) = requests::prepare(world, &rpc, &row.about, who).await else {
        return "no request".to_owned();
    };
    let path = format!("/{}/{}", row.service, row.method);
    match send(world, who, &path, request.message.clone(), stays_open).await {
        Ok(answer) => match &request.listed {
            Some(name) if !contains(&answer, name) => "unlisted".to_owned(),
            _ => "yes".to_owned(),
        },
        Err(status) => {
            let outcome = refusal(&status, &request);
            if outcome == "hidden" || (outcome == "no" && !request.visible) {
                let what = format!("{rpc} about {} by {}", row.about, who.name());
                as_if_it_did_not_exist(world, who, &path, &request, &status, &what, stays_open).await;
            }
            outcome
        }
    }
}

fn refusal(status: &Status, request: &Request) -> String {
    let reason = reason(status);
    match status.code() {
        _ if request.error_if_allowed == Some(reason.as_str()) => "yes".to_owned(),
        Code::Unauthenticated => "sign in".to_owned(),
        Code::PermissionDenied => "no".to_owned(),
        Code::NotFound => "hidden".to_owned(),
        Code::FailedPrecondition if !help_links(status).is_empty() => "install".to_owned(),
        code => format!("{code:?} {reason} {}", status.message()),
    }
}

/// Asserts that a caller who may not see a resource gets the same response as if it did not exist.
async fn as_if_it_did_not_exist(
    world: &World,
    who: Who,
    path: &str,
    request: &Request,
    hidden: &Status,
    what: &str,
    stays_open: bool,
) {
    let id = request
        .about
        .as_ref()
        .unwrap_or_else(|| panic!("{what}: hidden, but the request names no resource"));
    let other = another(id);
    let message = replace(&request.message, id, &other);
    let missing = send(world, who, path, message, stays_open).await.expect_err(what);
    assert_eq!(
        (
            hidden.code(),
            hidden.message().replace(id, &other),
            replace(hidden.details(), id, &other)
        ),
        (missing.code(), missing.message().to_owned(), missing.details().to_vec()),
        "{what}: the response reveals that the resource exists"
    );
}

/// An id of the same length and form that does not exist. It differs in the first letter of a slug, and in the last of
/// another id.
fn another(id: &str) -> String {
    let is_slug = id.len() < 26;
    if is_slug {
        return format!("x{}", &id[1..]);
    }
    let (rest, last) = id.split_at(id.len() - 1);
    format!("{rest}{}", if last == "a" { "b" } else { "a" })
}

/// Replaces an id by another of the same length, so that the message stays valid.
fn replace(bytes: &[u8], id: &str, other: &str) -> Vec<u8> {
    let mut replaced = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = replaced[at..]
        .windows(id.len())
        .position(|window| window == id.as_bytes())
    {
        replaced[at + found..][..id.len()].copy_from_slice(other.as_bytes());
        at += found + id.len();
    }
    replaced
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Sends one message, and waits for the first response or the end.
async fn send(world: &World, who: Who, path: &str, message: Vec<u8>, stays_open: bool) -> Result<Bytes, Status> {
    let (channel, token) = world.connection(who);
    // A watcher that closes its side leaves properly, so that no write waits for it.
    let (close, closed) = oneshot::channel::<()>();
    let open = futures::stream::once(async move {
        if stays_open {
            let _dropped = closed.await;
        }
        None
    });
    let messages = futures::stream::iter([Some(message)])
        .chain(open)
        .filter_map(std::future::ready);
    let mut request = tonic::Request::new(messages);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = path.parse().expect("a path");
    let answer = async {
        let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
        Ok(answers.message().await?.unwrap_or_default())
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
    drop(close);
    answer.unwrap_or_else(|_| Err(Status::unknown("no answer in 60 s")))
}

/// A codec of encoded messages.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = message.remaining();
        Ok(Some(message.copy_to_bytes(length)))
    }
}
