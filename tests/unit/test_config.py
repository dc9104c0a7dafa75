"""Settings: where they come from, what wins, and what stops the start."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from pupload.config import ControllerConfig, StoreSettings, WorkerConfig, read_config
from pupload.errors import InvalidConfig

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.environ", {})
    monkeypatch.chdir(tmp_path)


def test_a_value_that_is_given_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "controller.toml"
    file.write_text("port = 1\nmax_nodes = 1\nrestarts = 1\n")
    monkeypatch.setattr(
        "os.environ", {"PUPLOAD_CONFIG": str(file), "PUPLOAD_PORT": "2", "PUPLOAD_MAX_NODES": "2", "HOME": "/"}
    )
    config = read_config(ControllerConfig, port=3, data_dir=None)
    assert (config.port, config.max_nodes, config.restarts) == (3, 2, 1)


def test_a_list_in_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "os.environ",
        {
            "PUPLOAD_STORES": '[{"name": "default", "endpoint": "s3:9000", "bucket": "b", "access_key": "a", '
            '"secret_key": "c", "secure": false}]'
        },
    )
    (store,) = read_config(ControllerConfig).stores
    expected = StoreSettings(
        name="default", endpoint="s3:9000", bucket="b", access_key="a", secret_key=SecretStr("c"), secure=False
    )
    assert store == expected


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidConfig) as refused:
        read_config(ControllerConfig, port=-1, max_nodes=0, no_such_setting=1)
    assert all(name in str(refused.value) for name in ("port", "max_nodes", "no_such_setting"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "example.org", "localhost.example.org"])
def test_a_controller_that_listens_beyond_loopback_wants_keys(host: str) -> None:
    assert read_config(ControllerConfig, host=host).wants_keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_a_controller_on_loopback_wants_keys_when_told(host: str) -> None:
    assert not read_config(ControllerConfig, host=host).wants_keys
    assert read_config(ControllerConfig, host=host, require_keys=True).wants_keys


@pytest.mark.parametrize("margins", [(5, 5, 30), (5, 30, 30), (30, 20, 5)])
def test_beat_fence_and_lease_are_in_order(margins: tuple[float, float, float]) -> None:
    beat_s, fence_s, lease_s = margins
    with pytest.raises(InvalidConfig, match="beat_s < fence_s < lease_s"):
        read_config(ControllerConfig, beat_s=beat_s, fence_s=fence_s, lease_s=lease_s)


def test_a_worker_needs_a_token() -> None:
    with pytest.raises(InvalidConfig, match="worker_token"):
        read_config(WorkerConfig)


def test_secrets_are_not_printed() -> None:
    config = read_config(WorkerConfig, worker_token="not for a log")
    assert "not for a log" not in f"{config.redacted()} {config!r}"
