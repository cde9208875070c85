"""Commands in processes of their own, forked from one that has imported everything already.

A command started from nothing spends seconds on importing torch and transformers. Here that is paid
once: the server below imports, then forks for each command, so that exit codes, stderr, signals and
kills are those of a real process.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass
class Process:
    """A running command. ``code`` is negative where a signal ended it."""

    pid: int
    folder: Path
    server: Server
    code: int | None = None

    def wait(self) -> Done:
        """What it has said, once it has ended."""
        if self.code is None:
            self.code = self.server.ask(do="wait", pid=self.pid)["code"]
        texts = [(self.folder / name).read_text(encoding="utf-8") for name in ("out", "err")]
        return Done(self.code, *texts)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; the process is still ours to reap, so the id is its own."""
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Whether it has, without waiting."""
        if self.code is None:
            self.code = self.server.ask(do="poll", pid=self.pid)["code"]
        return self.code is not None


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Server:
    """The process that has imported everything, asked over its stdin in lines of JSON."""

    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.warm"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(timeout=30)
        self.process.stdout.close()  # type: ignore[union-attr]


@cache
def _server() -> Server:
    server = Server()
    atexit.register(server.close)
    return server


def start(
    folder: Path, *words: object, before: str = "", env: Mapping[str, str] | None = None
) -> Process:
    """``tunesmith WORDS`` running in ``folder``; ``before`` is code that runs first."""
    texts = folder / f".said-{time.monotonic_ns()}"
    texts.mkdir(parents=True)
    request = {"words": list(map(str, words)), "cwd": str(folder), "texts": str(texts)}
    request |= {"before": before, "env": {"TUNESMITH_CACHE": str(folder / "cache"), **(env or {})}}
    pid = _server().ask(do="start", **request)["pid"]
    return Process(pid, texts, _server())


def run(
    folder: Path, *words: object, before: str = "", env: Mapping[str, str] | None = None
) -> Done:
    """The same, ended."""
    return start(folder, *words, before=before, env=env).wait()


# --- the server -----------------------------------------------------------------------------------


def _serve() -> None:
    for name in ("tunesmith.launch.local", "tunesmith.report.console", "tunesmith.serve.chat"):
        __import__(name)
    # What transformers imports on first use: the model and tokenizer classes of these tests.
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_answer(request)), flush=True)


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    if request["do"] == "start":
        pid = os.fork()
        if pid == 0:
            _be_the_command(request)
        return {"pid": pid}
    options = os.WNOHANG if request["do"] == "poll" else 0
    pid, status = os.waitpid(request["pid"], options)
    return {"code": os.waitstatus_to_exitcode(status) if pid else None}


def _be_the_command(request: Mapping[str, Any]) -> None:
    """Never returns."""
    code = 1
    try:
        _redirect(Path(request["texts"]))
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        code = _command(request["words"], request["before"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(texts: Path) -> None:
    for number, path in ((0, Path(os.devnull)), (1, texts / "out"), (2, texts / "err")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(path, flags, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)


def _command(words: Sequence[str], before: str) -> int:
    from tunesmith.cli.main import main

    exec(before, {})
    sys.argv = ["tunesmith", *words]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    _serve()
