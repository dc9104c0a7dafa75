"""Clients who use all that there is, ask until they are answered, and note what they heard.

Each works on a thread of its own, one run after the other; how many they are bounds the load.
"""

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import requests

from pupload.run.commands import TERMINAL_RECORDS
from tests.support.history import History, told_by
from tests.support.shell_steps import Json, a_chain, a_fan, a_request, a_source, a_step
from tests.support.soak.ground import Ground
from tests.support.visitor import ENDED, frames_of, put_url
from tests.support.web_server import Reply

TIMEOUT_S = 240
_ANSWER_S = 10.0
_LONGEST_S = TIMEOUT_S + 120.0
_HOOK = "/told"
_OVER = frozenset(each.value for each in TERMINAL_RECORDS)
_MB = 1024**2
_LOOK: Json = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}
_ASK = """[ -f "$PUP_TOOL_RESULTS" ] && { cat "$PUP_TOOL_RESULTS" > "$OUTPUT_OUT"; exit 0; }
echo '[{"id": "c1", "name": "look", "arguments": {}}]' > "$PUP_TOOL_CALLS"; exit 85"""
_BIG = f'dd if=/dev/urandom of="$OUTPUT_OUT" bs=64k count={_MB // 65536} 2>/dev/null; sleep 1'
_PUBLISHED = "soak-called"

FAILING = frozenset({"flaky", "bad"})
"""Flows whose nodes fail by themselves."""


@dataclass(slots=True)
class Load:
    """What all clients have in common. `wrong` are answers that no client should get."""

    ground: Ground
    urls: Sequence[str]
    say: Callable[[str], None]
    history: History = field(default_factory=History)
    begun: Counter[str] = field(default_factory=Counter)
    asked_again: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _keys: Iterator[int] = field(default_factory=itertools.count)

    def start(self, clients: int, seed: int, pause_s: tuple[float, float]) -> None:
        """So many clients begin, each with chances of its own."""
        self.ground.receiver.on(_HOOK, self._receiver(random.Random(seed)))
        Client(self, random.Random(seed)).publish()
        for number in range(clients):
            self.begin(f"client {number}", Client(self, random.Random(seed * 1000 + number), pause_s).work)

    def begin(self, name: str, work: Callable[..., None], *arguments: object) -> None:
        """Work on a thread of its own, which `finish` waits for."""
        thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _receiver(chance: random.Random) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            Reply(500 if chance.random() < 0.25 else 204)(handler)

        return answer

    @property
    def is_over(self) -> bool:
        """True when nobody is to begin anything any more."""
        return self._over.is_set()

    def rest(self, seconds: float) -> None:
        """Wait so long, less when it is over."""
        self._over.wait(seconds)

    def next_key(self) -> str:
        """An idempotency key that nobody has used."""
        return f"soak-{next(self._keys)}"

    def finish(self) -> None:
        """Returns when all that was begun has come to its end for those who began it."""
        self._over.set()
        for thread in self._threads:
            thread.join(_LONGEST_S * 2)
            if thread.is_alive():
                self.wrong.append(f"{thread.name} never came to its end")

    def hear(self) -> None:
        """Note the webhooks that came so far."""
        self.history.told = [told_by(each, json.loads(each.body)) for each in self.ground.receiver.asked(_HOOK)]


