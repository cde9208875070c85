"""``judge``: what a command makes of a config, asked of a process of its own."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import Problem

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 1.0
BYTES = 300_000_000
# Nothing that answers at all takes this long, however busy the machine is.
GIVEN_UP_AFTER_S = 120


class Judge:
    """Runs commands in a worker, and fails where one breaks the rules that hold for all."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.yaml"
        self._worker: subprocess.Popen[str] | None = None

    def validate(self, raw: bytes) -> dict[str, Any]:
        """The verdict of ``config validate`` on a file of these bytes; exit code 0 or 2."""
        self.path.write_bytes(raw)
        answer = self.command("config", "validate", "--json", str(self.path))
        verdict: dict[str, Any] = json.loads(answer["out"])
        assert answer["code"] == (0 if verdict["ok"] else 2)
        for problem in verdict["problems"]:
            assert problem["message"]
            said = Problem(problem["code"], problem["message"])
            assert problem["line"] or placeless(said), problem
        return verdict

    def command(self, *words: str, folder: Path | None = None) -> dict[str, Any]:
        """What the worker answers, after the rules were checked; modules may lie in ``folder``."""
        answer = self._ask({"words": words, "folder": str(folder or "")})
        assert not answer["seen"]
        assert answer["code"] in (0, 2), answer["err"]
        assert "Traceback" not in answer["err"]
        assert answer["cpu_s"] < SECONDS
        assert answer["grown"] < BYTES
        return answer

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._worker is None:
            command = [sys.executable, "-W", "error", str(WORKER)]
            self._worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(json.dumps(request) + "\n")
        self._worker.stdin.flush()
        ready, _, _ = select.select([self._worker.stdout], [], [], GIVEN_UP_AFTER_S)
        line = self._worker.stdout.readline() if ready else ""
        if not line:
            self.close()
            pytest.fail(f"no answer to {request}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def placeless(problem: Problem) -> bool:
    """Whether a problem may have no line: what is missing stands nowhere, a size is a file's."""
    return problem.code == "missing" or "bytes are too many" in problem.message


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    judge = Judge(tmp_path_factory.mktemp("fuzz"))
    yield judge
    judge.close()
