-- Everything the registry keeps. The same text runs on SQLite and PostgreSQL.
-- Times are microseconds since 1970.
--
-- What is watched is kept as a document: the encoded proto message that watchers get. `schema_version` is that of the program
-- that wrote it: an older one neither rewrites nor serves it. The other columns of such a table say nothing that is not in the
-- document; they are what it is found and ordered by. `registry_revision` is that of the last change.

-- One row. Its revision is taken first by every writing transaction that watchers must see: it is gapless and in the order of commits.
-- database_identity tells whether this is the database that the epoch was given to, or one restored from a backup.
CREATE TABLE head (
    id BIGINT PRIMARY KEY,
    revision BIGINT NOT NULL,
    compacted BIGINT NOT NULL,
    database_epoch TEXT NOT NULL,
    database_identity TEXT NOT NULL
);

-- What each revision changed. object: an encoded WatchedObject, as watchers get it; NULL: it is gone.
CREATE TABLE changes (
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    object_key TEXT NOT NULL,
    object BYTEA,
    bytes BIGINT NOT NULL,
    actor TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (revision, position)
);
CREATE INDEX changes_by_size ON changes (revision, bytes, create_time);

-- The watchers of all replicas. kinds: bit n stands for ObjectKind n. acked: a revision of database_epoch. lease_end: by the
-- database's clock; until then it counts.
CREATE TABLE watchers (
    workload TEXT NOT NULL,
    instance TEXT NOT NULL,
    replica TEXT NOT NULL,
    kinds BIGINT NOT NULL,
    acked BIGINT NOT NULL,
    database_epoch TEXT NOT NULL,
    lease_end BIGINT NOT NULL,
    PRIMARY KEY (workload, instance)
);

-- Gateways that peers can reach. document: an encoded GatewayReplica.
CREATE TABLE gateway_replicas (
    instance TEXT PRIMARY KEY,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL
);

-- First answers, for retries with the same request_id. answer: the encoded response.
CREATE TABLE requests (
    caller TEXT NOT NULL,
    rpc TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BYTEA NOT NULL,
    resource_uid TEXT NOT NULL,
    answer BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (caller, rpc, request_id)
);
CREATE INDEX requests_by_age ON requests (create_time);