@dataclass(slots=True)
class Client:
    """Somebody with the addresses of all controllers, who asks the next one when one does not answer."""

    load: Load
    chance: random.Random
    pause_s: tuple[float, float] = (0.0, 0.0)
    http: requests.Session = field(default_factory=requests.Session)
    turn: int = 0

    def work(self) -> None:
        """Begin runs of every sort until it is over."""
        while not self.load.is_over:
            sort = self.chance.choices(list(SORTS), weights=list(SORTS.values()))[0]
            self.load.begun[sort.__name__.strip("_").replace("_", " ")] += 1
            try:
                sort(self)
            except Exception as error:  # noqa: BLE001 - told as what it is: an answer that no client should get
                self.load.wrong.append(f"{sort.__name__}: {error!r}")
            self.load.rest(self.chance.uniform(*self.pause_s))
        self.http.close()

    def ask(self, method: str, path: str, *, fine: tuple[int, ...] = (), **how: Any) -> requests.Response:
        """The first answer that is no fault of the server's; `fine` are statuses that a repeated request may get."""
        deadline, self.http.trust_env = time.monotonic() + _LONGEST_S, False
        while True:
            whole = path.startswith("http")
            url, headers = (path, {}) if whole else (self.url + path, self.load.ground.headers)
            given = {**how, "headers": {**headers, **how.get("headers", {})}}
            try:
                answer = self.http.request(method, url, **{"timeout": _ANSWER_S, "allow_redirects": False, **given})
            except requests.RequestException as error:
                last = type(error).__name__
            else:
                last = f"{answer.status_code}"
                if answer.status_code < 400 or answer.status_code in fine:
                    return answer
                if answer.status_code < 500 and answer.status_code != 429:
                    raise AssertionError(f"{method} {path}: {last} {answer.text[:500]}")
            assert time.monotonic() < deadline, f"{method} {path} was never answered: {last}"
            self.load.asked_again[last] += 1
            self.turn += 1
            time.sleep(self.chance.uniform(0.1, 1.0))

    @property
    def url(self) -> str:
        """The controller that it speaks to now."""
        return self.load.urls[self.turn % len(self.load.urls)]

    def start(self, request: Json, path: str = "/api/v1/runs", **members: Any) -> Json:
        """The run of the request. It is posted more than once at times, and its answer is not always waited for."""
        key = self.load.next_key()
        body = {"Timeout": f"{TIMEOUT_S}s", **request, **members}
        if self.chance.random() < 0.2:
            self._post_and_hang_up(path, body, key)
        run = self._posted(path, body, key)
        if self.chance.random() < 0.15:
            again = self._posted(path, body, key)
            assert again["ID"] == run["ID"], f"one key made {run['ID']} and {again['ID']}"
        if self.chance.random() < 0.7:
            self.load.begin("listener", self._listen, run["ID"], self.chance.random())
        return run

    def _post_and_hang_up(self, path: str, body: Json, key: str) -> None:
        headers = {**self.load.ground.headers, "Idempotency-Key": key}
        try:
            requests.post(self.url + path, json=body, headers=headers, timeout=self.chance.uniform(0.002, 0.1))
        except requests.RequestException:
            self.load.asked_again["hung up"] += 1

    def _posted(self, path: str, body: Json, key: str) -> Json:
        run = dict(self.ask("POST", path, json=body, headers={"Idempotency-Key": key}).json())
        self.load.history.note_posted(key, run["ID"])
        return run

    def _listen(self, run_id: str, patience: float) -> None:
        """Hear every event once, over as many connections as it takes; the impatient hang up themselves."""
        last, over, deadline = "0", False, time.monotonic() + _LONGEST_S * 2
        chance, history, load = random.Random(run_id), self.load.history, self.load
        while not over and time.monotonic() < deadline and run_id not in history.removed:
            url = f"{chance.choice(list(load.urls))}/api/v1/runs/{run_id}/events"
            most = chance.randint(1, 12) if patience < 0.5 else 10**9
            try:
                headers = {**load.ground.headers, "Last-Event-ID": last}
                with requests.get(url, headers=headers, stream=True, timeout=(_ANSWER_S, 30)) as answer:
                    for frame in itertools.islice(frames_of(answer), most) if answer.ok else ():
                        history.note_seen(run_id, frame)
                        last, over = frame.id, frame.event in _OVER
            except (requests.RequestException, json.JSONDecodeError):
                load.asked_again["stream"] += 1
            time.sleep(0.2)

    def run(self, run_id: str) -> Json:
        """The run as it is."""
        return dict(self.ask("GET", f"/api/v1/runs/{run_id}").json())

    def until(self, run_id: str, holds: Callable[[Json], bool]) -> Json:
        """The first answer about the run that `holds`, or that says that it is over; the last one when time is up."""
        deadline = time.monotonic() + _LONGEST_S
        while True:
            run = self.run(run_id)
            if holds(run) or run["Status"] in ENDED or time.monotonic() > deadline:
                return run
            time.sleep(0.7)

    def ended(self, run_id: str) -> Json:
        """The run, once it is over."""
        return self.until(run_id, lambda _: False)

    def expect(self, run_id: str, edge: str, content: bytes) -> None:
        """The run comes to its end, and if that is a good one, the edge has this content."""
        if self.ended(run_id)["Status"] != "COMPLETE":
            return
        redirect = self.ask("GET", f"/api/v1/runs/{run_id}/artifacts/{edge}")
        found = self.ask("GET", redirect.headers["Location"], timeout=60).content
        if found != content:
            self.load.wrong.append(f"run {run_id}: edge {edge} has {found[:80]!r}…, not {content[:80]!r}…")

    def publish(self) -> None:
        """The flow that others call."""
        self.ask("PUT", f"/api/v1/flows/{_PUBLISHED}", json=a_request(a_step(), Name=""))
        self.ask("POST", f"/api/v1/flows/{_PUBLISHED}/versions")


