//! Revocation of tokens (RFC 7009).

use std::time::SystemTime;

use secrecy::SecretString;

use super::{
    answer,
    form::Form,
    http::{Http, Reach},
    token::post,
};
use crate::domain::authorization::servers::{Client, Metadata, ServerError, TokenKind};

pub(super) async fn revoke(
    http: &Http,
    metadata: &Metadata,
    client: &Client,
    token: &SecretString,
    hint: TokenKind,
    now: SystemTime,
) -> Result<(), ServerError> {
    let url = &metadata.revocation_endpoint;
    if url.is_empty() {
        return Ok(());
    }
    let mut form = Form::default();
    form.push("token", token.clone());
    form.push(
        "token_type_hint",
        match hint {
            TokenKind::Access => "access_token",
            TokenKind::Refresh => "refresh_token",
        },
    );
    let turn = http.turn(Reach::of(metadata), "the revocation endpoint", url).await?;
    let answer = post(http, turn, metadata, client, &mut form, now).await?;
    // A success has no content that means anything (section 2.2).
    answer::succeeded(&answer, &form).map(drop)
}
