-- Everything the registry keeps. The same text runs on SQLite and PostgreSQL.
-- Times are microseconds since 1970. Documents are encoded proto messages.

-- One row. Its revision is taken first by every writing transaction that watchers must see: it is gapless and in the order of commits.
CREATE TABLE head (
    id BIGINT PRIMARY KEY,
    revision BIGINT NOT NULL,
    compacted BIGINT NOT NULL,
    database_epoch TEXT NOT NULL
);

-- What each revision changed, as watchers get it; no object: it is gone.
CREATE TABLE changes (
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    object_key TEXT NOT NULL,
    object BYTEA,
    PRIMARY KEY (revision, position)
);

-- Open watch streams of all replicas. kinds: bit n stands for ObjectKind n.
CREATE TABLE watchers (
    id TEXT PRIMARY KEY,
    replica TEXT NOT NULL,
    workload TEXT NOT NULL,
    kinds BIGINT NOT NULL,
    acked BIGINT NOT NULL,
    heartbeat BIGINT NOT NULL
);

-- First answers, for retries with the same request_id.
CREATE TABLE requests (
    caller TEXT NOT NULL,
    rpc TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BYTEA NOT NULL,
    resource_uid TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (caller, rpc, request_id)
);
CREATE INDEX requests_by_age ON requests (create_time);

-- What a token of theirs last said, and whether they are shut out.
CREATE TABLE users (
    uid TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    email TEXT NOT NULL,
    display_name TEXT NOT NULL,
    admin BOOLEAN NOT NULL DEFAULT FALSE,
    deactivate_time BIGINT,
    create_time BIGINT NOT NULL
);
CREATE INDEX users_in_order ON users (create_time, uid);

