"""Nodes that ask, and functions of the caller's that answer."""

import pytest

from pupload.client import AsyncClient, Client, PausedResult, ToolCallLimitError, ToolResultsMismatch
from tests.acceptance.test_tools import ASK_FOR_EVER, ASK_ONCE, WEATHER, asking
from tests.support.shell_steps import a_request
from tests.support.system import System

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

ONCE, FOR_EVER = a_request(asking(ASK_ONCE)), a_request(asking(ASK_FOR_EVER))
RAIN = '[{"tool_call_id": "c1", "content": "rain in Oslo"}]'


def get_weather(city: str) -> str:
    return f"rain in {city}"


def test_a_function_answers_by_its_name(client: Client) -> None:
    result = client.run(ONCE, tools=[WEATHER], tool_handler={"get_weather": get_weather})
    assert str(result.values["out"]).strip().endswith(RAIN)
    stream = client.stream(ONCE, tools=[WEATHER], tool_handler=lambda call: f"rain in {call.arguments['city']}")
    assert [event.type for event in stream].count("tool_calls_required") == 1
    assert str(stream.result().values["out"]).strip().endswith(RAIN)


def test_without_a_function_the_run_pauses_and_is_resumed(client: Client) -> None:
    paused = client.run(ONCE, tools=[WEATHER])
    assert isinstance(paused, PausedResult)
    assert [(call.id, call.name) for call in paused.tool_calls["agent"]] == [("c1", "get_weather")]
    with pytest.raises(ToolResultsMismatch):
        paused.resume({"c2": "snow"})
    assert str(paused.resume({"c1": "snow"}).values["out"]).strip().endswith('"snow"}]')


def test_a_node_that_asks_too_often_ends_the_run(client: Client) -> None:
    with pytest.raises(ToolCallLimitError) as raised:
        client.run(FOR_EVER, tools=[WEATHER], tool_handler={"get_weather": get_weather}, max_tool_rounds=2)
    assert raised.value.rounds == 2
    assert client.job(raised.value.run_id).wait(90).status == "STOPPED"


def test_the_servers_own_limit_is_told_in_the_same_way(client: Client) -> None:
    with pytest.raises(ToolCallLimitError) as raised:
        client.run(FOR_EVER, tools=[WEATHER], tool_handler={"get_weather": get_weather})
    assert (raised.value.node_id, raised.value.rounds) == ("agent", 10)
    error = client.get_run(raised.value.run_id).error
    assert error is not None
    assert error.code == "TOOL_ITERATION_LIMIT"


def test_a_function_that_fails_ends_the_run(client: Client) -> None:
    def fails(city: str) -> str:
        raise LookupError(city)

    stream = client.stream(ONCE, tools=[WEATHER], tool_handler={"get_weather": fails})
    with pytest.raises(LookupError):
        list(stream)
    assert stream.result().status == "STOPPED"


async def test_a_coroutine_answers_too_but_nobody_who_has_left(system: System) -> None:
    async def weather(city: str) -> str:
        return get_weather(city)

    async with AsyncClient(system.url) as client:
        result = await client.run(ONCE, tools=[WEATHER], tool_handler={"get_weather": weather})
        assert str(result.values["out"]).strip().endswith(RAIN)
        with pytest.raises(TypeError, match="run_async does not wait"):
            await client.run_async(ONCE, tools=[WEATHER], tool_handler=weather)  # type: ignore[call-arg]
