"""An assignment as the container that runs it, everything decided; what this worker does not allow is refused here."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pupload.config import WorkerConfig
from pupload.containers.janitor import ATTEMPT, HOME, INSTANCE, NODE, RUN, WORKER, home_of
from pupload.containers.spec import ATTACHMENTS_DIR, FILES_DIR, IN_DIR, OUT_DIR, TMP_DIR, ContainerSpec
from pupload.errors import InvalidRequest
from pupload.flow.argv import environment, render_argv
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, AttemptRef
from pupload.worker.egress import way_out
from pupload.worker.failure import NodeFailure
from pupload.worker.outputs import file_name
from pupload.worker.shop import Attempt, Shop, placed
from pupload.worker.tools import sheets_of, tool_environment

_LONGEST_ARGUMENT = 128 * 1024
"""In bytes. Source: execve(2), MAX_ARG_STRLEN."""
_MOST_VOLUMES = 16


def ports_of(assignment: Assignment) -> list[str]:
    """The names of all inputs and outputs."""
    return [spec.port for spec in assignment.inputs] + [spec.port for spec in assignment.outputs]


def owner_of(shop: Shop, assignment: Assignment) -> tuple[int, int]:
    """(uid, gid) of the container's program: the worker's choice, or the def's where the operator allows it.

    Errors: NodeFailure for root, for a name, for what is not allowed.
    """
    asked = assignment.user
    if asked is None:
        return shop.owner
    uid, _, gid = asked.partition(":")
    if not (uid.isdecimal() and (gid or uid).isdecimal()) or 0 in {int(uid), int(gid or uid)}:
        raise NodeFailure(Reason.POLICY, f"user {asked!r}: write a uid, or uid:gid, above 0; never root", final=True)
    owner = (int(uid), int(gid or uid))
    # Only root can give the output directory to another user.
    if owner != shop.owner and not (shop.config.allow_user and os.geteuid() == 0):
        raise NodeFailure(Reason.POLICY, f"user {asked!r}: this worker does not let defs choose their user", final=True)
    return owner


def container_spec(shop: Shop, attempt: Attempt, names: Mapping[str, str]) -> ContainerSpec:
    """The attempt's container, everything decided; `names` are those of the inputs' files, by port.

    Errors: NodeFailure for what this worker or the command's rules do not allow.
    """
    assignment, place = attempt.assignment, placed(attempt)
    if assignment.access == "urls":
        text = "Access urls is not served yet: let the def take its files from /pup/in and write them to /pup/out"
        raise NodeFailure(Reason.POLICY, text, final=True)
    inputs = {port: f"{IN_DIR}/{name}" for port, name in names.items()}
    outputs = {spec.port: f"{OUT_DIR}/{file_name(spec)}" for spec in assignment.outputs}
    return ContainerSpec(
        name=attempt.name,
        image=attempt.image.id if attempt.image else assignment.image,
        uid=place.owner[0],
        gid=place.owner[1],
        memory_bytes=assignment.tier.memory_bytes,
        cpu=assignment.tier.cpu,
        labels=labels(shop, assignment.ref),
        argv=_argv(assignment, {**inputs, **outputs}),
        env=_environment(assignment, inputs, outputs),
        files=str(place.root) if shop.mounts else None,
        attachments=str(place.attachments) if assignment.attachments else None,
        folders={kept.name: str(place.folder(kept.name)) for kept in assignment.folders},
        sheets=sheets_of(place, assignment),
        runtime=runtime_of(shop.config, assignment.tier.name),
        egress=way_out(shop.egress) if assignment.network == "egress" else None,
        gpu=attempt.device,
        volumes=_volumes(attempt.image.volumes) if attempt.image else (),
    )


def _volumes(declared: Sequence[str]) -> tuple[str, ...]:
    """Where the image wants volumes, but for where a container has its own place.

    Errors: NodeFailure.
    """
    # As the engine cleans them: one that it took for another place would be the disk's.
    places = {posixpath.normpath(f"/{place.lstrip('/')}") for place in declared} - {TMP_DIR, IN_DIR, OUT_DIR}
    if odd := [place for place in places if place == FILES_DIR or place.startswith(f"{FILES_DIR}/")]:
        text = f"the image declares a volume at {odd[0][:100]!r}, among the files of the attempt; build it without"
        raise NodeFailure(Reason.POLICY, text, final=True)
    if len(places) > _MOST_VOLUMES:
        text = f"the image declares {len(places)} volumes; at most {_MOST_VOLUMES} are made for a container"
        raise NodeFailure(Reason.POLICY, text, final=True)
    return tuple(sorted(places))


def runtime_of(config: WorkerConfig, tier: str) -> str:
    """The runtime of the engine for a tier; "" is the engine's default."""
    return next((runtime for pattern, runtime in config.runtimes.items() if fnmatchcase(tier, pattern)), "")


def labels(shop: Shop, ref: AttemptRef) -> dict[str, str]:
    """What the attempt's container is marked with; together they are ours alone."""
    return {
        WORKER: shop.config.worker_name,
        HOME: home_of(shop.config.work_dir),
        RUN: ref.run_id,
        NODE: ref.node_id,
        ATTEMPT: str(ref.attempt),
        INSTANCE: shop.instance,
    }


def _argv(assignment: Assignment, paths: dict[str, str]) -> tuple[str, ...] | None:
    if assignment.argv is None:
        return None
    known = {*assignment.flag_names, *ports_of(assignment)}
    try:
        rendered = render_argv(assignment.argv, paths, assignment.flags, known)
    except InvalidRequest as error:
        raise NodeFailure(Reason.POLICY, str(error), final=True) from error
    if any(len(argument.encode()) >= _LONGEST_ARGUMENT for argument in rendered):
        text = f"an argument of the command is longer than the {_LONGEST_ARGUMENT} bytes that a program can be given"
        raise NodeFailure(Reason.POLICY, text, final=True)
    return tuple(rendered)


def _environment(assignment: Assignment, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, str]:
    ref = assignment.ref
    own = environment(
        run_id=ref.run_id,
        node_id=ref.node_id,
        attempt=assignment.counts_as or ref.attempt,
        flow_name=assignment.flow_name,
        session_id=assignment.session_id,
        inputs=inputs,
        outputs=outputs,
        flags=assignment.flags,
        env=assignment.env,
    )
    attached = {"PUP_ATTACHMENTS": ATTACHMENTS_DIR} if assignment.attachments else {}
    return {**own, **attached, **tool_environment(assignment)}
