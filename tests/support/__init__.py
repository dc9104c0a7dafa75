"""What tests stand on. Asserts in here say what they compared, as those in tests do."""

import pytest

pytest.register_assert_rewrite("tests.support.invariants", "tests.support.rows")
