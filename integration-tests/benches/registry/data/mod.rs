//! The data set of a large company: how many objects of each kind there are, how they belong together, and how they are
//! inserted into a database.
//!
//! All data follows from numbers, without randomness: the n-th entry is the same in each run. The index tables are
//! filled as the registry fills them; the change log is empty, as if it had been compacted.

pub(crate) mod consumers;
pub(crate) mod entries;
mod features;
mod installations;
pub(crate) mod people;

use std::{
    cell::Cell,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use contracts::registry::{
    AuthorAudience, FeatureSet, OrganizationAudience, TeamsAudience, Visibility, visibility::Audience,
};
use integration_tests::Result;
use prost_types::Timestamp;
use registry_svc::{Database, SCHEMA_VERSION};
use service_kit::UserId;
use sha2::{Digest as _, Sha256};

use crate::{database::bulk::Bulk, report::say};

/// More than a page of a list. With fewer objects, the pages of the small and the large data set would not be
/// comparable.
const MORE_THAN_A_PAGE: usize = 60;
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// The number of objects of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) entries: usize,
    pub(crate) installations: usize,
    pub(crate) gateways: usize,
    pub(crate) agents: usize,
    /// Tools that are assigned individually and tools that are derived from labels, together.
    pub(crate) assigned_tools: usize,
    pub(crate) definitions: usize,
    pub(crate) teams: usize,
    pub(crate) users: usize,
    pub(crate) tokens: usize,
}

impl Size {
    /// The size at which the figures are measured.
    pub(crate) const FULL: Self = Self {
        entries: 10_000,
        installations: 100_000,
        gateways: 1_000,
        agents: 200,
        assigned_tools: 1_000_000,
        definitions: 20_000,
        teams: 500,
        users: 20_000,
        tokens: 2_000,
    };
    /// The number of entries of the data set to which lists are compared.
    pub(crate) const SMALL: usize = 100;
    /// With fewer entries, some objects that are measured would not exist.
    pub(crate) const SMALLEST: usize = 100;

    /// A company with this many entries and the rest in proportion, but with more than a page of everything.
    pub(crate) fn of(entries: usize) -> Self {
        let entries = entries.max(Self::SMALLEST);
        let share = |of: usize| (of * entries / Self::FULL.entries).max(MORE_THAN_A_PAGE);
        Self {
            entries,
            installations: share(Self::FULL.installations),
            gateways: share(Self::FULL.gateways),
            agents: share(Self::FULL.agents),
            assigned_tools: share(Self::FULL.assigned_tools),
            definitions: share(Self::FULL.definitions),
            teams: share(Self::FULL.teams),
            users: share(Self::FULL.users),
            tokens: share(Self::FULL.tokens),
        }
    }
}

/// Kinds of objects that have a uid.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Entry,
    Installation,
    Gateway,
    Agent,
    Assignment,
    Team,
    Token,
}

/// A data set, in which objects are identified by number.
pub(crate) struct Plan {
    pub(crate) size: Size,
    /// The `iss` of all users.
    pub(crate) issuer: String,
    /// The creation time of the data set, in microseconds since 1970.
    now: i64,
    /// Hash and JSON of each definition.
    definitions: Vec<(String, String)>,
    /// The tools of each entry.
    sets: Vec<FeatureSet>,
    /// The last revision that was assigned.
    revision: Cell<i64>,
}

impl Plan {
    /// A data set whose users are of this issuer.
    pub(crate) fn new(size: Size, issuer: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let definitions: Vec<_> = (0..size.definitions).map(features::definition).collect();
        let mut plan = Self {
            size,
            issuer: issuer.to_owned(),
            now: i64::try_from(now.as_micros()).unwrap_or_default(),
            definitions,
            sets: Vec::new(),
            revision: Cell::new(0),
        };
        plan.sets = (0..size.entries).map(|entry| features::set(&plan, entry)).collect();
        plan
    }

