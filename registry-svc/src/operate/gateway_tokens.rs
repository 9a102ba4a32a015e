//! Gateway tokens: made, shown and ended by whom they belong to.

use std::collections::HashMap;

use contracts::registry::{
    CreateGatewayTokenRequest, CreateGatewayTokenResponse, GatewayToken, ListGatewayTokensRequest,
    ListGatewayTokensResponse, gateway_token::Subject,
};
use data_encoding::BASE32_NOPAD;
use rand::RngCore as _;
use service_kit::status::Violations;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Done, consumers, require_request, uid_in, unchanged, written};
use crate::{
    api::{Registry, paging::Page},
    domain::{Caller, Error, consumer::ConsumerKind, installation::require_team_manager, text::check_line},
    store::{
        Tx,
        gateway_tokens::{self, Listed, NewToken},
        load,
        requests::Request,
    },
};

const MAX_NAME: usize = 120;
const MAX_CONSUMERS: usize = 64;
/// What every token begins with, so that scanners for leaked secrets know one.
const PREFIX: &str = "cht_";

/// Makes a token. Its text is in this answer alone.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateGatewayTokenRequest,
) -> Result<Done<CreateGatewayTokenResponse>, Error> {
    let mut violations = Violations::new();
    let no_maps: [&HashMap<String, String>; 0] = [];
    let retry = Request::new(
        &caller.uid,
        "CreateGatewayToken",
        &request.request_id,
        &no_maps,
        &request,
    );
    let retry = require_request(&mut violations, retry);
    if request.gateway_token.is_none() {
        violations.add("gateway_token", "must be set");
    }
    let wanted = request.gateway_token.clone().unwrap_or_default();
    let now = registry.clock.now_micros();
    let expire_time = check(&mut violations, &wanted, now);
    let (Some(retry), true) = (retry, violations.is_empty()) else {
        return Err(violations.into());
    };
    let mut tx = registry.db.write().await?;
    if let Some(uid) = retry.replayed(&mut tx).await? {
        let gateway_token = load::gateway_token(&mut tx, &uid).await?;
        return unchanged(
            registry,
            tx,
            CreateGatewayTokenResponse {
                gateway_token,
                token: String::new(),
            },
        )
        .await;
    }
    let (user, team) = subject(&mut tx, caller, wanted.subject.as_ref()).await?;
    let consumers = consumer_uids(&mut tx, caller, &wanted.consumers).await?;
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let token = format!("{PREFIX}{}", BASE32_NOPAD.encode(&secret).to_ascii_lowercase());
    let uid = Uuid::new_v4().to_string();
    let new = NewToken {
        uid: &uid,
        hash: &Sha256::digest(&token),
        display_name: &wanted.display_name,
        user_uid: user.as_deref(),
        team_uid: team.as_deref(),
        consumer_uids: &consumers,
        creator: &caller.uid,
        create_time: now,
        expire_time,
    };
    gateway_tokens::insert(&mut tx, &new).await?;
    retry.made(&mut tx, &uid, now).await?;
    let gateway_token = Some(written(load::gateway_token(&mut tx, &uid).await?)?);
    Ok((
        CreateGatewayTokenResponse { gateway_token, token },
        registry.commit(tx, None).await?,
    ))
}

/// Reads a token that is the caller's to manage.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<GatewayToken, Error> {
    let mut tx = registry.db.read().await?;
    let uid = managed(&mut tx, caller, name).await?;
    written(load::gateway_token(&mut tx, &uid).await?)
}

