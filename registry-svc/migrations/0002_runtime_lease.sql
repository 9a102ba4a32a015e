-- At most one row: which orchestrator runs the servers. Until lease_end, in microseconds since 1970 by the clock of whoever keeps the
-- database, no other takes the lease. epoch grows with each new holder; it stays when the lease is released.
CREATE TABLE runtime_lease (
    id BIGINT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    lease_end BIGINT NOT NULL
);