    /// The uid of the n-th object of a kind.
    pub(crate) fn uid(&self, kind: Kind, index: usize) -> String {
        let mut bytes = [0; 16];
        let seed = (kind as u64 + 1) << 40 | index as u64;
        bytes[..8].copy_from_slice(&mix(seed).to_be_bytes());
        bytes[8..].copy_from_slice(&mix(seed ^ 1 << 63).to_be_bytes());
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// The `sub` of the n-th user. The first few are admins.
    pub(crate) fn subject(&self, user: usize) -> String {
        if self.is_admin(user) {
            format!("admin-{user}")
        } else {
            format!("user-{user}")
        }
    }

    fn is_admin(&self, user: usize) -> bool {
        user < 5
    }

    /// The id in `users/{user}`.
    pub(crate) fn user(&self, user: usize) -> String {
        UserId::of(&self.issuer, &self.subject(user)).as_str().to_owned()
    }

    /// The ordinary member whose lists are measured. They are in a few teams and have a few installations.
    pub(crate) fn member(&self) -> usize {
        self.size.users / 2 + 1
    }

    /// The creation time of the n-th of `of` objects, which are spread over 300 days up to yesterday.
    fn time(&self, index: usize, of: usize) -> i64 {
        let (index, of) = (index as i64, of.max(1) as i64);
        self.now - 301 * DAY + 300 * DAY / of * index
    }

    /// The registry revision of the next object.
    fn next_revision(&self) -> i64 {
        self.revision.set(self.revision.get() + 1);
        self.revision.get()
    }

    fn creator(&self) -> String {
        format!("users/{}", self.user(0))
    }

    /// Fills a database that has its schema.
    pub(crate) async fn fill(&self, database: &Database) -> Result<()> {
        let begin = Instant::now();
        let mut bulk = Bulk::begin(database).await?;
        let mut rows = 0;
        rows += people::add(self, &mut bulk).await?;
        rows += features::add(self, &mut bulk).await?;
        rows += entries::add(self, &mut bulk).await?;
        rows += installations::add(self, &mut bulk).await?;
        rows += consumers::add(self, &mut bulk).await?;
        let revision = self.revision.get();
        bulk.run(&format!(
            "UPDATE head SET revision = {revision}, compacted = {revision} WHERE id = 1"
        ))
        .await?;
        bulk.commit().await?;
        say(&format!(
            "  seeded {rows} rows in {:.1} s; assigned tools: {} one by one, {} derived from labels",
            begin.elapsed().as_secs_f64(),
            self.explicit(),
            self.derived(),
        ));
        Ok(())
    }
}

/// Like `etag.rs` of registry-svc.
fn etag(uid: &str, revision: i64) -> String {
    let mut hash = Sha256::new();
    hash.update(uid);
    hash.update(revision.to_be_bytes());
    hex::encode(&hash.finalize()[..8])
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
    }
}

/// Spreads consecutive numbers (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A pseudo-random number below `of`.
fn chance(salt: &str, index: usize, of: usize) -> usize {
    let salt = salt.bytes().fold(0, |sum: u64, byte| sum * 31 + u64::from(byte));
    usize::try_from(mix(salt << 32 | index as u64) % of.max(1) as u64).unwrap_or_default()
}

/// The visibility of an object: seven of ten are visible to all, two to two teams, and one to its author.
fn visibility(plan: &Plan, salt: &str, index: usize) -> (Visibility, Vec<usize>) {
    let (audience, teams) = match chance(salt, index, 10) {
        0..7 => (Audience::Organization(OrganizationAudience {}), Vec::new()),
        7..9 => {
            let first = (index * 3) % plan.size.teams;
            let teams = vec![first, (first + 1) % plan.size.teams];
            let mut names: Vec<_> = teams.iter().map(|&team| people::team_name(team)).collect();
            names.sort();
            (Audience::Teams(TeamsAudience { teams: names }), teams)
        }
        _ => (Audience::Author(AuthorAudience {}), Vec::new()),
    };
    let visibility = Visibility {
        audience: Some(audience),
    };
    (visibility, teams)
}

/// The same visibility in the form of the audience tables. The author is the first admin.
fn audiences(plan: &Plan, visibility: &Visibility, teams: &[usize]) -> Vec<String> {
    let author = format!("user:{}", plan.user(0));
    let mut audiences = match &visibility.audience {
        Some(Audience::Organization(_)) => vec!["*".to_owned()],
        Some(Audience::Teams(_)) => teams
            .iter()
            .map(|&team| format!("team:{}", plan.uid(Kind::Team, team)))
            .chain([author])
            .collect(),
        Some(Audience::Author(_)) | None => vec![author],
    };
    audiences.push("admin".to_owned());
    audiences
}