/// Lists those tokens.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListGatewayTokensRequest,
) -> Result<ListGatewayTokensResponse, Error> {
    let binding = format!("ListGatewayTokens {} {}", caller.uid, caller.admin);
    let page = Page::parse(&registry.pages, binding, request.page_size, &request.page_token)?;
    let mut tx = registry.db.read().await?;
    let (mut time, mut uid) = (page.start().0, page.start().1.to_owned());
    let mut found = Vec::new();
    'pages: loop {
        let some = gateway_tokens::after(&mut tx, (time, &uid), page.limit()).await?;
        let last = some.len() < usize::try_from(page.limit()).unwrap_or(usize::MAX);
        for listed in some {
            (time, uid) = (listed.create_time, listed.uid.clone());
            if manages(caller, &listed) {
                found.push((time, uid.clone()));
            }
            if found.len() > page.size {
                break 'pages;
            }
        }
        if last {
            break;
        }
    }
    let next_page_token = page.cut(&registry.pages, &mut found, Clone::clone);
    let mut tokens = Vec::with_capacity(found.len());
    for (_, uid) in found {
        tokens.extend(load::gateway_token(&mut tx, &uid).await?);
    }
    Ok(ListGatewayTokensResponse {
        gateway_tokens: tokens,
        next_page_token,
    })
}

/// Ends a token.
pub(crate) async fn revoke(registry: &Registry, caller: &Caller, name: &str) -> Result<Done<GatewayToken>, Error> {
    let mut tx = registry.db.write().await?;
    let uid = managed(&mut tx, caller, name).await?;
    gateway_tokens::revoke(&mut tx, &uid, registry.clock.now_micros()).await?;
    let token = written(load::gateway_token(&mut tx, &uid).await?)?;
    Ok((token, registry.commit(tx, None).await?))
}

/// Checks what needs no look-up; the time it ends.
fn check(violations: &mut Violations, wanted: &GatewayToken, now: i64) -> Option<i64> {
    if wanted.display_name.is_empty() {
        violations.add("gateway_token.display_name", "must say what the token is for");
    }
    check_line(violations, "gateway_token.display_name", &wanted.display_name, MAX_NAME);
    if wanted.consumers.len() > MAX_CONSUMERS {
        violations.add("gateway_token.consumers", format!("must be at most {MAX_CONSUMERS}"));
    }
    let time = wanted.expire_time?;
    let micros = time
        .seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000));
    if micros.is_none_or(|micros| micros <= now) {
        violations.add("gateway_token.expire_time", "must be to come");
    }
    micros
}

/// The uids of the user or team it is bound to.
async fn subject(
    tx: &mut Tx,
    caller: &Caller,
    wanted: Option<&Subject>,
) -> Result<(Option<String>, Option<String>), Error> {
    match wanted {
        None => Ok((Some(caller.uid.clone()), None)),
        Some(Subject::User(name)) if name == "users/me" || *name == caller.name() => {
            Ok((Some(caller.uid.clone()), None))
        }
        Some(Subject::User(_)) => Err(Error::invalid(
            "gateway_token.user",
            "must be yourself: users/me. Only you can make a token that calls as you",
        )),
        Some(Subject::Team(name)) => {
            let slug = super::slug_in("teams", "gateway_token.team", name)?;
            let uid = load::team_uid(tx, slug)
                .await?
                .filter(|uid| caller.admin || caller.team(uid).is_some())
                .ok_or_else(|| Error::NotFound(name.clone()))?;
            require_team_manager(caller, name)?;
            Ok((None, Some(uid)))
        }
    }
}

async fn consumer_uids(tx: &mut Tx, caller: &Caller, names: &[String]) -> Result<Vec<String>, Error> {
    let mut uids = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let field = format!("gateway_token.consumers[{index}]");
        let kind = if name.starts_with("agents/") {
            ConsumerKind::Agent
        } else {
            ConsumerKind::Gateway
        };
        uids.push(consumers::visible(tx, caller, kind, &field, name).await?.uid);
    }
    Ok(uids)
}

fn manages(caller: &Caller, token: &Listed) -> bool {
    caller.admin
        || token.user_uid.as_ref().is_some_and(|user| *user == caller.uid)
        || token
            .team_uid
            .as_ref()
            .and_then(|team| caller.team(team))
            .is_some_and(|team| team.members_manage_installations)
}

async fn managed(tx: &mut Tx, caller: &Caller, name: &str) -> Result<String, Error> {
    let uid = uid_in("gatewayTokens", "name", name)?;
    let found = gateway_tokens::find(tx, uid).await?;
    found
        .filter(|token| manages(caller, token))
        .map(|token| token.uid)
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}
