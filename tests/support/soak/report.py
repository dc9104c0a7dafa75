"""PURE: what came of a soak, as Markdown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pupload.flow.plan import Reason
from pupload.run.retry import INFRASTRUCTURE
from tests.support.processes import Footprint
from tests.support.soak.schedule import Struck


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over. Units: seconds since the epoch."""

    status: str
    code: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a soak. `attempts` are counted by state and reason, `footprints` by process: before and after."""

    title: str
    about: Mapping[str, str]
    struck: Sequence[Struck]
    runs: Sequence[Ended]
    attempts: Mapping[tuple[str, str], int]
    sorts: Mapping[str, int]
    asked_again: Mapping[str, int]
    footprints: Mapping[str, tuple[Footprint, Footprint]]
    exits: Sequence[str] = ()
    violations: Sequence[str] = ()
    raised: Mapping[str, int] = field(default_factory=dict)
    """Exceptions in the logs."""


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of them do not exceed; 0 for none.

    >>> percentile([3.0, 1.0, 2.0], 50)
    2.0
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def charges(attempts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """How many attempts that did not succeed were charged to the user, to the infrastructure, or to nobody.

    >>> charges({("succeeded", ""): 3, ("failed", "exit"): 1, ("lost", "lost"): 2, ("released", ""): 1})
    {'the user': 1, 'the infrastructure': 2, 'nobody': 1}
    """
    paid = dict.fromkeys(("the user", "the infrastructure", "nobody"), 0)
    for (state, reason), count in attempts.items():
        if state != "succeeded":
            paid[_payer(state, reason)] += count
    return paid


def _payer(state: str, reason: str) -> str:
    if reason in INFRASTRUCTURE:
        return "the infrastructure"
    return "the user" if state == "failed" and reason != Reason.CANCELLED else "nobody"


def parted(runs: Sequence[Ended], struck: Sequence[Struck]) -> tuple[list[float], list[float]]:
    """Seconds of those runs that no strike met, and of those that one did."""
    met = [any(each.began < run.ended and run.began < each.ended for each in struck) for run in runs]
    calm = [run.ended - run.began for run, was in zip(runs, met, strict=True) if not was]
    return calm, [run.ended - run.began for run, was in zip(runs, met, strict=True) if was]


def markdown(outcome: Outcome) -> str:
    """The report, whole."""
    parts = [
        f"# {outcome.title}",
        _rows(outcome.about, "", ""),
        "## Violations\n\n" + ("\n".join(f"- {each}" for each in outcome.violations) or "None."),
        "## Faults\n\n" + (_faults(outcome.struck) if outcome.struck else "None."),
        "## Runs\n\n" + _rows(_states(outcome.runs), "came to", "runs"),
        _durations(outcome),
        "## Attempts\n\n" + _rows(_named(outcome.attempts), "state", "attempts"),
        _rows(charges(outcome.attempts), "charged to", "attempts"),
        "## What clients did\n\n" + _rows(outcome.sorts, "sort", "times"),
        _rows(outcome.asked_again, "asked again because", "times"),
        "## Processes\n\n" + _footprints(outcome.footprints),
        _rows(outcome.raised, "raised, by the logs", "times"),
        "\n".join(f"- {each}" for each in outcome.exits),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(rows: Mapping[str, object], left: str, right: str) -> str:
    if not rows:
        return ""
    return "\n".join([f"| {left} | {right} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _faults(struck: Sequence[Struck]) -> str:
    counts = Counter(each.strike.kind for each in struck)
    log = [
        f"- {each.strike.at_s:.1f} s: {each.strike.kind}, {each.strike.target} {each.strike.how}".rstrip()
        + f", mended after {each.ended - each.began:.1f} s"
        + (f"; {each.fault}" if each.fault else "")
        for each in sorted(struck, key=lambda each: each.strike.at_s)
    ]
    table = _rows(dict(sorted(counts.items())) | {"all": len(struck)}, "fault", "times")
    return f"{table}\n\n" + "\n".join(log)


def _states(runs: Sequence[Ended]) -> dict[str, int]:
    return dict(sorted(Counter(f"{run.status} {run.code}".strip() for run in runs).items()))


def _durations(outcome: Outcome) -> str:
    calm, met = parted([run for run in outcome.runs if run.status == "COMPLETE"], outcome.struck)
    rows = [
        f"| {name} | {len(values)} | {percentile(values, 50):.1f} s | {percentile(values, 95):.1f} s |"
        for name, values in (("without a fault", calm), ("with faults", met))
    ]
    return "\n".join(["| COMPLETE runs | number | median | p95 |", "|---|---|---|---|", *rows])


def _named(attempts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    return {f"{state} {reason}".strip(): count for (state, reason), count in sorted(attempts.items())}


def _footprints(footprints: Mapping[str, tuple[Footprint, Footprint]]) -> str:
    rows = [
        f"| {name} | {a.memory_kb // 1024} → {b.memory_kb // 1024} MB | {a.descriptors} → {b.descriptors}"
        f" | {a.threads} → {b.threads} |"
        for name, (a, b) in footprints.items()
    ]
    return "\n".join(["| process | memory | descriptors | threads |", "|---|---|---|---|", *rows])
