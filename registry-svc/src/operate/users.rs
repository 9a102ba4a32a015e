//! Users: who has signed in, and who is deactivated.

use contracts::registry::{
    DeactivateUserRequest, ListUsersRequest, ListUsersResponse, User, deactivate_user_request::User as Shut,
};

use super::{
    Done, Registry,
    teams::{NOT_A_USER, check_identity, user_id},
    unchanged, written,
};
use crate::{
    domain::{Caller, Error, time::timestamp},
    store::{
        Object, Tx,
        users::{self, UserRow},
    },
};

/// Reads a user: the caller, or for an admin any user.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<User, Error> {
    let mut tx = registry.db.read().await?;
    if name == "users/me" || name == caller.name() {
        let row = written(users::find(&mut tx, &caller.uid).await?)?;
        let mut teams: Vec<String> = caller.teams.iter().map(|team| format!("teams/{}", team.slug)).collect();
        teams.sort();
        return Ok(User {
            teams,
            admin: caller.admin,
            ..message(row)
        });
    }
    let uid = user_id("name", name)?;
    let found = if caller.admin {
        users::find(&mut tx, &uid).await?
    } else {
        None
    };
    found.map(message).ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// Lists users, for admins.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListUsersRequest,
) -> Result<ListUsersResponse, Error> {
    caller.require_admin()?;
    if request.email.contains('\0') {
        return Err(Error::invalid("email", "must not contain NUL"));
    }
    let binding = format!("ListUsers {} {:?}", caller.uid, request.email);
    let page = registry.page(binding, request.page_size, &request.page_token)?;
    let mut tx = registry.db.read().await?;
    let found = users::page(&mut tx, page.start(), &request.email, page.limit()).await?;
    let (found, next_page_token) = page.cut(found, |row| (row.create_time, row.uid.clone()), |_| 0);
    Ok(ListUsersResponse {
        users: found.into_iter().map(message).collect(),
        next_page_token,
    })
}

/// Deactivates a user, also one whom the registry has never seen.
pub(crate) async fn deactivate(
    registry: &Registry,
    caller: &Caller,
    request: DeactivateUserRequest,
) -> Result<Done<User>, Error> {
    caller.require_admin()?;
    match request.user {
        Some(Shut::Name(name)) => {
            let uid = user_id("name", &name).map_err(|_| Error::invalid("name", NOT_A_USER))?;
            refuse_oneself(caller, &uid)?;
            set_active(registry, registry.write(caller.actor()).await?, &uid, false).await
        }
        Some(Shut::Identity(identity)) => {
            check_identity(&identity)?;
            let mut tx = registry.write(caller.actor()).await?;
            let uid = users::add(&mut tx, &identity.issuer, &identity.subject).await?;
            refuse_oneself(caller, &uid)?;
            set_active(registry, tx, &uid, false).await
        }
        None => Err(Error::invalid("user", "must be set: name or identity")),
    }
}

/// Somebody who deactivates themselves could not reactivate themselves.
fn refuse_oneself(caller: &Caller, uid: &str) -> Result<(), Error> {
    if caller.uid == uid {
        let text = "you cannot deactivate yourself: another admin can";
        return Err(Error::IllegalTransition(text.to_owned()));
    }
    Ok(())
}

/// Reactivates a user.
pub(crate) async fn reactivate(registry: &Registry, caller: &Caller, name: &str) -> Result<Done<User>, Error> {
    caller.require_admin()?;
    let uid = user_id("name", name)?;
    set_active(registry, registry.write(caller.actor()).await?, &uid, true).await
}

async fn set_active(registry: &Registry, mut tx: Tx, uid: &str, active: bool) -> Result<Done<User>, Error> {
    let row = users::find(&mut tx, uid)
        .await?
        .ok_or_else(|| Error::NotFound(format!("users/{uid}")))?;
    if row.deactivate_time.is_none() == active {
        let revision = row.registry_revision;
        return unchanged(registry, tx, Object::DeactivatedUser, revision, message(row)).await;
    }
    let deactivate_time = (!active).then(|| tx.now());
    users::set_deactivated(&mut tx, uid, deactivate_time).await?;
    let row = UserRow { deactivate_time, ..row };
    Ok((message(row), registry.commit(tx, None).await?))
}

fn message(row: UserRow) -> User {
    User {
        name: format!("users/{}", row.uid),
        issuer: row.issuer,
        subject: row.subject,
        email: row.email,
        display_name: row.display_name,
        deactivate_time: row.deactivate_time.map(timestamp),
        create_time: Some(timestamp(row.create_time)),
        teams: Vec::new(),
        admin: false,
        machine: row.machine,
    }
}
