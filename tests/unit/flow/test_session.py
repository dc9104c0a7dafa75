"""A session's variables: which ones there may be, and how a program finds them."""

import pytest
from pydantic import JsonValue, ValidationError

from pupload.flow.session import MAX_VARIABLES_BYTES, SessionRequest, session_env

pytestmark = pytest.mark.unit


def test_values_of_any_kind_become_environment() -> None:
    variables: dict[str, JsonValue] = {"name": "Ünal", "n": 3, "on": True, "none": None, "list": [1, "a"]}
    assert session_env(variables) == {
        "SESSION_NAME": "Ünal",
        "SESSION_N": "3",
        "SESSION_ON": "true",
        "SESSION_NONE": "null",
        "SESSION_LIST": '[1, "a"]',
    }


def test_members_are_read_without_regard_to_case_and_variables_as_they_are() -> None:
    assert SessionRequest.model_validate({"variables": {"Some_Name": 1}}).variables == {"Some_Name": 1}
    assert SessionRequest.model_validate({}).variables == {}


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "é", "a" * 65, "A=B"])
def test_a_name_that_no_shell_could_read_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is no variable"):
        SessionRequest(variables={name: 1})


def test_names_that_differ_by_case_alone_are_refused() -> None:
    with pytest.raises(ValidationError, match="two variables have one name"):
        SessionRequest(variables={"a": 1, "A": 2})


def test_the_limit_is_for_all_variables_together() -> None:
    half = "x" * (MAX_VARIABLES_BYTES // 2 - len("SESSION_A"))
    assert SessionRequest(variables={"a": half, "b": half}).variables
    with pytest.raises(ValidationError, match="more than 64 KB"):
        SessionRequest(variables={"a": half, "b": half + "x"})
