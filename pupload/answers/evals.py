"""What evaluations say of a run. PURE."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pupload.document import Document


class EvalVerdict(Document):
    """What an evaluation says of a run: a number, yes or no, or one of several names; and why."""

    type: Literal["metric", "pass_fail", "category"]
    pass_: bool | None = Field(default=None, alias="Pass")
    score: float | None = None
    category: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=10_000)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        said = {"metric": self.score is not None, "pass_fail": self.pass_ is not None, "category": bool(self.category)}
        if not said[self.type]:
            wants = {"metric": "score, a number", "pass_fail": "pass, true or false", "category": "category, a text"}
            raise PydanticCustomError("verdict", "a verdict of this type has {wants}", {"wants": wants[self.type]})
        return self


class EvalAnswer(Document):
    """One evaluation of a run: `Status` is pending, done, failed, or skipped where the run's end is none to judge."""

    name: str
    status: str
    run_id: str = ""
    verdict: EvalVerdict | None = None
    error: str = ""


class RunEvals(Document):
    """The evaluations of a run, in the flow's order."""

    evals: list[EvalAnswer] = Field(default_factory=list)
