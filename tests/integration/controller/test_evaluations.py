"""Evaluations on a real controller, the workers' side played by hand."""

import json
from typing import Any

from tests.integration.controller.test_called_flows import keep, start, work
from tests.support.controller import ControllerUnderTest, HandWorker
from tests.support.flows import a_flow, a_node, documents
from tests.support.until import until_found

Json = dict[str, Any]
JUDGE = documents(a_flow(a_node("judge", reads={"in": "photo"}, writes={"out": "verdict"}), Name=""))
SHARP: Json = {"Name": "sharp", "Flow": "judge", "Inputs": {"photo": {"From": "output", "Edge": "out"}}}


async def keep_judged(controller: ControllerUnderTest, *evals: Json) -> None:
    """A flow that copies, with these evaluations, and the flow that judges it."""
    await keep(controller, "judge", JUDGE)
    await keep(controller, "copying", documents(a_flow(Name="", Evals=list(evals) or [SHARP])))


async def work_off(worker: HandWorker, content: bytes, content_type: str = "text/plain") -> str:
    """The run whose next attempt ended well with that content."""
    assignment = await work(worker)
    output = await worker.upload_output(assignment, content, content_type)
    await worker.finish(assignment.ref, outputs=[output.wire()], exit_code=0)
    return assignment.ref.run_id


async def evals_of(controller: ControllerUnderTest, run_id: str) -> list[Json]:
    """The run's evaluations by now."""
    return list((await controller.get(f"/api/v1/runs/{run_id}/evals"))["Evals"])


async def settled(controller: ControllerUnderTest, run_id: str) -> list[Json]:
    """The run's evaluations once none is pending."""

    async def over() -> list[Json]:
        found = await evals_of(controller, run_id)
        return found if all(each["Status"] != "pending" for each in found) else []

    found: list[Json] = await until_found(over)
    return found


async def test_an_ended_run_is_judged_by_a_run_of_its_own(controller: ControllerUnderTest) -> None:
    await keep_judged(controller)
    run = await start(controller, "copying", Inputs={"in": "hello"})
    assert [(each["Name"], each["Status"]) for each in await evals_of(controller, run)] == [("sharp", "pending")]
    worker = await controller.worker()
    assert await work_off(worker, b"copied") == run
    verdict = {"type": "pass_fail", "pass": True, "reason": "sharp enough"}
    judging = await work_off(worker, json.dumps(verdict).encode(), "application/json")
    (found,) = await settled(controller, run)
    assert (found["Status"], found["RunID"]) == ("done", judging)
    assert found["Verdict"] == {
        "Type": "pass_fail", "Pass": True, "Score": None, "Category": "", "Reason": "sharp enough"
    }  # fmt: skip
    judged = await controller.get(f"/api/v1/runs/{judging}")
    assert (judged["ParentRunID"], judged["RootRunID"]) == (run, run)
    assert await evals_of(controller, judging) == []


async def test_an_evaluation_that_says_nonsense_has_failed_and_the_run_has_not(
    controller: ControllerUnderTest,
) -> None:
    await keep_judged(controller)
    run = await start(controller, "copying", Inputs={"in": "hello"})
    worker = await controller.worker()
    await work_off(worker, b"copied")
    await work_off(worker, b'{"type": "metric"}', "application/json")
    (found,) = await settled(controller, run)
    assert (found["Status"], found["Verdict"]) == ("failed", None)
    assert "score" in found["Error"]
    assert (await controller.get(f"/api/v1/runs/{run}"))["Status"] == "COMPLETE"


async def test_an_evaluation_whose_run_fails_has_failed_and_the_run_has_not(controller: ControllerUnderTest) -> None:
    await keep_judged(controller)
    run = await start(controller, "copying", Inputs={"in": "hello"})
    worker = await controller.worker()
    await work_off(worker, b"copied")
    assignment = await work(worker)
    await worker.finish(assignment.ref, outcome="failed", reason="policy", message="no judge today")
    (found,) = await settled(controller, run)
    assert (found["Status"], found["RunID"]) == ("failed", assignment.ref.run_id)
    assert "no judge today" in found["Error"]
    assert (await controller.get(f"/api/v1/runs/{run}"))["Status"] == "COMPLETE"


async def test_a_run_that_failed_is_judged_only_where_the_evaluation_says_so(
    controller: ControllerUnderTest,
) -> None:
    given = SHARP | {"Name": "post-mortem", "On": ["ERROR"], "Inputs": {"photo": {"From": "input", "Edge": "in"}}}
    await keep_judged(controller, SHARP, given)
    run = await start(controller, "copying", Inputs={"in": "hello"})
    worker = await controller.worker()
    assignment = await work(worker)
    await worker.finish(assignment.ref, outcome="failed", reason="policy", message="it broke")
    await work_off(worker, b'{"type": "category", "category": "broken"}', "application/json")
    found = {each["Name"]: each["Status"] for each in await settled(controller, run)}
    assert found == {"sharp": "skipped", "post-mortem": "done"}
    assert (await controller.get(f"/api/v1/runs/{run}"))["Status"] == "ERROR"


async def test_a_request_picks_evaluations_or_skips_them(controller: ControllerUnderTest) -> None:
    by_hand = SHARP | {"Name": "by-hand", "AutoRun": False}
    external = SHARP | {"Name": "external", "Inputs": {"photo": {"From": "external", "Value": "a text"}}}
    await keep_judged(controller, SHARP, by_hand, external)
    for wish, names in (
        ({}, ["sharp", "external"]),
        ({"RunMode": "skip"}, []),
        ({"Runs": ["by-hand"]}, ["by-hand"]),
    ):
        run = await start(controller, "copying", Inputs={"in": "hello"}, Evals=wish)
        assert [each["Name"] for each in await evals_of(controller, run)] == names
    for wish, code in (({"Runs": ["blurred"]}, "EVAL_NOT_FOUND"), ({"RunMode": "later"}, "INVALID_RUN_MODE")):
        refused = await controller.post("/api/v1/flows/copying/runs", {"Evals": wish}, expect=422)
        assert refused["Error"]["Code"] == code


async def test_the_evaluations_of_an_unknown_run_are_not_found(controller: ControllerUnderTest) -> None:
    refused = await controller.get("/api/v1/runs/run_none/evals", expect=404)
    assert refused["Error"]["Code"] == "RUN_NOT_FOUND"
