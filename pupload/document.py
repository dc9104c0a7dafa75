"""The base of every JSON document: written in PascalCase, read without regard to case and underscores. PURE.

Source: contract.md, Spelling.
"""

from collections import Counter
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

_UPPER = {"id": "ID", "url": "URL", "urls": "URLs", "ttl": "TTL", "sha256": "SHA256", "ms": "MS"}


def pascal(name: str) -> str:
    """The wire spelling of a field name.

    >>> pascal("put_url"), pascal("waiting_urls"), pascal("sha256"), pascal("max_attempts")
    ('PutURL', 'WaitingURLs', 'SHA256', 'MaxAttempts')
    """
    return "".join(_UPPER.get(part, part[:1].upper() + part[1:]) for part in name.split("_"))


def fold(member: str) -> str:
    """The form in which two spellings of one member are equal.

    >>> fold("callback_url") == fold("CallbackURL")
    True
    """
    return member.replace("_", "").casefold()


Letters = frozenset[tuple[str, int]]


def _letters_of(member: str) -> Letters:
    """The letters of the beginning of it, numbered where they repeat."""
    return frozenset((letter, n) for letter, count in Counter(fold(member[:64])).items() for n in range(count))


def _likeness(one: Letters, other: Letters) -> float:
    """0 to 1 by shared letters alone: one request may name a hundred thousand members that nobody knows."""
    return len(one & other) / (len(one) + len(other) or 1)


class Document(BaseModel):
    """A JSON object of the interface.

    Unknown members are refused, naming the nearest known one; when the validation context is
    `{"unknown": a_list}` they are ignored, and their paths appended to that list instead.
    """

    model_config = ConfigDict(alias_generator=pascal, populate_by_name=True, frozen=True)

    ALIASES: ClassVar[dict[str, str]] = {}
    """Further spellings that are read: folded alias → field name."""

    @classmethod
    @cache
    def members(cls) -> dict[str, str]:
        """Every spelling that is read, folded, with the one that is written."""
        written = {name: field.alias or name for name, field in cls.model_fields.items()}
        named = {fold(name): member for name, member in written.items()}
        return named | {alias: written[name] for alias, name in cls.ALIASES.items()}

    @classmethod
    @cache
    def _exact(cls) -> dict[str, str]:
        """The spellings that nearly all are of: those that we write ourselves, here and on the wire."""
        written = {name: field.alias or name for name, field in cls.model_fields.items()}
        return written | {member: member for member in written.values()}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        return cls._spelled(value, info) if isinstance(value, dict) else value

    @classmethod
    def _spelled(cls, given: dict[Any, Any], info: ValidationInfo) -> dict[str, Any]:
        ignored = info.context.get("unknown") if isinstance(info.context, dict) else None
        exact = cls._exact()
        spelled: dict[str, Any] = {}
        for member, value in given.items():
            known = exact.get(member) or cls.members().get(fold(str(member)))
            if known is None and ignored is not None:
                ignored.append(f"{cls.__name__}.{member}")
            elif known is None:
                raise cls._unknown(str(member))
            elif known in spelled:
                raise PydanticCustomError("twice", "{member} is given twice, in two spellings", {"member": known})
            else:
                spelled[known] = value
        return spelled

    @classmethod
    def _unknown(cls, member: str) -> PydanticCustomError:
        given = _letters_of(member)
        near = max(cls._letters(), key=lambda known: _likeness(given, known[1]), default=None)
        hint = f"; the nearest known member is {near[0]}" if near else ""
        return PydanticCustomError("unknown", "unknown member {member}{hint}", {"member": repr(member), "hint": hint})

    @classmethod
    @cache
    def _letters(cls) -> list[tuple[str, Letters]]:
        """Each member with its letters."""
        return [(member, _letters_of(folded)) for folded, member in cls.members().items()]

    def wire(self) -> dict[str, Any]:
        """The object as it is written on the wire."""
        return self.model_dump(mode="json", by_alias=True)