-- What a token of theirs last said, and whether they are shut out. email_key: the address in lower case.
CREATE TABLE users (
    uid TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    display_name TEXT NOT NULL,
    admin BOOLEAN NOT NULL DEFAULT FALSE,
    deactivate_time BIGINT,
    create_time BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX users_in_order ON users (create_time, uid);
CREATE INDEX users_by_email ON users (email_key, create_time, uid);
CREATE INDEX users_deactivated ON users (uid) WHERE deactivate_time IS NOT NULL;

-- document: an encoded Team.
CREATE TABLE teams (
    uid TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    members_manage_installations BOOLEAN NOT NULL,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL
);
CREATE INDEX teams_in_order ON teams (create_time, uid);

CREATE TABLE team_members (
    team_uid TEXT NOT NULL REFERENCES teams (uid),
    user_uid TEXT NOT NULL REFERENCES users (uid),
    create_time BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL,
    PRIMARY KEY (team_uid, user_uid)
);
CREATE INDEX team_members_in_order ON team_members (team_uid, create_time, user_uid);
CREATE INDEX team_members_by_user ON team_members (user_uid);

-- Whom teams take in. group_name '': the whole issuer.
CREATE TABLE team_mappings (
    team_uid TEXT NOT NULL REFERENCES teams (uid),
    issuer TEXT NOT NULL,
    group_name TEXT NOT NULL,
    PRIMARY KEY (team_uid, issuer, group_name)
);
CREATE INDEX team_mappings_by_group ON team_mappings (issuer, group_name);

-- document: an encoded Entry at its current revision. tool_set: hash of the discovered FeatureSet, or ''.
-- unfinished: some of its installations have not been looked at since the current revision was made; of a deleted entry, also:
-- installations and assignments are still to be deleted with it. rollout_revision: that of the last such step.
CREATE TABLE entries (
    uid TEXT PRIMARY KEY,
    slug TEXT NOT NULL,
    entry_revision BIGINT NOT NULL,
    lifecycle BIGINT NOT NULL,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    tool_set TEXT NOT NULL DEFAULT '',
    unfinished BOOLEAN NOT NULL DEFAULT FALSE,
    rollout_revision BIGINT NOT NULL DEFAULT 0,
    create_time BIGINT NOT NULL,
    delete_time BIGINT,
    credential_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    runtime_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    registry_revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX entries_by_slug ON entries (slug) WHERE delete_time IS NULL;
CREATE INDEX entries_unfinished ON entries (uid) WHERE unfinished;
CREATE INDEX entries_cleaned ON entries (uid) WHERE credential_cleaned AND runtime_cleaned;
CREATE INDEX entries_by_tool_set ON entries (tool_set) WHERE tool_set <> '';

-- Who sees an entry that is not deleted: '*', everybody; 'team:UID'; 'user:UID', its author; 'admin', whoever is one. What this and the
-- next table repeat of others is there so that each list is a range of one index.
CREATE TABLE entry_audiences (
    audience TEXT NOT NULL,
    lifecycle BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    PRIMARY KEY (audience, create_time, entry_uid)
);
CREATE INDEX entry_audiences_by_lifecycle ON entry_audiences (audience, lifecycle, create_time, entry_uid);
CREATE INDEX entry_audiences_by_entry ON entry_audiences (entry_uid, audience);

-- The labels of entries that are not deleted, for each who sees them.
CREATE TABLE entry_labels (
    audience TEXT NOT NULL,
    label_key TEXT NOT NULL,
    label_value TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    PRIMARY KEY (audience, label_key, label_value, create_time, entry_uid)
);
CREATE INDEX entry_labels_by_entry ON entry_labels (entry_uid, audience, label_key, label_value);

-- The words of slug, display name and description of entries that are not deleted, in lower case. As bytes, which have one order
-- in every locale: a prefix is a range.
CREATE TABLE entry_words (
    word BYTEA NOT NULL,
    create_time BIGINT NOT NULL,
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    PRIMARY KEY (word, create_time, entry_uid)
);
CREATE INDEX entry_words_by_entry ON entry_words (entry_uid, word);

-- document: an encoded EntryRevision. in_use: it is current, or an installation runs it: then it is watched.
CREATE TABLE entry_revisions (
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    number BIGINT NOT NULL,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    in_use BOOLEAN NOT NULL,
    PRIMARY KEY (entry_uid, number)
);
CREATE INDEX entry_revisions_in_use ON entry_revisions (entry_uid, number) WHERE in_use;

-- document: an encoded Installation. settled_entry_revision: the entry revision that it moved to, or is held before: one that is neither
-- held nor deleted runs it. hold_reason: ReinstallRequired.reason, or ''. expires: when it goes unless it is completed. Every index makes each
-- installation dearer: what is made one after the other is to lie together in most. To refer to entries and users, each would lock, and so write, their
-- rows; an entry's goes after its installations, a user's never.
CREATE TABLE installations (
    uid TEXT PRIMARY KEY,
    entry_uid TEXT NOT NULL,
    user_uid TEXT,
    team_uid TEXT REFERENCES teams (uid),
    running_entry_revision BIGINT NOT NULL,
    settled_entry_revision BIGINT NOT NULL,
    hold_reason TEXT NOT NULL DEFAULT '',
    state BIGINT NOT NULL,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    tool_set TEXT NOT NULL DEFAULT '',
    create_time BIGINT NOT NULL,
    delete_time BIGINT,
    expires BIGINT,
    credential_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    runtime_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    registry_revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX installations_personal ON installations (user_uid, entry_uid) WHERE delete_time IS NULL AND user_uid IS NOT NULL;
CREATE UNIQUE INDEX installations_of_team ON installations (team_uid, entry_uid) WHERE delete_time IS NULL AND team_uid IS NOT NULL;
CREATE INDEX installations_by_state ON installations (state, create_time, uid);
CREATE INDEX installations_by_entry ON installations (entry_uid, state, create_time, uid);
CREATE INDEX installations_by_user ON installations (user_uid, create_time, uid) WHERE user_uid IS NOT NULL;
CREATE INDEX installations_by_team ON installations (team_uid, create_time, uid) WHERE team_uid IS NOT NULL;
CREATE INDEX installations_settled ON installations (entry_uid, settled_entry_revision, hold_reason, uid) WHERE delete_time IS NULL;
CREATE INDEX installations_held ON installations (entry_uid, hold_reason) WHERE delete_time IS NULL AND hold_reason <> '';
CREATE INDEX installations_behind ON installations (entry_uid, running_entry_revision) WHERE hold_reason <> '' OR delete_time IS NOT NULL;
CREATE INDEX installations_that_expire ON installations (expires) WHERE expires IS NOT NULL;
CREATE INDEX installations_cleaned ON installations (uid) WHERE credential_cleaned AND runtime_cleaned;
CREATE INDEX installations_by_tool_set ON installations (tool_set) WHERE tool_set <> '';

-- document: an encoded Runtime. owner_uid: an installation's, or an entry's.
CREATE TABLE runtimes (
    owner_uid TEXT PRIMARY KEY,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL
);

-- MCP gateways (kind 1) and agents (kind 2). document: an encoded Gateway or Agent. One that is deleted is gone for everybody; its row
-- waits until its assignments are, and until no gateway token is limited to it.
CREATE TABLE consumers (
    uid TEXT PRIMARY KEY,
    kind BIGINT NOT NULL,
    slug TEXT NOT NULL,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    delete_time BIGINT,
    registry_revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX consumers_by_slug ON consumers (kind, slug) WHERE delete_time IS NULL;
CREATE INDEX consumers_deleted ON consumers (uid) WHERE delete_time IS NOT NULL;
CREATE INDEX consumers_deleted_by_slug ON consumers (kind, slug) WHERE delete_time IS NOT NULL;

-- Who sees a gateway or an agent that is not deleted, as in entry_audiences.
CREATE TABLE consumer_audiences (
    kind BIGINT NOT NULL,
    audience TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    consumer_uid TEXT NOT NULL REFERENCES consumers (uid),
    PRIMARY KEY (kind, audience, create_time, consumer_uid)
);
CREATE INDEX consumer_audiences_by_consumer ON consumer_audiences (consumer_uid, audience);

-- document: an encoded ToolAssignment. tool '': all of the entry. pinned_uid '': resolved at call time. exposed_name '': made from
-- entry and tool.
CREATE TABLE tool_assignments (
    uid TEXT PRIMARY KEY,
    consumer_uid TEXT NOT NULL REFERENCES consumers (uid),
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    kind BIGINT NOT NULL,
    tool TEXT NOT NULL,
    pinned_uid TEXT NOT NULL,
    exposed_name TEXT NOT NULL,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX tool_assignments_once ON tool_assignments (consumer_uid, entry_uid, kind, tool, pinned_uid);
CREATE UNIQUE INDEX tool_assignments_by_name ON tool_assignments (consumer_uid, exposed_name) WHERE exposed_name <> '';
CREATE INDEX tool_assignments_in_order ON tool_assignments (consumer_uid, create_time, uid);
CREATE INDEX tool_assignments_by_entry ON tool_assignments (entry_uid);
CREATE INDEX tool_assignments_by_installation ON tool_assignments (pinned_uid) WHERE pinned_uid <> '';

-- document: an encoded WatchedGatewayToken, without last_use_time.
CREATE TABLE gateway_tokens (
    uid TEXT PRIMARY KEY,
    token_hash BYTEA NOT NULL UNIQUE,
    user_uid TEXT REFERENCES users (uid),
    team_uid TEXT REFERENCES teams (uid),
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    revoke_time BIGINT,
    last_use_time BIGINT,
    registry_revision BIGINT NOT NULL
);
CREATE INDEX gateway_tokens_in_order ON gateway_tokens (create_time, uid);
CREATE INDEX gateway_tokens_by_user ON gateway_tokens (user_uid, create_time, uid);
CREATE INDEX gateway_tokens_by_team ON gateway_tokens (team_uid, create_time, uid);

-- Where a limited token works.
CREATE TABLE gateway_token_consumers (
    token_uid TEXT NOT NULL REFERENCES gateway_tokens (uid),
    consumer_uid TEXT NOT NULL REFERENCES consumers (uid),
    PRIMARY KEY (token_uid, consumer_uid)
);
CREATE INDEX gateway_token_consumers_by_consumer ON gateway_token_consumers (consumer_uid);

-- document: an encoded FeatureDefinition.
CREATE TABLE feature_definitions (
    hash TEXT PRIMARY KEY,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL
);

-- document: an encoded FeatureSet. A set exists as long as an entry or an installation has it.
CREATE TABLE feature_sets (
    hash TEXT PRIMARY KEY,
    document BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    registry_revision BIGINT NOT NULL
);

CREATE TABLE feature_set_features (
    set_hash TEXT NOT NULL REFERENCES feature_sets (hash),
    name TEXT NOT NULL,
    definition_hash TEXT NOT NULL REFERENCES feature_definitions (hash),
    PRIMARY KEY (set_hash, name)
);
CREATE INDEX feature_set_features_by_definition ON feature_set_features (definition_hash);
