//! The migrations, which bring the schema up to date.

use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

/// All migrations, oldest first. One that was released never changes; what comes later only expands, then contracts.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "first", include_str!("../../migrations/0001_first.sql")),
    (
        2,
        "runtime lease",
        include_str!("../../migrations/0002_runtime_lease.sql"),
    ),
    (3, "machines", include_str!("../../migrations/0003_machines.sql")),
];

/// The migrations of this program.
pub(super) fn migrator() -> Migrator {
    let migrations = MIGRATIONS
        .iter()
        .map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}
