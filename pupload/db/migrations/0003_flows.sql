-- Flows by name, with a draft and published versions; and node definitions for everybody.
-- Documents are JSON without secrets; those are sealed beside them, and never leave.

CREATE TABLE flows (
    name        text COLLATE "C" PRIMARY KEY,
    draft       text,
    secrets     bytea,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    production  integer
);

-- A row never changes.
CREATE TABLE flow_versions (
    flow          text COLLATE "C" NOT NULL REFERENCES flows,
    n             integer NOT NULL,
    documents     text NOT NULL,
    secrets       bytea,
    digest        text NOT NULL,
    images        json NOT NULL,
    warnings      json NOT NULL,
    published_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (flow, n)
);

CREATE TABLE nodedefs (
    publisher   text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    version     text COLLATE "C" NOT NULL,
    document    text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (publisher, name, version)
);
