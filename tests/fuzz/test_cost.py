"""What it costs to validate a config: no torch, no network, milliseconds."""

from __future__ import annotations

from statistics import median

import pytest

from tests.fuzz.texts import FOLDER

CORPUS = sorted(FOLDER.rglob("*.y*ml"))
# After start-up, in seconds of CPU.
SECONDS = 0.05


def test_a_whole_corpus_in_one_process_needs_neither_torch_nor_network(judge):
    """The judge fails where its audit hook sees a socket, a process, a heavy import or a write."""
    codes = [judge.command("config", "validate", "--json", str(path))["code"] for path in CORPUS]
    assert len(codes) >= 120
    assert set(codes) == {0, 2}


def test_the_hook_sees_what_it_looks_for(judge):
    """A worker that is told to import torch reports it: the test above can fail."""
    plugin = judge.path.with_name("reaches_out.py")
    plugin.write_text(
        "import socket, contextlib\n"
        "with contextlib.suppress(OSError), socket.socket() as s:\n"
        "    s.connect(('127.0.0.1', 9))\n"
    )
    judge.path.write_text("plugins: [reaches_out]\n")
    with pytest.raises(AssertionError, match=r"socket\.connect"):
        judge.command("config", "validate", "--json", str(judge.path), folder=plugin.parent)


@pytest.mark.slow
def test_every_config_is_validated_in_fifty_milliseconds(judge):
    def seconds(path) -> float:
        return judge.command("config", "validate", "--json", str(path))["cpu_s"]

    seconds(CORPUS[0])  # start-up
    # The least of three: other processes share the core.
    taken = {path.name: min(seconds(path) for _ in range(3)) for path in CORPUS}
    slowest = max(taken, key=lambda name: taken[name])
    print(
        f"{len(taken)} configs: median {median(taken.values()) * 1000:.1f} ms, "
        f"at most {taken[slowest] * 1000:.1f} ms ({slowest})"
    )
    assert taken[slowest] < SECONDS
