-- What keys may be used for, and whose things are.

-- A key that was made before could do all but what `admin` is for.
ALTER TABLE api_keys ADD COLUMN scopes text[] NOT NULL DEFAULT '{run:read,run:create,flow:write,files}';

CREATE INDEX runs_of_account ON runs (account, id);

-- Names are an account's own. What was kept before, by whomever, is the operator's now: everybody may use it.
ALTER TABLE flows ADD COLUMN account text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE flow_versions ADD COLUMN account text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE nodedefs ADD COLUMN account text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE flow_versions DROP CONSTRAINT flow_versions_flow_fkey, DROP CONSTRAINT flow_versions_pkey;
ALTER TABLE flows DROP CONSTRAINT flows_pkey, ADD PRIMARY KEY (account, name);
ALTER TABLE flow_versions
    ADD PRIMARY KEY (account, flow, n),
    ADD FOREIGN KEY (account, flow) REFERENCES flows (account, name);
ALTER TABLE nodedefs DROP CONSTRAINT nodedefs_pkey, ADD PRIMARY KEY (account, publisher, name, version);
