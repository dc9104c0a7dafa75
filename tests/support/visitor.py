"""The system as a stranger meets it: plain HTTP by a library that knows nothing of us."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import requests

Json = dict[str, Any]

ENDED = frozenset({"COMPLETE", "ERROR", "STOPPED"})
LONGEST_S = 90.0
"""What a run of a test may take at most on any machine; no test measures by it."""
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream, as it came over the wire."""

    id: str
    event: str
    data: Json

    @property
    def node(self) -> str:
        """The node that it is about; "" for the run's own."""
        return str(self.data["NodeID"])


@dataclass(slots=True)
class Visitor:
    """Somebody with the server's address and nothing else."""

    url: str
    http: requests.Session = field(default_factory=requests.Session)
    made: list[str] = field(default_factory=list)
    """Ids of the runs that it asked for."""

    def __enter__(self) -> Self:
        self.http.trust_env = False
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def tidy(self) -> None:
        """Stop what it began and did not see to its end."""
        for run_id in self.made:
            self.http.post(f"{self.url}/api/v1/runs/{run_id}/cancel", timeout=60)

    def ask(self, method: str, path: str, *, status: int = 200, **how: Any) -> requests.Response:
        """The response, which has `status`; `path` may be a whole URL."""
        url = path if path.startswith("http") else self.url + path
        answer = self.http.request(method, url, **{"timeout": 60, "allow_redirects": False, **how})
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer

    def get(self, path: str, *, status: int = 200, **how: Any) -> Json:
        """The JSON object at `path`."""
        return dict(self.ask("GET", path, status=status, **how).json())

    def post(self, path: str, body: object = None, *, status: int = 200, **how: Any) -> Json:
        """The JSON object that came of posting `body`."""
        return dict(self.ask("POST", path, status=status, json=body, **how).json())

    def submit(self, request: Json, *, status: int = 200, **how: Any) -> Json:
        """What `/flow/test` makes of the request."""
        answer = self.post("/api/v1/flow/test", request, status=status, **how)
        if "ID" in answer:
            self.made.append(str(answer["ID"]))
        return answer

    def start(self, request: Json, **inputs: bytes) -> str:
        """The id of a run of the request; `inputs` go to the URLs that it awaits them at."""
        run = self.submit(request)
        for edge, content in inputs.items():
            self.upload(run, edge, content)
        return str(run["ID"])

    def complete(self, request: Json, **inputs: bytes) -> Json:
        """The run that came of the request, which ended well."""
        run = self.ended(self.start(request, **inputs))
        assert run["Status"] == "COMPLETE", told(run)
        return run

    def fail(self, request: Json, **inputs: bytes) -> Json:
        """The run that came of the request, which ended badly."""
        run = self.ended(self.start(request, **inputs))
        assert run["Status"] == "ERROR", told(run)
        return run

    def upload(self, run: Json, edge: str, content: bytes) -> None:
        """PUT the bytes where the run awaits them."""
        self.ask("PUT", put_url(run, edge), data=content)

    def status(self, run_id: str) -> Json:
        """The run by the reference route."""
        return self.get(f"/api/v1/flow/status/{run_id}")

    def run(self, run_id: str) -> Json:
        """The run by the native route."""
        return self.get(f"/api/v1/runs/{run_id}")

    def until(self, run_id: str, holds: Callable[[Json], bool]) -> Json:
        """The first answer about the run that `holds`."""
        deadline = time.monotonic() + LONGEST_S
        while not holds(run := self.status(run_id)):
            assert run["Status"] not in ENDED, f"it ended meanwhile: {told(run)}"
            assert time.monotonic() < deadline, f"it never held: {told(run)}"
            time.sleep(_POLL_S)
        return run

    def ended(self, run_id: str) -> Json:
        """The first answer that says that the run is over."""
        return self.until(run_id, lambda run: run["Status"] in ENDED)

    def await_workers(self, number: int) -> None:
        """Returns when as many workers are there."""
        self.eventually(lambda: sum(each["Live"] for each in self.get("/api/v1/workers")["Workers"]) >= number)

    @staticmethod
    def eventually(holds: Callable[[], bool]) -> None:
        """Returns when it holds; what takes longer than any machine needs fails."""
        deadline = time.monotonic() + LONGEST_S
        while not holds():
            assert time.monotonic() < deadline, "it never held"
            time.sleep(_POLL_S)

    def cancel(self, run_id: str) -> Json:
        """The run, asked to stop."""
        return self.post(f"/api/v1/runs/{run_id}/cancel")

    def artifact(self, run_id: str, edge: str) -> bytes:
        """The bytes of an edge, by way of the redirect."""
        redirect = self.ask("GET", f"/api/v1/runs/{run_id}/artifacts/{edge}", status=302)
        return self.ask("GET", redirect.headers["Location"]).content

    def logs(self, run_id: str, node: str) -> list[Json]:
        """Every log line of the node."""
        return list(self.get(f"/api/v1/runs/{run_id}/nodes/{node}/logs")["Logs"])

    def events(self, run_id: str, query: str = "") -> list[Frame]:
        """The run's events up to the point where the server closes."""
        with self.stream(run_id, query) as frames:
            return list(frames)

    @contextmanager
    def stream(
        self, run_id: str, query: str = "", headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[Frame]]:
        """The run's events as they come; `query` begins with its question mark."""
        path = f"/api/v1/runs/{run_id}/events{query}"
        with self.ask("GET", path, stream=True, headers=dict(headers or {})) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            yield frames_of(answer)


def frames_of(answer: requests.Response) -> Iterator[Frame]:
    """The events in a streamed answer; comments are no events."""
    members: dict[str, str] = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            members[name] = members[name] + "\n" + value if name in members else value
        elif not line and members:
            yield Frame(members.get("id", ""), members.get("event", ""), json.loads(members["data"]))
            members = {}


def put_url(run: Json, edge: str) -> str:
    """Where the run awaits the bytes of `edge`."""
    urls = {each["Artifact"]["EdgeName"]: each["PutURL"] for each in run["WaitingURLs"]}
    return str(urls[edge])


def told(run: Json) -> str:
    """What somebody who reads a failed test wants to know of a run."""
    nodes = {
        node: {name: state[name] for name in ("Status", "Error", "Attempt", "ExitCode", "PendingReason")}
        | {"Logs": [line["message"] for line in state["Logs"][-5:]]}
        for node, state in run["NodeState"].items()
        if state["Status"] != "COMPLETE"
    }
    return json.dumps(
        {name: run[name] for name in ("ID", "Status", "StatusReason", "Error")} | {"Nodes": nodes}, indent=1
    )


def statuses(run: Json) -> dict[str, str]:
    """The status of each node."""
    return {node: state["Status"] for node, state in run["NodeState"].items()}
