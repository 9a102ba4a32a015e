//! Seals values anew, bound to another destination.

use sqlx::{Row as _, Sqlite, Transaction};

use super::seal::{Place, Seal, Sealed};

/// Rows that are sealed anew at once.
const AT_ONCE: i64 = 256;

/// What could not be sealed anew: it does not open where it is.
#[derive(Debug)]
pub(super) struct Unopened {
    pub(super) field: String,
}

/// Binds the values of an owner that were bound to `from`, to `to`. All or nothing: the caller gives the transaction up where one does
/// not open.
pub(super) async fn rebind(
    tx: &mut Transaction<'static, Sqlite>,
    seal: &Seal,
    owner: &str,
    from: &str,
    to: &str,
) -> sqlx::Result<Result<(), Unopened>> {
    const OF_OWNER: &str = "SELECT field, generation, nonce, sealed FROM secrets WHERE owner = $1";
    for row in sqlx::query(OF_OWNER).bind(owner).fetch_all(&mut **tx).await? {
        let field: String = row.try_get(0)?;
        let place = Place {
            owner,
            field: &field,
            generation: row.try_get(1)?,
            destination: Some(from),
        };
        let sealed = Sealed {
            nonce: row.try_get(2)?,
            text: row.try_get(3)?,
        };
        if !move_to(tx, seal, place, sealed, to).await? {
            return Ok(Err(Unopened { field }));
        }
    }
    Ok(Ok(()))
}

/// Seals what an earlier program kept beside each value, what it is bound to, with the value. A value that does not open in its place stays as
/// it is, and does not open later either.
pub(super) async fn bind_all(tx: &mut Transaction<'static, Sqlite>, seal: &Seal) -> sqlx::Result<()> {
    const NEXT: &str = "SELECT s.owner, s.field, s.generation, s.nonce, s.sealed, r.bound_destination
        FROM secrets s JOIN records r ON r.owner = s.owner
        WHERE (s.owner, s.field) > ($1, $2) ORDER BY s.owner, s.field LIMIT $3";
    let mut behind = (String::new(), String::new());
    loop {
        let rows = sqlx::query(NEXT)
            .bind(&behind.0)
            .bind(&behind.1)
            .bind(AT_ONCE)
            .fetch_all(&mut **tx)
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let (owner, field): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let place = Place {
                owner: &owner,
                field: &field,
                generation: row.try_get(2)?,
                destination: None,
            };
            let sealed = Sealed {
                nonce: row.try_get(3)?,
                text: row.try_get(4)?,
            };
            let destination: String = row.try_get(5)?;
            if !move_to(tx, seal, place, sealed, &destination).await? {
                tracing::error!(credential.owner = %owner, field, "a value does not open in its place; it is to be entered again");
            }
            behind = (owner, field);
        }
    }
}

/// Says whether it opened.
async fn move_to(
    tx: &mut Transaction<'static, Sqlite>,
    seal: &Seal,
    place: Place<'_>,
    sealed: Sealed,
    to: &str,
) -> sqlx::Result<bool> {
    const SEAL: &str = "UPDATE secrets SET nonce = $3, sealed = $4 WHERE owner = $1 AND field = $2";
    let Ok(value) = seal.open(place, sealed) else {
        return Ok(false);
    };
    let there = Place {
        destination: Some(to),
        ..place
    };
    let sealed = seal.seal(there, &value);
    sqlx::query(SEAL)
        .bind(place.owner)
        .bind(place.field)
        .bind(sealed.nonce)
        .bind(sealed.text)
        .execute(&mut **tx)
        .await?;
    Ok(true)
}
