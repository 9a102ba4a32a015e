//! Gateway tokens: created, shown and revoked by their owners.

use contracts::registry::{
    CreateGatewayTokenRequest, CreateGatewayTokenResponse, GatewayToken, ListGatewayTokensRequest,
    ListGatewayTokensResponse, WatchedGatewayToken, gateway_token::Subject,
};
use data_encoding::BASE32_NOPAD;
use service_kit::{identity::GATEWAY_TOKEN, status::Violations};
use sha2::{Digest as _, Sha256};

use super::{Done, Registry, consumers, creation::Creation, slug_in, uid_in, unchanged, written};
use crate::{
    domain::{
        Caller, Error, consumer::ConsumerKind, installation::require_team_manager, new_uid, text::check_line,
        time::timestamp,
    },
    store::{
        Object, Tx,
        gateway_tokens::{self, Owner, Token},
        teams, users,
    },
};

const MAX_NAME: usize = 120;
const MAX_CONSUMERS: usize = 64;
/// The last second of a `google.protobuf.Timestamp`: of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// Creates a token. Only this answer contains its text.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateGatewayTokenRequest,
) -> Result<Done<CreateGatewayTokenResponse>, Error> {
    // The token of a program, of a CI job for example, lasts for minutes. Whoever gets hold of it must not make one of it that lasts.
    if caller.machine {
        return Err(Error::Denied {
            what: "a program has no gateway tokens: it calls with the tokens of its identity provider, or a person who may manage its team creates one for the team".to_owned(),
            required: "person",
        });
    }
    let without_id = CreateGatewayTokenRequest {
        request_id: String::new(),
        ..request.clone()
    };
    let mut creation = Creation::new(caller, "CreateGatewayToken", &request.request_id, &[], &without_id);
    let now = registry.clock.now_micros();
    let consumers = request.gateway_token.iter().flat_map(|token| &token.consumers);
    for (index, name) in consumers.take(MAX_CONSUMERS).enumerate() {
        let field = format!("gateway_token.consumers[{index}]");
        creation.require_name(ConsumerKind::of(name).collection(), &field, name);
    }
    if let Some(Subject::Team(name)) = request.gateway_token.as_ref().and_then(|token| token.subject.as_ref()) {
        creation.require_name("teams", "gateway_token.team", name);
    }
    let asked = creation.parse("gateway_token", request.gateway_token, |token| {
        check(&token, now).map(|expire_time| (token, expire_time))
    });
    let ((asked, expire_time), retry) = creation.finish(asked)?;
    let mut tx = registry.write(caller.actor()).await?;
    if let Some(replay) = retry.replayed::<CreateGatewayTokenResponse>(&mut tx).await? {
        let token = managed(&mut tx, caller, &replay.resource_uid).await?;
        let revision = token.registry_revision();
        return unchanged(registry, tx, Object::GatewayToken, revision, replay.answer).await;
    }
    let subject = subject(&mut tx, caller, asked.subject).await?;
    let limits = limits(&mut tx, caller, asked.consumers).await?;
    let secret: [u8; 32] = service_kit::random::bytes();
    let token = format!("{GATEWAY_TOKEN}{}", BASE32_NOPAD.encode(&secret).to_ascii_lowercase());
    let uid = new_uid();
    let gateway_token = GatewayToken {
        name: format!("gatewayTokens/{uid}"),
        display_name: asked.display_name,
        subject: Some(subject.named),
        consumers: limits.names,
        expire_time: expire_time.map(timestamp),
        create_time: Some(timestamp(tx.now())),
        creator: caller.name(),
        ..GatewayToken::default()
    };
    let mut watched = WatchedGatewayToken {
        gateway_token: Some(gateway_token),
        token_hash: Sha256::digest(&token).to_vec(),
        issuer: subject.issuer,
        subject: subject.subject,
    };
    gateway_tokens::insert(&mut tx, &uid, &subject.owner, &mut watched, &limits.uids).await?;
    let without_text = CreateGatewayTokenResponse {
        gateway_token: watched.gateway_token,
        token: String::new(),
    };
    retry.made(&mut tx, &uid, &without_text).await?;
    let answer = CreateGatewayTokenResponse { token, ..without_text };
    Ok((answer, registry.commit(tx, None).await?))
}

/// Reads a token that is the caller's to manage.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<GatewayToken, Error> {
    let mut tx = registry.db.read().await?;
    let uid = uid_in("gatewayTokens", "name", name)?;
    Ok(managed(&mut tx, caller, uid).await?.message())
}