CREATE TABLE teams (
    uid TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    members_manage_installations BOOLEAN NOT NULL,
    etag TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX teams_in_order ON teams (create_time, uid);

CREATE TABLE team_members (
    team_uid TEXT NOT NULL REFERENCES teams (uid),
    user_uid TEXT NOT NULL REFERENCES users (uid),
    create_time BIGINT NOT NULL,
    PRIMARY KEY (team_uid, user_uid)
);
CREATE INDEX team_members_by_user ON team_members (user_uid);

-- group_name NULL: the whole issuer.
CREATE TABLE team_mappings (
    team_uid TEXT NOT NULL REFERENCES teams (uid),
    position BIGINT NOT NULL,
    issuer TEXT NOT NULL,
    group_name TEXT,
    PRIMARY KEY (team_uid, position)
);
CREATE INDEX team_mappings_by_issuer ON team_mappings (issuer);

-- What may change without a new revision stands here; the rest is the document of the current revision.
CREATE TABLE entries (
    uid TEXT PRIMARY KEY,
    slug TEXT NOT NULL,
    lifecycle BIGINT NOT NULL,
    entry_revision BIGINT NOT NULL,
    creator TEXT NOT NULL,
    updater TEXT NOT NULL,
    etag TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    delete_time BIGINT,
    credential_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    runtime_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX entries_by_slug ON entries (slug) WHERE delete_time IS NULL;
CREATE INDEX entries_in_order ON entries (create_time, uid);

CREATE TABLE entry_revisions (
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    number BIGINT NOT NULL,
    document BYTEA NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (entry_uid, number)
);

-- The teams that see an entry.
CREATE TABLE entry_teams (
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    team_uid TEXT NOT NULL REFERENCES teams (uid),
    PRIMARY KEY (entry_uid, team_uid)
);
CREATE INDEX entry_teams_by_team ON entry_teams (team_uid);

-- field_values: a JSON object of strings. reinstall: an encoded ReinstallRequired.
CREATE TABLE installations (
    uid TEXT PRIMARY KEY,
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    user_uid TEXT REFERENCES users (uid),
    team_uid TEXT REFERENCES teams (uid),
    field_values TEXT NOT NULL,
    created_entry_revision BIGINT NOT NULL,
    running_entry_revision BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    credential_generation BIGINT NOT NULL DEFAULT 0,
    reinstall BYTEA,
    runtime_endpoint TEXT NOT NULL DEFAULT '',
    first_ready_time BIGINT,
    etag TEXT NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    delete_time BIGINT,
    expire_time BIGINT,
    credential_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    runtime_cleaned BOOLEAN NOT NULL DEFAULT FALSE,
    revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX installations_personal ON installations (entry_uid, user_uid) WHERE delete_time IS NULL AND user_uid IS NOT NULL;
CREATE UNIQUE INDEX installations_of_team ON installations (entry_uid, team_uid) WHERE delete_time IS NULL AND team_uid IS NOT NULL;
CREATE INDEX installations_in_order ON installations (create_time, uid);
CREATE INDEX installations_by_entry ON installations (entry_uid);
CREATE INDEX installations_by_user ON installations (user_uid);
CREATE INDEX installations_by_team ON installations (team_uid);
CREATE INDEX installations_that_expire ON installations (expire_time) WHERE expire_time IS NOT NULL AND delete_time IS NULL;

CREATE TABLE conditions (
    installation_uid TEXT NOT NULL REFERENCES installations (uid),
    condition_type BIGINT NOT NULL,
    status BIGINT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    observed_generation BIGINT NOT NULL,
    transition_time BIGINT NOT NULL,
    PRIMARY KEY (installation_uid, condition_type)
);

-- MCP gateways (kind 1) and agents (kind 2). document: an encoded Gateway, also for agents.
CREATE TABLE consumers (
    uid TEXT PRIMARY KEY,
    kind BIGINT NOT NULL,
    slug TEXT NOT NULL,
    document BYTEA NOT NULL,
    creator TEXT NOT NULL,
    etag TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (kind, slug)
);
CREATE INDEX consumers_in_order ON consumers (create_time, uid);

-- The teams that see a gateway or an agent.
CREATE TABLE consumer_teams (
    consumer_uid TEXT NOT NULL REFERENCES consumers (uid),
    team_uid TEXT NOT NULL REFERENCES teams (uid),
    PRIMARY KEY (consumer_uid, team_uid)
);
CREATE INDEX consumer_teams_by_team ON consumer_teams (team_uid);

-- pinned_installation_uid NULL: resolved at call time. exposed_name '': made from entry and tool.
CREATE TABLE tool_assignments (
    uid TEXT PRIMARY KEY,
    consumer_uid TEXT NOT NULL REFERENCES consumers (uid),
    entry_uid TEXT NOT NULL REFERENCES entries (uid),
    tool TEXT NOT NULL,
    pinned_installation_uid TEXT REFERENCES installations (uid),
    exposed_name TEXT NOT NULL,
    creator TEXT NOT NULL,
    etag TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX tool_assignments_in_order ON tool_assignments (consumer_uid, create_time, uid);
CREATE INDEX tool_assignments_by_entry ON tool_assignments (entry_uid);
CREATE INDEX tool_assignments_by_installation ON tool_assignments (pinned_installation_uid);

CREATE TABLE gateway_tokens (
    uid TEXT PRIMARY KEY,
    token_hash BYTEA NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    user_uid TEXT REFERENCES users (uid),
    team_uid TEXT REFERENCES teams (uid),
    limited BOOLEAN NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    expire_time BIGINT,
    revoke_time BIGINT,
    last_use_time BIGINT,
    revision BIGINT NOT NULL
);
CREATE INDEX gateway_tokens_in_order ON gateway_tokens (create_time, uid);
CREATE INDEX gateway_tokens_by_team ON gateway_tokens (team_uid);

-- Where a limited token works.
CREATE TABLE gateway_token_consumers (
    token_uid TEXT NOT NULL REFERENCES gateway_tokens (uid),
    consumer_uid TEXT NOT NULL REFERENCES consumers (uid),
    PRIMARY KEY (token_uid, consumer_uid)
);
CREATE INDEX gateway_token_consumers_by_consumer ON gateway_token_consumers (consumer_uid);

CREATE TABLE tool_definitions (
    hash TEXT PRIMARY KEY,
    definition TEXT NOT NULL,
    revision BIGINT NOT NULL
);

-- A set exists once its tools are known, be they none. Its owner is an entry or an installation.
CREATE TABLE tool_sets (
    owner_uid TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);

CREATE TABLE tool_set_tools (
    owner_uid TEXT NOT NULL REFERENCES tool_sets (owner_uid),
    tool TEXT NOT NULL,
    definition_hash TEXT NOT NULL REFERENCES tool_definitions (hash),
    PRIMARY KEY (owner_uid, tool)
);
CREATE INDEX tool_set_tools_by_definition ON tool_set_tools (definition_hash);
