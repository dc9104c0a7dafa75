-- Runs, their nodes, attempts, artifacts, uploads and events; and the workers.
-- Times are the database's own. Status columns are written from the state machine's answer, never by hand.

CREATE TABLE workers (
    id            text PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    token_sha256  bytea NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz,
    instance      text NOT NULL DEFAULT '',
    version       text NOT NULL DEFAULT '',
    engine        text NOT NULL DEFAULT '',
    architecture  text NOT NULL DEFAULT '',
    capacity      json,
    free          json,
    draining      boolean NOT NULL DEFAULT false,
    seen_at       timestamptz
);

CREATE TABLE runs (
    id              text PRIMARY KEY,
    flow_name       text NOT NULL,
    flow_version    text NOT NULL DEFAULT '',
    digest          text NOT NULL,
    session_id      text NOT NULL DEFAULT '',
    status          text NOT NULL,
    status_reason   text NOT NULL DEFAULT '',
    counts          json NOT NULL,
    ending          text,
    failure         json,
    last_seq        bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    finished_at     timestamptz,
    deadline        timestamptz NOT NULL,
    swept_at        timestamptz,
    idempotency_key text UNIQUE,
    request_sha256  bytea
);
CREATE INDEX runs_by_flow ON runs (flow_name, id);
CREATE INDEX runs_by_status ON runs (status, id);
CREATE INDEX runs_by_deadline ON runs (deadline) WHERE finished_at IS NULL;
CREATE INDEX runs_to_sweep ON runs (finished_at) WHERE finished_at IS NOT NULL AND swept_at IS NULL;
CREATE INDEX runs_by_end ON runs (finished_at) WHERE finished_at IS NOT NULL;

-- Apart from the row that every event locks and rewrites: a plan may be megabytes, and it never changes.
CREATE TABLE run_plans (
    run_id  text PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    plan    text NOT NULL
);

CREATE TABLE run_store_secrets (
    run_id     text NOT NULL REFERENCES runs ON DELETE CASCADE,
    store      text NOT NULL,
    encrypted  bytea NOT NULL,
    PRIMARY KEY (run_id, store)
);

CREATE TABLE run_nodes (
    run_id       text NOT NULL REFERENCES runs ON DELETE CASCADE,
    node_id      text NOT NULL,
    position     integer NOT NULL,
    status       text NOT NULL,
    unresolved   integer NOT NULL,
    attempt      integer NOT NULL DEFAULT 0,
    charged      integer NOT NULL DEFAULT 0,
    restarts     integer NOT NULL DEFAULT 0,
    error        text NOT NULL DEFAULT '',
    reason       text,
    exit_code    integer,
    worker       text NOT NULL DEFAULT '',
    progress     real NOT NULL DEFAULT 0,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (run_id, node_id)
) WITH (fillfactor = 80);
CREATE INDEX run_nodes_begun ON run_nodes (run_id) WHERE status IN ('READY', 'RUNNING', 'RETRYING', 'WAITING');
CREATE INDEX run_nodes_queued ON run_nodes (run_id, node_id) WHERE status IN ('READY', 'RETRYING');

CREATE TABLE attempts (
    run_id        text NOT NULL REFERENCES runs ON DELETE CASCADE,
    node_id       text NOT NULL,
    attempt       integer NOT NULL,
    state         text NOT NULL,
    lease         text NOT NULL,
    lease_until   timestamptz NOT NULL,
    stop          text,
    worker_id     text NOT NULL,
    instance      text NOT NULL,
    tier          text NOT NULL,
    claimed_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    reason        text,
    message       text NOT NULL DEFAULT '',
    exit_code     integer,
    image_digest  text NOT NULL DEFAULT '',
    log_key       text NOT NULL DEFAULT '',
    bytes_in      bigint NOT NULL DEFAULT 0,
    bytes_out     bigint NOT NULL DEFAULT 0,
    timings       json,
    PRIMARY KEY (run_id, node_id, attempt)
) WITH (fillfactor = 80);
CREATE INDEX attempts_by_lease ON attempts (lease_until) WHERE state = 'running';
CREATE INDEX attempts_by_worker ON attempts (worker_id) WHERE state = 'running';

CREATE TABLE artifacts (
    run_id        text NOT NULL REFERENCES runs ON DELETE CASCADE,
    edge          text NOT NULL,
    store         text NOT NULL,
    key           text NOT NULL,
    size_bytes    bigint NOT NULL,
    content_type  text NOT NULL DEFAULT '',
    sha256        text NOT NULL DEFAULT '',
    etag          text NOT NULL DEFAULT '',
    node_id       text,
    attempt       integer NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, edge)
);

CREATE TABLE uploads (
    run_id       text NOT NULL REFERENCES runs ON DELETE CASCADE,
    edge         text NOT NULL,
    store        text NOT NULL,
    key          text NOT NULL,
    state        text NOT NULL DEFAULT 'awaiting',
    created_at   timestamptz NOT NULL DEFAULT now(),
    max_size_bytes bigint NOT NULL,
    PRIMARY KEY (run_id, edge)
);
CREATE INDEX uploads_awaited ON uploads (created_at) WHERE state = 'awaiting';

CREATE TABLE events (
    run_id   text NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq      bigint NOT NULL,
    type     text NOT NULL,
    node_id  text,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    data     json NOT NULL,
    PRIMARY KEY (run_id, seq)
);
CREATE INDEX events_logs ON events (run_id, node_id, seq) WHERE type = 'node_log';