/// Lists those tokens.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListGatewayTokensRequest,
) -> Result<ListGatewayTokensResponse, Error> {
    let binding = format!("ListGatewayTokens {} {}", caller.uid, caller.admin);
    let page = registry.page(binding, request.page_size, &request.page_token)?;
    let mut tx = registry.db.read().await?;
    let list = gateway_tokens::list(caller);
    let (gateway_tokens, next_page_token) = page.of(&mut tx, &list, gateway_tokens::listed).await?;
    Ok(ListGatewayTokensResponse {
        gateway_tokens,
        next_page_token,
    })
}

/// Revokes a token.
pub(crate) async fn revoke(registry: &Registry, caller: &Caller, name: &str) -> Result<Done<GatewayToken>, Error> {
    let mut tx = registry.write(caller.actor()).await?;
    let uid = uid_in("gatewayTokens", "name", name)?;
    let mut token = managed(&mut tx, caller, uid).await?;
    if token.is_revoked() {
        let revision = token.registry_revision();
        return unchanged(registry, tx, Object::GatewayToken, revision, token.message()).await;
    }
    gateway_tokens::revoke(&mut tx, uid, &mut token.watched).await?;
    Ok((token.message(), registry.commit(tx, None).await?))
}

/// Checks what needs no look-up; the time at which it expires, in microseconds since 1970.
fn check(wanted: &GatewayToken, now: i64) -> Result<Option<i64>, Violations> {
    let mut violations = Violations::new();
    if wanted.display_name.is_empty() {
        violations.add("gateway_token.display_name", "must say what the token is for");
    }
    check_line(
        &mut violations,
        "gateway_token.display_name",
        &wanted.display_name,
        MAX_NAME,
    );
    if wanted.consumers.len() > MAX_CONSUMERS {
        violations.add(
            "gateway_token.consumers",
            format!("must have at most {MAX_CONSUMERS} elements"),
        );
    }
    let Some(time) = wanted.expire_time else {
        return violations.into_result(None);
    };
    if !(0..=LAST_SECOND).contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        violations.add(
            "gateway_token.expire_time",
            "must be a time up to the end of the year 9999",
        );
        return Err(violations);
    }
    let micros = time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000;
    if micros <= now {
        violations.add("gateway_token.expire_time", "must be in the future");
    }
    violations.into_result(Some(micros))
}

/// Who calls with a token.
struct Bound {
    owner: Owner,
    named: Subject,
    /// `iss` and `sub` of a user.
    issuer: String,
    subject: String,
}

async fn subject(tx: &mut Tx, caller: &Caller, wanted: Option<Subject>) -> Result<Bound, Error> {
    match wanted {
        Some(Subject::User(name)) if name != "users/me" && name != caller.name() => Err(Error::invalid(
            "gateway_token.user",
            "must be yourself: users/me. Only you can make a token that calls as you",
        )),
        None | Some(Subject::User(_)) => {
            let user = written(users::find(tx, &caller.uid).await?)?;
            Ok(Bound {
                owner: Owner::User(user.uid),
                named: Subject::User(caller.name()),
                issuer: user.issuer,
                subject: user.subject,
            })
        }
        Some(Subject::Team(name)) => {
            let slug = slug_in("teams", "gateway_token.team", &name)?;
            let uid = teams::uid(tx, slug)
                .await?
                .filter(|uid| caller.admin || caller.team(uid).is_some())
                .ok_or_else(|| Error::NotFound(name.clone()))?;
            require_team_manager(caller, &name)?;
            Ok(Bound {
                owner: Owner::Team(uid),
                named: Subject::Team(name),
                issuer: String::new(),
                subject: String::new(),
            })
        }
    }
}

/// The gateways and agents where a token works; nothing: everywhere.
struct Limits {
    names: Vec<String>,
    uids: Vec<String>,
}

async fn limits(tx: &mut Tx, caller: &Caller, mut names: Vec<String>) -> Result<Limits, Error> {
    let mut uids = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let field = format!("gateway_token.consumers[{index}]");
        let kind = ConsumerKind::of(name);
        uids.push(consumers::visible(tx, caller, kind, &field, name).await?.uid);
    }
    names.sort();
    names.dedup();
    Ok(Limits { names, uids })
}

fn manages(caller: &Caller, owner: &Owner) -> bool {
    caller.admin
        || match owner {
            Owner::User(uid) => *uid == caller.uid,
            Owner::Team(uid) => caller.team(uid).is_some_and(|team| team.members_manage_installations),
        }
}

async fn managed(tx: &mut Tx, caller: &Caller, uid: &str) -> Result<Token, Error> {
    let found = gateway_tokens::find(tx, uid).await?;
    found
        .filter(|token| manages(caller, &token.owner))
        .ok_or_else(|| Error::NotFound(format!("gatewayTokens/{uid}")))
}
