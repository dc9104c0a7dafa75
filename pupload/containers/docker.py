"""The Docker engine behind awaitable calls: the SDK's low-level client on threads of its own.

Every call has a deadline. What the engine refuses is a `Refused` with its status; an engine that does not answer is
`EngineUnavailable`. Nothing here decides what a failure means for an attempt.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException
from docker.transport import UnixHTTPAdapter
from docker.utils import kwargs_from_env, parse_host

from pupload.containers.spec import ContainerSpec, container_config
from pupload.containers.state import ContainerState, EngineInfo
from pupload.containers.streams import Attached, Sink, StreamBroken, Watch
from pupload.errors import EngineUnavailable, PuploadError
from pupload.failpoints import reach

CALL_S = 30.0
REMOVAL_S = 60.0
_SDK_TIMEOUT_S = 60
KILL_S = 15.0
UNREACHABLE_S = 60.0
_THREADS_PER_CONTAINER = 3

log = logging.getLogger(__name__)

T = TypeVar("T")
S = TypeVar("S", Watch, Attached)


class Refused(PuploadError):
    """The engine answered, and said no. `status` is its HTTP status."""

    code = "ENGINE_REFUSED"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NameTaken(PuploadError):
    """The container's name is held by a container that is not ours."""

    code = "NAME_TAKEN"


class _OnePool(UnixHTTPAdapter):
    """The SDK keeps one pool of connections for each URL, so none is ever used again; this keeps one for all."""

    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ARG002 - the signature is the library's
        return super().get_connection("engine", proxies)


def _connect(host: str | None, connections: int) -> docker.APIClient:
    told = kwargs_from_env()
    if host:
        told["base_url"] = host
    client = docker.APIClient(version="auto", timeout=_SDK_TIMEOUT_S, max_pool_size=connections, **told)
    if client.base_url.startswith("http+docker://"):
        socket = str(parse_host(told.get("base_url")))
        client.mount("http+docker://", _OnePool(socket, _SDK_TIMEOUT_S, max_pool_size=connections))
        # No proxy leads to a socket: looking for one in the environment is half of what a call takes.
        client.trust_env = False
    return client


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise Refused(error.status_code or 500, str(error.explanation or error)) from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"the Docker engine did not answer to {what}: {error}") from error


