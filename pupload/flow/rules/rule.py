"""What a rule is: a function that yields faults, with the code and the name of what it finds. PURE."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pupload.document import Document
from pupload.flow.survey import Survey


class Severity(StrEnum):
    """Whether a flow with this finding can run."""

    ERROR = "error"
    WARNING = "warning"


class Finding(Document):
    """What is wrong with a flow, where, and what to do. `path` is a JSON path into `{Flow, NodeDefs}`."""

    code: str
    name: str
    severity: Severity
    path: str
    message: str


Fault = tuple[str, str]
"""Path and message of a finding, as a rule yields it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The only source of findings of its code."""

    code: str
    name: str
    severity: Severity
    faults: Callable[[Survey], Iterator[Fault]]

    def findings(self, survey: Survey) -> Iterator[Finding]:
        """Everything in `survey` that breaks this rule."""
        for path, message in self.faults(survey):
            yield Finding(code=self.code, name=self.name, severity=self.severity, path=path, message=message)


_REGISTERED: dict[str, Rule] = {}


def rule(
    code: str, name: str, severity: Severity = Severity.ERROR
) -> Callable[[Callable[[Survey], Iterator[Fault]]], Callable[[Survey], Iterator[Fault]]]:
    """Make the function the rule that owns `code`."""

    def register(faults: Callable[[Survey], Iterator[Fault]]) -> Callable[[Survey], Iterator[Fault]]:
        if code in _REGISTERED:
            raise ValueError(f"two rules own {code}")
        _REGISTERED[code] = Rule(code, name, severity, faults)
        return faults

    return register


def rules_of(module: str) -> list[Rule]:
    """The rules that the module of that name defines, in its order."""
    return [rule for rule in _REGISTERED.values() if rule.faults.__module__ == module]


def quoted(text: str) -> str:
    """`text` for a message, in quotes and cut."""
    return repr(text[:80])


def shown(names: list[str], most: int = 20) -> str:
    """`names` for a message, cut after `most`."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
