"""Wall clocks that are wrong, for processes of ours."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).with_name("clock")


@dataclass(frozen=True, slots=True)
class WrongClock:
    """The clock of the processes that have `environment`."""

    file: Path

    def set(self, seconds: int) -> None:
        """From now on it is so many seconds ahead; not 0."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.rename(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be told to have this clock."""
        return {"PYTHONPATH": str(_FOLDER), "PUP_TESTS_CLOCK": str(self.file)}


def a_clock(folder: Path, name: str, seconds: int) -> WrongClock:
    """A clock that is so many seconds ahead."""
    clock = WrongClock(folder / f"{name}.clock")
    clock.set(seconds)
    return clock