Sort = Callable[[Client], None]


def _chain(client: Client) -> None:
    length = client.chance.randint(2, 4)
    client.expect(client.start(a_chain(length), Inputs={"e0": "abc"})["ID"], f"e{length}", b"abc")


def _fan(client: Client) -> None:
    width = client.chance.randint(2, 4)
    joined = "".join(f"abc{n}\n" for n in range(width)).encode()
    client.expect(client.start(a_fan(width), Inputs={"in": "abc"})["ID"], "out", joined)


def _slow_chain(client: Client) -> None:
    script = 'sleep 3; cat "$INPUT_IN" > "$OUTPUT_OUT"'
    steps = [a_step(f"n{i}", script, reads={"in": f"e{i}"}, writes={"out": f"e{i + 1}"}) for i in range(2)]
    client.ended(client.start(a_request(*steps, Name="slow"), Inputs={"e0": "abc"})["ID"])


def _big_files(client: Client) -> None:
    steps = a_source("make", _BIG, writes={"out": "e1"}), a_step(reads={"in": "e1"}, writes={"out": "e2"})
    client.ended(client.start(a_request(*steps, Name="big"))["ID"])


def _heals_at_second_try(client: Client) -> None:
    script = '[ "$PUP_ATTEMPT" -gt 1 ] || exit 3; echo done > "$OUTPUT_OUT"'
    client.ended(client.start(a_request(a_source("flaky", script, Retry={"Delay": "200ms"}), Name="flaky"))["ID"])


def _always_fails(client: Client) -> None:
    script = client.chance.choice(["exit 1", "kill -SEGV $$", "sleep 60", "echo no output"])
    step = a_source("bad", script, MaxAttempts=2, Timeout="3s", Retry={"Delay": "200ms"})
    good = a_source("good", 'echo x > "$OUTPUT_OUT"', writes={"out": "other"})
    client.ended(client.start(a_request(step, good, Name="bad"))["ID"])


def _goes_on_without(client: Client) -> None:
    """A node that may fail, and one that takes what there is."""
    script = 'if [ -f "$INPUT_MAYBE" ]; then cat "$INPUT_MAYBE"; else echo none; fi > "$OUTPUT_OUT"'
    may = a_source("may", "true", writes={"out": "maybe"}, Outputs=[{"Name": "out", "Required": False}])
    takes = a_step(
        "takes", script, reads={"maybe": "maybe"}, Inputs=[{"Name": "maybe", "Required": False}], writes={"out": "out"}
    )
    client.ended(client.start(a_request(may, takes, Name="optional"))["ID"])


def _is_cancelled(client: Client) -> None:
    run_id = str(client.start(a_request(a_source("long", "echo begun; sleep 40", writes={}), Name="long"))["ID"])
    time.sleep(client.chance.uniform(0, 6))
    answer = client.ask("POST", f"/api/v1/runs/{run_id}/cancel").json()
    client.load.history.note_cancelled(run_id, answer["Status"])
    client.ended(run_id)


