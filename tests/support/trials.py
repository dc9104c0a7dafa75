"""One small run while the system is broken at one place: what a patient client does, and what must come of it."""

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from pupload.run.commands import TERMINAL_RECORDS
from tests.support.history import History, told_by
from tests.support.lane import Lane
from tests.support.shell_steps import Json, a_request, a_source, a_step
from tests.support.visitor import ENDED, frames_of, put_url, statuses, told
from tests.support.web_server import Reply, WebServer

LONGEST_S = 75.0
_ANSWER_S = 4.0
_POLL_S = 0.1
_numbers = itertools.count(1)

COPY = 'echo begun; sleep 0.3; echo x > /pup/session/made; cat "$INPUT_IN" > "$OUTPUT_OUT"; echo over'
ASK = """[ -f "$PUP_TOOL_RESULTS" ] && { cat "$PUP_TOOL_RESULTS" > "$OUTPUT_OUT"; exit 0; }
echo '[{"id": "c1", "name": "look", "arguments": {}}]' > "$PUP_TOOL_CALLS"; exit 85"""
LOOK: Json = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def a_pair() -> Json:
    """Two nodes in a row, from edge e0 to edge e2."""
    return a_request(
        a_step("a", COPY, reads={"in": "e0"}, writes={"out": "e1"}),
        a_step("b", reads={"in": "e1"}, writes={"out": "e2"}),
        Name="pair",
    )


@dataclass(slots=True)
class Client:
    """Somebody who asks until there is an answer, and notes what it was."""

    lane: Lane
    receiver: WebServer
    arm: Callable[[], None]
    timeout: str = "90s"
    history: History = field(default_factory=History)
    http: requests.Session = field(default_factory=requests.Session)
    hook: str = field(default_factory=lambda: f"/told-{next(_numbers)}")
    _followers: list[threading.Thread] = field(default_factory=list)

    def ask(self, method: str, path: str, *, fine: tuple[int, ...] = (), **how: Any) -> requests.Response:
        """The first answer that is no fault of the server's; `fine` are statuses that a repeated request may get."""
        deadline, last, self.http.trust_env = time.monotonic() + LONGEST_S, "", False
        url = path if path.startswith("http") else self.lane.url + path
        while True:
            assert time.monotonic() < deadline, f"{method} {path} was never answered: {last}"
            try:
                answer = self.http.request(method, url, timeout=_ANSWER_S, **how)
            except requests.RequestException as error:
                last = repr(error)
                self.lane.let_time_pass()
                time.sleep(_POLL_S)
                continue
            last = f"{answer.status_code} {answer.text[:500]}"
            if answer.status_code < 400 or answer.status_code in fine:
                return answer
            assert answer.status_code >= 500 or answer.status_code == 429, f"{method} {path}: {last}"
            time.sleep(_POLL_S)

    def start(self, request: Json, path: str = "/api/v1/runs", **members: Any) -> Json:
        """The run of the request, however often it had to be asked for."""
        key = f"key-{next(_numbers)}"
        body = {"Timeout": self.timeout, **request, **members}
        run = dict(self.ask("POST", path, json=body, headers={"Idempotency-Key": key}).json())
        self.history.note_posted(key, run["ID"])
        self._followers.append(threading.Thread(target=self._follow, args=[run["ID"]], daemon=True))
        self._followers[-1].start()
        return run

    def _follow(self, run_id: str) -> None:
        """Hear every event once, over as many connections as it takes."""
        last, over, deadline = "0", False, time.monotonic() + LONGEST_S
        while not over and time.monotonic() < deadline:
            try:
                with requests.get(
                    f"{self.lane.url}/api/v1/runs/{run_id}/events",
                    headers={"Last-Event-ID": last},
                    stream=True,
                    timeout=(_ANSWER_S, _ANSWER_S),
                ) as answer:
                    for frame in frames_of(answer) if answer.ok else ():
                        self.history.note_seen(run_id, frame)
                        last, over = frame.id, frame.event in {each.value for each in TERMINAL_RECORDS}
            except (requests.RequestException, json.JSONDecodeError):
                pass
            time.sleep(_POLL_S)

    def run(self, run_id: str) -> Json:
        """The run as it is."""
        return dict(self.ask("GET", f"/api/v1/runs/{run_id}").json())

    def until(self, run_id: str, holds: Callable[[Json], bool]) -> Json:
        """The first answer about the run that `holds`."""
        deadline = time.monotonic() + LONGEST_S
        while not holds(run := self.run(run_id)):
            assert time.monotonic() < deadline, f"it never held: {told(run)}"
            assert run["Status"] not in ENDED, f"it ended meanwhile: {told(run)}"
            time.sleep(_POLL_S)
        return run

    def ended(self, run_id: str) -> Json:
        """The run once it is over, and all that it told is heard."""
        run = self.until(run_id, lambda run: run["Status"] in ENDED)
        for follower in self._followers:
            follower.join(LONGEST_S)
        return run

    def hear(self) -> None:
        """Note the webhooks that came."""
        self.history.told = [told_by(each, json.loads(each.body)) for each in self.receiver.asked(self.hook)]

    def remove(self, run_id: str) -> None:
        """Nothing of the run is there any more."""
        self.ask("DELETE", f"/api/v1/runs/{run_id}", fine=(404,))
        self.history.note_removed(run_id)

    def close(self) -> None:
        """Hang up."""
        self.http.close()


