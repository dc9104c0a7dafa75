"""What was kept before things had owners is the operator's from then on, whole."""

from importlib.resources import files

import asyncpg
import pytest

from pupload.db.sql import SQL

pytestmark = pytest.mark.integration

_OLD = """
INSERT INTO flows (name, draft, production) VALUES ('kept', '{}', 1);
INSERT INTO flow_versions (flow, n, documents, digest, images, warnings) VALUES ('kept', 1, '{}', 'd', '{}', '[]');
INSERT INTO nodedefs (publisher, name, version, document) VALUES ('pub', 'name', '', '{}');
INSERT INTO api_keys (id, name, secret_sha256, account) VALUES ('1', 'old', '', 'acc_1');
"""


async def test_flows_definitions_and_keys_are_carried_over(database_dsn: str) -> None:
    scripts = sorted(
        (each for each in files("pupload.db.migrations").iterdir() if each.name.endswith(".sql")), key=lambda e: e.name
    )
    connection = await asyncpg.connect(database_dsn)
    try:
        await connection.execute("CREATE SCHEMA earlier; SET search_path TO earlier")
        for script in scripts:
            if script.name.startswith("0014"):
                await connection.execute(_OLD)
            await connection.execute(script.read_text())
        for account in ("", "acc_1"):
            kept = await connection.fetchrow(SQL["resolve_flow"], account, "kept", "production", None)
            assert kept is not None
            assert (kept["account"], kept["n"], kept["digest"]) == ("", 1, "d")
            assert len(await connection.fetch(SQL["nodedefs_of"], account, ["pub"], ["name"])) == 1
        (key,) = await connection.fetch(SQL["list_keys"])
        assert (key["account"], sorted(key["scopes"])) == ("acc_1", ["files", "flow:write", "run:create", "run:read"])
        await connection.execute(SQL["put_draft"], "acc_1", "kept", "{}", None)
        mine = await connection.fetchrow(SQL["flow_header"], "acc_1", "kept")
        assert mine is not None
        assert (mine["account"], mine["newest"]) == ("acc_1", 0)
    finally:
        await connection.close()
