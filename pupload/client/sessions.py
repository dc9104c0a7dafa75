"""Sessions: what runs have in common."""

from collections.abc import Mapping

from pupload.answers.sessions import SessionAnswer, SessionPage
from pupload.client.how import Json, plain
from pupload.client.reading import path_of, query_of, read
from pupload.client.transport import Call, Transport


class AsyncSessions:
    """Calls about sessions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, variables: Mapping[str, Json] | None = None) -> SessionAnswer:
        """A new session; nodes of its runs find the variables in their environment."""
        call = Call("POST", path_of("sessions"), body={"Variables": plain(variables or {})}, repeatable=False)
        return read(SessionAnswer, await self._transport.json(call))

    async def get(self, session_id: str, *, limit: int = 100) -> SessionAnswer:
        """The session with its newest runs, and what was said in them."""
        call = Call("GET", path_of("sessions", session_id), query_of(limit=limit))
        return read(SessionAnswer, await self._transport.json(call))

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> SessionPage:
        """A page of sessions, newest first."""
        call = Call("GET", path_of("sessions"), query_of(limit=limit, cursor=cursor))
        return read(SessionPage, await self._transport.json(call))

    async def delete(self, session_id: str) -> None:
        """Remove the session with its folder; its runs stay."""
        await self._transport.json(Call("DELETE", path_of("sessions", session_id)))
