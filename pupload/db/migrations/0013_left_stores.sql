-- How to reach a store that a removed run had brought, as long as another run names an object in it.

CREATE TABLE left_stores (
    run_id     text NOT NULL,
    store      text NOT NULL,
    plan       json NOT NULL,
    encrypted  bytea NOT NULL,
    PRIMARY KEY (run_id, store)
);