class Engine:
    """A Docker engine. Made by `connect`; `close` lets go of its threads and connections."""

    def __init__(self, client: docker.APIClient, threads: ThreadPoolExecutor, info: EngineInfo) -> None:
        self._client = client
        self._threads = threads
        self._open: set[Watch | Attached] = set()
        self.info = info

    @classmethod
    async def connect(cls, host: str | None = None, *, containers: int = 16) -> "Engine":
        """The engine at `host`, or where the environment says, ready for that many containers at once."""
        size = _THREADS_PER_CONTAINER * containers + 8
        threads = ThreadPoolExecutor(size, thread_name_prefix="docker")
        loop = asyncio.get_running_loop()

        def connect() -> tuple[docker.APIClient, EngineInfo]:
            with _translated("connect"):
                client = _connect(host, size)
                info = EngineInfo.told(client.info())
                at_hand = client.base_url.startswith("http+docker://")
                return client, info if at_hand else replace(info, folder="")

        try:
            client, info = await loop.run_in_executor(threads, connect)
        except BaseException:
            threads.shutdown(wait=False)
            raise
        return cls(client, threads, info)

    async def close(self) -> None:
        """End every open stream and the threads that read them."""
        for stream in list(self._open):
            stream.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def call(self, what: str, ask: Callable[[docker.APIClient], T], deadline_s: float | None = None) -> T:
        """The result of `ask`, run on a thread of the engine's own, within 30 s unless told otherwise.

        Errors: Refused; EngineUnavailable, also when the deadline passes.
        """

        def asked() -> T:
            with _translated(what):
                return ask(self._client)

        within_s = CALL_S if deadline_s is None else deadline_s
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        except TimeoutError as error:
            raise EngineUnavailable(f"the Docker engine did not answer to {what} in {within_s:g} s") from error

    async def call_aside(self, what: str, ask: Callable[[docker.APIClient], T]) -> T:
        """As `call`, on a thread of its own and without a deadline: for what takes long, and ends by other means.

        Nothing waits for the thread when the program ends.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T] = loop.create_future()

        def tell(answer: Callable[[], None]) -> None:
            # The loop may be gone, and whoever waited may be.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: None if answered.done() else answer())

        def asked() -> None:
            try:
                with _translated(what):
                    result = ask(self._client)
            except Exception as error:  # noqa: BLE001 - it goes to whoever waits
                told = error
                tell(lambda: answered.set_exception(told))
            else:
                tell(lambda: answered.set_result(result))

        threading.Thread(target=asked, name=f"docker {what}", daemon=True).start()
        return await answered

    async def ping(self) -> None:
        """Return when the engine answers."""
        await self.call("ping", lambda client: client.ping())

    async def create(self, spec: ContainerSpec) -> str:
        """The id of the container made of `spec`.

        A container of that name is adopted when it was never started and every label is ours: it is what an answer
        that got lost has made.
        Errors: NameTaken; Refused (404: no such image).
        """
        body = container_config(spec, self.info.cores)
        try:
            made = await self.call("create", lambda c: c.create_container_from_config(body, spec.name))  # type: ignore[no-untyped-call]
        except Refused as refused:
            if refused.status != 409:
                raise
            return await self._adopt(spec)
        await reach("container.made")
        return str(made["Id"])

    async def _adopt(self, spec: ContainerSpec) -> str:
        found = await self.inspect(spec.name)
        if found is not None and found.status == "created" and _ours(found, spec.labels):
            return found.id
        holder = f"{found.id[:12]}, {found.status}" if found else "gone now"
        raise NameTaken(f"the container name {spec.name} is held by a container that is not ours ({holder})")

    async def attach(self, container: str, sink: Sink) -> Attached:
        """The container's output, from now on, given to `sink` on a thread. Attach before the start."""
        wishes = {"stream": 1, "stdout": 1, "stderr": 1}
        response = await self._stream("attach", container, wishes, read_s=None)
        return self._keep(Attached(response, sink, self._threads))

    async def follow(self, container: str, sink: Sink, since: float) -> Attached:
        """The container's output from the engine's own notes, from `since` on and as long as it runs.

        For a stream that broke: the notes are short, and a line at the seam may be missing.
        Units: `since` in seconds since 1970.
        """
        wishes = {"follow": 1, "stdout": 1, "stderr": 1, "since": f"{since:.9f}"}
        response = await self._stream("logs", container, wishes, read_s=None)
        return self._keep(Attached(response, sink, self._threads))

    async def watch(self, container: str) -> Watch:
        """A wait for the exit of a container that was started; answered at once when it has ended."""
        response = await self._stream("wait", container, {"condition": "not-running"}, read_s=UNREACHABLE_S)
        return self._keep(Watch(response, self._threads))

    async def _stream(
        self, verb: str, container: str, wishes: Mapping[str, Any], read_s: float | None
    ) -> requests.Response:
        made = list[requests.Response]()
        unwanted = threading.Event()

        def ask(client: docker.APIClient) -> requests.Response:
            url = f"{client.base_url}/v{client.api_version}/containers/{container}/{verb}"
            method = "GET" if verb == "logs" else "POST"
            response = client.request(method, url, params=wishes, stream=True, timeout=(CALL_S, read_s))
            made.append(response)
            if unwanted.is_set():
                response.close()
            if response.status_code >= 300:
                raise Refused(response.status_code, _said(response))
            return response

        try:
            return await self.call(verb, ask)
        except BaseException:
            # The thread goes on; what it gets when nobody waits for it any more would stay open.
            unwanted.set()
            for response in made:
                response.close()
            raise

    def _keep(self, stream: S) -> S:
        self._open.add(stream)
        stream.on_close(lambda: self._open.discard(stream))
        return stream

    async def start(self, container: str) -> None:
        """Start the container.

        Errors: Refused when it did not start; the message is the engine's.
        """
        try:
            await self.call("start", lambda client: client.start(container))
        except (Refused, EngineUnavailable):
            # The answer may have been lost, or be about a start that went through.
            state = await self.inspect(container)
            if state is None or not (state.status == "running" or state.ended):
                raise

    async def inspect(self, container: str) -> ContainerState | None:
        """What the engine knows of the container, by id or name; None when there is none."""
        try:
            return ContainerState.inspected(
                await self.call("inspect", lambda client: client.inspect_container(container))
            )
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    async def until_exit(self, container: str) -> ContainerState | None:
        """The state after the exit of a container that was started; None when it is gone.

        A broken or silent stream is not an exit: the engine is asked, and a new wait begun.
        Errors: EngineUnavailable when it did not answer for 60 s.
        """
        patience = _Patience()
        while True:
            try:
                watch = await patience.hear(lambda: self.watch(container))
            except Refused as refused:
                if refused.status == 404:
                    return None
                raise
            try:
                await watch.answer()
            except StreamBroken as broken:
                # An engine that ends takes its streams along; where others hold its socket, it is back unnoticed.
                patience.was_away |= not broken.silent
                await asyncio.sleep(0.05)
            finally:
                watch.close()
            state = await patience.hear(lambda: self.inspect(container))
            if state is None or state.ended:
                return state and replace(state, interrupted=patience.was_away)

    async def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send `signal`; a container that is not running is fine."""
        try:
            await self.call("kill", lambda client: client.kill(container, signal), KILL_S)
        except Refused as refused:
            if refused.status not in {404, 409}:
                raise

    def kill_all(self, containers: Sequence[str]) -> None:
        """Kill what still runs of these, on the thread of the caller: for when the event loop does not turn.

        A container that the engine does not kill is logged and left.
        """
        for container in containers:
            try:
                with _translated("kill"):
                    self._client.kill(container, "SIGKILL")
            except (Refused, EngineUnavailable) as error:
                log.info("container %s was not killed: %s", container, error)

    async def remove(self, container: str) -> None:
        """Return when the container and its volumes are gone.

        Errors: EngineUnavailable when they are not after 60 s.
        """
        try:
            async with asyncio.timeout(REMOVAL_S):
                while not await self._removed(container):  # noqa: ASYNC110 - the engine gives no event to wait for
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            raise EngineUnavailable(f"container {container[:12]} is not gone after {REMOVAL_S:g} s") from error

    async def _removed(self, container: str) -> bool:
        try:
            await self.call("remove", lambda c: c.remove_container(container, v=True, force=True), REMOVAL_S)
        except Refused as refused:
            # 409 is a removal in progress, 5xx a busy mount; both pass.
            if refused.status not in {404, 409} and refused.status < 500:
                raise
            return refused.status == 404
        return True

    async def list_labelled(self, labels: Mapping[str, str]) -> list[ContainerState]:
        """Every container, in any state, that carries all of `labels`."""
        wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
        rows = await self.call("list", lambda client: client.containers(all=True, filters=wanted))
        return [ContainerState.listed(row) for row in rows]


class _Patience:
    """Asks again while the engine is away or fails; it comes back from a restart in seconds."""

    def __init__(self) -> None:
        self.was_away = False

    async def hear(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of `ask`.

        Errors: Refused for a fault of the request; EngineUnavailable, or Refused, after 60 s.
        """
        last = asyncio.get_running_loop().time() + UNREACHABLE_S
        while True:
            try:
                return await ask()
            except (EngineUnavailable, Refused) as error:
                refused = isinstance(error, Refused) and error.status < 500
                if refused or asyncio.get_running_loop().time() > last:
                    raise
                self.was_away = True
                await asyncio.sleep(1.0)


def _said(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError):
        return response.text[:500]


def _ours(state: ContainerState, labels: Mapping[str, str]) -> bool:
    return all(state.labels.get(name) == value for name, value in labels.items())