def _is_removed(client: Client) -> None:
    run_id = str(client.start(a_chain(2), Inputs={"e0": "abc"})["ID"])
    if client.ended(run_id)["Status"] in ENDED:
        client.ask("DELETE", f"/api/v1/runs/{run_id}", fine=(404,))
        client.load.history.note_removed(run_id)


def _uploads(client: Client) -> None:
    run, content = client.start(a_chain(2)), client.chance.randbytes(client.chance.randint(1, 300_000))
    client.ask("PUT", put_url(run, "e0"), data=content)
    client.expect(run["ID"], "e2", content)


def _uploads_in_parts(client: Client) -> None:
    run, content = client.start(a_chain(2)), client.chance.randbytes(5 * _MB + 100)
    path = f"/api/v1/runs/{run['ID']}/uploads/e0"
    # rclone has forgotten parts when it was killed (404), and takes none twice whose answer was lost (501).
    while not _sent_in_parts(client, path, content):
        pass
    client.expect(run["ID"], "e2", content)


def _sent_in_parts(client: Client, path: str, content: bytes) -> bool:
    """False when the store takes no more of this upload."""
    begun = client.ask("POST", path, json={"Size": len(content), "PartSize": "5mb"}).json()
    session = f"{path}/{begun['ID']}"
    for part in client.ask("POST", f"{session}/parts", json={"Numbers": [1, 2]}).json()["Parts"]:
        first = (int(part["Number"]) - 1) * 5 * _MB
        data = content[first : first + 5 * _MB]
        if not client.ask("PUT", part["PutURL"], data=data, timeout=60, fine=(404, 501)).ok:
            return False
    done = client.ask("POST", f"{session}/complete", fine=(409,))
    assert done.ok or done.json()["Error"]["Code"] == "UPLOAD_ENDED", done.text
    return done.ok


def _tells_by_webhook(client: Client) -> None:
    url = client.load.ground.receiver.url + _HOOK
    client.ended(client.start(a_chain(2), Inputs={"e0": "abc"}, CallbackURL=url)["ID"])


def _calls_a_flow(client: Client) -> None:
    node = {"ID": "call", "Uses": f"flow/{_PUBLISHED}@1", "Inputs": [{"Name": "in", "Edge": "e0"}],
            "Outputs": [{"Name": "out", "Edge": "e2"}]}  # fmt: skip
    client.ended(
        client.start({"Flow": {"Name": "caller", "Nodes": [node]}, "NodeDefs": []}, Inputs={"e0": "abc"})["ID"]
    )


def _asks_its_client(client: Client) -> None:
    run_id = client.start(a_request(a_source("agent", _ASK, AllowTools=True), Name="agent"), Tools=[_LOOK])["ID"]
    now = client.until(run_id, lambda run: bool(run["StatusReason"] == "tool_calls"))
    if now["Status"] not in ENDED:
        results = {"tool_results": [{"tool_call_id": "c1", "content": "rain"}]}
        client.ask("POST", f"/api/v1/runs/{run_id}/resume", json=results, fine=(409,))
    client.ended(run_id)


def _keeps_a_session(client: Client) -> None:
    """Two runs, one after the other, in one folder, to which each adds a line."""
    script = 'echo x >> /pup/session/made; cat /pup/session/made > "$OUTPUT_OUT"'
    session = client.ask("POST", "/api/v1/sessions", json={}).json()["ID"]
    for number in range(2):
        run = client.start(a_request(a_source("sit", script), Name="sit"), SessionID=session)
        client.expect(run["ID"], "out", b"x\n" * (number + 1))


SORTS: dict[Sort, int] = {
    _chain: 4,
    _fan: 3,
    _slow_chain: 4,
    _big_files: 2,
    _heals_at_second_try: 2,
    _always_fails: 2,
    _goes_on_without: 1,
    _is_cancelled: 2,
    _is_removed: 1,
    _uploads: 2,
    _uploads_in_parts: 1,
    _tells_by_webhook: 2,
    _calls_a_flow: 2,
    _asks_its_client: 1,
    _keeps_a_session: 1,
}
"""What runs are begun, and how often each sort."""