def given(client: Client) -> str:
    """A run whose input comes with the request."""
    client.arm()
    return str(client.start(a_pair(), Inputs={"e0": "abc"})["ID"])


def uploaded(client: Client) -> str:
    """A run whose input is put to the store."""
    client.arm()
    run = client.start(a_pair())
    client.ask("PUT", put_url(run, "e0"), data=b"abc")
    return str(run["ID"])


def in_parts(client: Client) -> str:
    """A run whose input comes in parts."""
    client.arm()
    run = client.start(a_pair())
    path = f"/api/v1/runs/{run['ID']}/uploads/e0"
    session = f"{path}/{client.ask('POST', path, json={'Size': 3}).json()['ID']}"
    for part in client.ask("POST", f"{session}/parts", json={"Numbers": [1]}).json()["Parts"]:
        client.ask("PUT", part["PutURL"], data=b"abc")
    client.ask("POST", f"{session}/complete")
    return str(run["ID"])


def hooked(client: Client) -> str:
    """A run that somebody wants to hear of."""

    url = client.receiver.on(client.hook, Reply(204))
    client.arm()
    return str(client.start(a_pair(), Inputs={"e0": "abc"}, CallbackURL=url)["ID"])


def nested(client: Client) -> str:
    """A run that calls another flow."""
    if "called" not in client.lane.memory:
        client.ask("PUT", "/api/v1/flows/called", json=a_request(a_step(), Name=""))
        client.ask("POST", "/api/v1/flows/called/versions")
        client.lane.memory["called"] = "1"
    node = {"ID": "call", "Uses": "flow/called@1", "Inputs": [{"Name": "in", "Edge": "e0"}],
            "Outputs": [{"Name": "out", "Edge": "e2"}]}  # fmt: skip
    client.arm()
    return str(client.start({"Flow": {"Name": "caller", "Nodes": [node]}, "NodeDefs": []}, Inputs={"e0": "abc"})["ID"])


def asking(client: Client) -> str:
    """A run that goes on when its client has answered."""
    run = client.start(a_request(a_source("agent", ASK, AllowTools=True)), Tools=[LOOK])
    client.until(run["ID"], lambda now: bool(now["StatusReason"] == "tool_calls"))
    client.arm()
    results = {"tool_results": [{"tool_call_id": "c1", "content": "rain"}]}
    client.ask("POST", f"/api/v1/runs/{run['ID']}/resume", json=results, fine=(409,))
    return str(run["ID"])


