"""What holds for every test: no network, one thread of torch, the reference folder if given."""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _quiet_environment() -> None:
    """Set what libraries read when they are imported; xdist's workers inherit it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["WANDB_MODE"] = "disabled"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # One thread a process: two workers share two cores, and a pinned loss must not depend on -n.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "TUNESMITH_TEST_HOME" not in os.environ:
        # Nobody's cache is read or written. The first process makes the folder and removes it.
        home = tempfile.mkdtemp(prefix="tunesmith-tests-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        os.environ["TUNESMITH_TEST_HOME"] = home
    os.environ["HF_HOME"] = os.environ["TUNESMITH_TEST_HOME"] + "/huggingface"
    os.environ["XDG_CACHE_HOME"] = os.environ["TUNESMITH_TEST_HOME"] + "/cache"


_quiet_environment()


def _is_outside(address: object) -> bool:
    if not isinstance(address, tuple):
        return False  # a Unix socket
    try:
        return not ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] != "localhost"


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Refuse connections that leave the machine: what needs one is not a test of this folder."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if _is_outside(address):
            msg = f"a test tried to reach {address}"
            raise AssertionError(msg)
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def reference() -> Path:
    """Return the folder of `goldens/`, `data/` and `reference/`, too large for the repository."""
    folder = os.environ.get("TUNESMITH_REFERENCE")
    if not folder:
        pytest.skip(
            "TUNESMITH_REFERENCE names no folder: tests against the reference data are skipped"
        )
    path = Path(folder)
    if not (path / "goldens").is_dir():
        pytest.fail(f"TUNESMITH_REFERENCE names {path}, which has no goldens/")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses `reference`, so that `-m reference` finds it without a second declaration."""
    for item in items:
        if "reference" in getattr(item, "fixturenames", ()):
            item.add_marker("reference")
