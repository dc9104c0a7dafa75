"""A deployment under load: every process is told to end and started again, in turn, while the SDK's clients work on."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pupload.client import Client
from tests.support.history import History
from tests.support.shell_steps import Json, a_chain, a_fan, a_request, a_step
from tests.support.soak.ground import Ground, eventually
from tests.support.soak.nemesis import drain
from tests.support.soak.schedule import Strike, Struck

_LONGEST_S = 600.0
_AT_WORK = re.compile(r" listening on http| serves Capacity\(")
_PAUSE_S = 3.0


@dataclass(slots=True)
class Users:
    """Programs that use the SDK as its page says, one thread each. `wrong` is whatever they were not spared."""

    url: str
    key: str
    folder: Path
    history: History = field(default_factory=History)
    begun: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, number: int, seed: int, pause_s: tuple[float, float]) -> None:
        """So many of them begin."""
        for each in range(number):
            chance = random.Random(seed * 1000 + each)
            self._threads.append(threading.Thread(target=self._work, args=[chance, pause_s], daemon=True))
            self._threads[-1].start()

    def _work(self, chance: random.Random, pause_s: tuple[float, float]) -> None:
        with Client(self.url, self.key) as client:
            while not self._over.wait(chance.uniform(*pause_s)):
                use = chance.choice(USES)
                self.begun[use.__name__.strip("_").replace("_", " ")] += 1
                try:
                    run_id, status = use(self, client, chance)
                except Exception as error:  # noqa: BLE001 - told as what it is: what the SDK did not spare its user
                    self.wrong.append(f"{use.__name__}: {error!r}")
                    continue
                self.history.note_posted(f"{run_id}", run_id)
                if status != "COMPLETE":
                    self.wrong.append(f"run {run_id} came to {status}")

    def finish(self) -> None:
        """Returns when all that they began is over."""
        self._over.set()
        for thread in self._threads:
            thread.join(_LONGEST_S)
            if thread.is_alive():
                self.wrong.append("a run never came to its end")


def _flow(request: Json) -> tuple[Json, list[Json]]:
    return request["Flow"], request["NodeDefs"]


def _slow(chance: random.Random) -> Json:
    """Two nodes in a row that take some seconds each."""
    script = f'sleep {chance.uniform(1, 8):.1f}; cat "$INPUT_IN" > "$OUTPUT_OUT"'
    steps = [a_step(f"n{i}", script, reads={"in": f"e{i}"}, writes={"out": f"e{i + 1}"}) for i in range(2)]
    return a_request(*steps, Name="slow")


def _waits(_: Users, client: Client, chance: random.Random) -> tuple[str, str]:
    flow, defs = _flow(a_chain(chance.randint(2, 4)))
    result = client.run(flow, {"e0": "abc"}, nodedefs=defs)
    return result.run.id, result.status


def _waits_long(_: Users, client: Client, chance: random.Random) -> tuple[str, str]:
    flow, defs = _flow(_slow(chance))
    result = client.run(flow, {"e0": "abc"}, nodedefs=defs)
    return result.run.id, result.status


def _polls(_: Users, client: Client, chance: random.Random) -> tuple[str, str]:
    flow, defs = _flow(a_fan(chance.randint(2, 4)))
    job = client.run_async(flow, {"in": "abc"}, nodedefs=defs)
    while job.poll().finished_at is None:
        time.sleep(0.5)
    return job.id, job.result().status


def _follows(_: Users, client: Client, chance: random.Random) -> tuple[str, str]:
    flow, defs = _flow(_slow(chance))
    stream = client.stream(flow, {"e0": "abc"}, nodedefs=defs)
    heard = [event.seq for event in stream]
    assert heard == list(range(1, len(heard) + 1)), f"run {stream.run_id}: heard {heard}"
    return stream.run_id, stream.result().status


def _uploads(users: Users, client: Client, chance: random.Random) -> tuple[str, str]:
    flow, defs = _flow(a_chain(2))
    job = client.run_async(flow, nodedefs=defs)
    path = users.folder / f"{job.id}.bin"
    path.write_bytes(chance.randbytes(6 * 1024**2))
    client.upload(job.id, "e0", path, part_size=5 * 1024**2)
    result = job.wait(timeout_s=_LONGEST_S)
    result.outputs["e2"].download(path.with_suffix(".back"))
    assert path.with_suffix(".back").read_bytes() == path.read_bytes(), f"run {job.id} gave other bytes"
    path.unlink()
    return job.id, result.status


USES: list[Callable[[Users, Client, random.Random], tuple[str, str]]] = [
    _waits, _waits_long, _polls, _follows, _uploads,
]  # fmt: skip


def roll(ground: Ground, seconds: float, say: Callable[[str], None]) -> list[Struck]:
    """Restart all that there is, one after the other, again and again for so long: told to end, waited for, begun."""
    began, done = time.monotonic(), list[Struck]()
    while True:
        for name in ground.fleet.parts:
            at_s, started = time.monotonic() - began, time.time()
            if at_s > seconds:
                return done
            _restart(ground, name)
            took_s = time.time() - started
            say(f"{at_s:6.1f} s  {name} restarted in {took_s:.1f} s")
            done.append(Struck(Strike(round(at_s, 1), "restarted", name, round(took_s, 1)), started, time.time()))
            time.sleep(_PAUSE_S)


def _restart(ground: Ground, name: str) -> None:
    """Returns when the process is ready for work again."""
    before = _starts(ground, name)
    with ground.struck(name):
        drain(ground, name)
    eventually(lambda: _starts(ground, name) > before, f"{name} is not at work")


def _starts(ground: Ground, name: str) -> int:
    """How often the process was ready for work so far."""
    return len(_AT_WORK.findall(ground.part(name).log))