def cancelled(client: Client) -> str:
    """A run that its client stops while it runs."""
    run = client.start(a_request(a_source("long", "echo begun; sleep 60", writes={})))
    client.until(run["ID"], lambda now: bool(now["NodeState"]["long"]["Logs"]))
    client.arm()
    answer = client.ask("POST", f"/api/v1/runs/{run['ID']}/cancel").json()
    client.history.note_cancelled(run["ID"], answer["Status"])
    return str(run["ID"])


def bereft(client: Client) -> str:
    """A run whose worker dies, and comes back as another."""
    run = client.start(a_request(a_source("slow", 'sleep 1; echo "$PUP_ATTEMPT" > "$OUTPUT_OUT"')))
    client.until(run["ID"], lambda now: statuses(now)["slow"] == "RUNNING")
    client.arm()
    client.lane.fleet.parts["left"].signal(signal.SIGKILL)
    return str(run["ID"])


def drained(client: Client) -> str:
    """A run whose worker is asked to end in the middle of it."""
    run = client.start(a_request(a_source("slow", 'sleep 1; echo "$PUP_ATTEMPT" > "$OUTPUT_OUT"')))
    client.until(run["ID"], lambda now: statuses(now)["slow"] == "RUNNING")
    client.arm()
    client.lane.fleet.parts["left"].signal(signal.SIGTERM)
    return str(run["ID"])


def greeted(client: Client) -> str:
    """A run that waits for a worker which only starts."""
    client.arm()
    client.lane.fleet.parts["left"].signal(signal.SIGKILL)
    return str(client.start(a_pair(), Inputs={"e0": "abc"})["ID"])


def unfamiliar(client: Client) -> str:
    """A run whose worker has only just begun, and has looked up no image yet."""
    client.lane.restart("left")
    client.arm()
    return str(client.start(a_pair(), Inputs={"e0": "abc"})["ID"])


def swept(client: Client) -> str:
    """A run whose leftovers are looked for."""
    run_id = given(client)
    client.ended(run_id)
    client.lane.let_time_pass()
    return run_id


def removed(client: Client) -> str:
    """A run that its client has removed."""
    run = client.start(a_pair(), Inputs={"e0": "abc"})
    client.ended(run["ID"])
    client.arm()
    client.remove(run["ID"])
    return str(run["ID"])


@dataclass(frozen=True, slots=True)
class Trial:
    """A place, what is done there, and during which run.

    `ends` is what the run comes to. `operator`: only somebody who restarts the process helps against a hang.
    """

    point: str
    action: str
    scenario: Callable[[Client], str]
    ends: str = "COMPLETE"
    code: str = ""
    operator: bool = False
    part: str = "left"

    def __str__(self) -> str:
        return f"{self.point}-{self.action}"


def attempt(trial: Trial, lane: Lane, receiver: WebServer) -> list[str]:
    """What was not as it must be."""
    before = lane.struck(trial.point)
    short = bool(trial.code)
    client = Client(lane, receiver, arm=lambda: lane.arm(trial.point, trial.action), timeout="6s" if short else "90s")
    try:
        run_id = trial.scenario(client)
        _await(lambda: lane.struck(trial.point) > before, f"{trial.point} was never reached")
        if trial.operator:
            lane.restart(trial.part)
        wrong = _ended_otherwise(trial, client, run_id)
        lane.disarm()
        client.hear()
        wrong += lane.violations(client.history)
        if trial.action == "hang" and not trial.operator:
            lane.restart(trial.part)
        for run in client.history.acknowledged - client.history.removed:
            client.remove(run)
        return wrong
    finally:
        lane.disarm()
        client.close()


def _ended_otherwise(trial: Trial, client: Client, run_id: str) -> list[str]:
    if run_id in client.history.removed:
        return []
    run = client.ended(run_id)
    came_to = (run["Status"], run["Error"].get("Code", ""))
    return [] if came_to == (trial.ends, trial.code) else [f"the run came to {came_to}: {told(run)}"]


def _await(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + LONGEST_S / 2
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(_POLL_S)
