from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.chats import chat, make_tokenizer, settings, template
from tunesmith.data.records import RowError, Source, Text
from tunesmith.data.render import RenderedRow, RenderSettings, Row
from tunesmith.data.sandbox import Limits, RenderPool
from tunesmith.data.wire import (
    LENGTH,
    Outcome,
    pack_rows,
    pack_settings,
    read_block,
    to_json,
    write_block,
)
from tunesmith.data.worker import NO_ROW
from tunesmith.errors import DataError

# A template that does what its user turn says.
WILD = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>"
    "{% if m.content == 'hang' %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}{% endif %}"
    "{% if m.content == 'grow' %}{{ (m.content * 10 ** 9) | length }}{% endif %}"
    "{% if m.content == 'one call' %}{{ ('x' * 10 ** 6 ~ m.content) | replace('', 'y' * 10 ** 4) "
    "| length }}{% endif %}"
    "{% if m.content == 'raise' %}{{ raise_exception('it was asked to') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def wild(folder: Path) -> RenderSettings:
    return settings(folder, WILD, eos="</s>")


def rows(*texts: str) -> list[Row]:
    return [
        (Source(0, "rows.jsonl", number), chat(("user", text), ("assistant", "yes")))
        for number, text in enumerate(texts, start=1)
    ]


def rendered(given: RenderSettings, asked: list[Row], **limits: Any) -> list[Outcome]:
    with RenderPool(given, 1, **{"cpu_seconds": 1, "memory_bytes": 1 << 28, **limits}) as pool:
        answers = list(pool.render(asked))
    assert [row for row, _ in answers] == asked
    return [outcome for _, outcome in answers]


def facts(outcomes: list[Outcome]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        if isinstance(outcome, RowError):
            found.append((outcome.field, outcome.message, outcome.fix))
        else:
            found += [(s.input_ids.tolist(), s.runs, s.source) for s in outcome.samples]
            found += [(lint.code, lint.message, lint.source) for lint in outcome.lints]
    return found


def test_workers_answer_what_the_same_process_does_in_order(wild: RenderSettings) -> None:
    asked = [*rows(*(f"text {n}" for n in range(50)), "raise", ""), (Source(0, "f", 9), Text("é"))]
    with RenderPool(wild, 0) as pool:
        expected = [outcome for _, outcome in pool.render(asked)]
    with RenderPool(wild, 2, batch_rows=7) as pool:
        answers = list(pool.render(asked))
    assert [row for row, _ in answers] == asked
    assert facts([outcome for _, outcome in answers]) == facts(expected)
    assert isinstance(expected[50], RowError)
    assert "it was asked to" in expected[50].message


def children_seconds() -> float:
    """Processor time of the processes that this one has started and seen the end of."""
    used = os.times()
    return used.children_user + used.children_system


@pytest.mark.parametrize(
    ("text", "said"), [("hang", "processor time"), ("grow", "memory"), ("one call", "")]
)
def test_a_row_that_explodes_is_its_own_error_alone(
    wild: RenderSettings, text: str, said: str
) -> None:
    before = children_seconds()
    first, exploded, last = rendered(wild, rows("a", text, "b"))
    assert isinstance(first, RenderedRow)
    assert isinstance(last, RenderedRow)
    assert isinstance(exploded, RowError)
    assert said in exploded.message
    # One second is allowed; limits count whole ones; two processes start.
    assert children_seconds() - before < 2 + 2 * 1.5


def test_what_explodes_while_the_template_is_compiled_is_the_data_sets_error(folder: Path) -> None:
    bomb = "{{ ('x' * 10 ** 9 * 4) | length }}" + WILD
    with pytest.raises(DataError):
        rendered(settings(folder, bomb, eos="</s>"), rows("a"))


def test_a_template_that_hangs_in_every_row_never_starts(folder: Path) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    before = children_seconds()
    with pytest.raises(DataError, match="processor time"):
        rendered(settings(folder, loop + WILD, eos="</s>"), rows("a"))
    assert children_seconds() - before < 2 + 1.5


def test_a_row_that_sleeps_is_ended_by_the_clock(
    folder: Path, wild: RenderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process uses no processor time: only the parent's clock can end it."""
    with RenderPool(wild, 1, cpu_seconds=1) as pool:
        list(pool.render(rows("a")))
        (worker,) = pool._started
        monkeypatch.setattr(worker, "_limits", Limits(1, 0.2, 1 << 28))
        os.kill(worker._process.pid, signal.SIGSTOP)
        outcomes = [outcome for _, outcome in pool.render(rows("b"))]
    assert isinstance(outcomes[0], RenderedRow), "the row was given to another worker"


def test_a_template_of_no_use_is_told_as_without_workers(folder: Path) -> None:
    broken = settings(folder, "chatml", eos="</s>")
    broken = RenderSettings(broken.tokenizer_path, "digest", 16, template=template("{% for %}"))
    messages = []
    for workers in (0, 1):
        with RenderPool(broken, workers) as pool, pytest.raises(DataError) as error:
            list(pool.render(rows("a")))
        messages.append((error.value.message, error.value.hint))
    assert messages[0] == messages[1]


def test_a_worker_that_is_killed_costs_one_row_at_most(wild: RenderSettings) -> None:
    with RenderPool(wild, 1, batch_rows=1) as pool:
        answers = pool.render(rows(*"abcdef"))
        next(answers)
        (worker,) = pool._started
        worker.kill()
        outcomes = [outcome for _, outcome in answers]
    assert len(outcomes) == 5
    assert sum(isinstance(outcome, RowError) for outcome in outcomes) <= 1


@pytest.mark.parametrize("reads", [0, 1])
def test_a_worker_whose_asker_is_killed_ends_without_a_word(
    wild: RenderSettings, tmp_path: Path, reads: int
) -> None:
    """The asker dies before the first answer, or while the rows are rendered."""
    asked = {"settings": pack_settings(wild), "cpu_seconds": 9, "memory_bytes": 1 << 28}
    with (tmp_path / "progress").open("w+b") as file:
        file.write(LENGTH.pack(NO_ROW))
        file.flush()
        worker = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from tunesmith.data.worker import serve; serve({file.fileno()})",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[file.fileno()],
        )
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    write_block(worker.stdin, to_json(asked))
    for _ in range(reads * 2):
        read_block(worker.stdout)
    worker.stdout.close()
    write_block(worker.stdin, pack_rows(rows("a", "b")))
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.close()
    assert worker.stderr.read() == b""
    worker.stderr.close()
    worker.wait(30)


def test_nothing_is_left_behind(wild: RenderSettings) -> None:
    with RenderPool(wild, 2, batch_rows=1) as pool:
        answers = pool.render(rows(*"abcdefgh"))
        next(answers)
        processes = [worker._process for worker in pool._started]
        assert processes
    assert all(process.returncode is not None for process in processes)


def test_rows_are_read_only_as_far_as_they_are_needed(wild: RenderSettings) -> None:
    taken = 0

    def endless() -> Iterator[Row]:
        nonlocal taken
        while True:
            taken += 1
            yield rows("a")[0]

    with RenderPool(wild, 2, batch_rows=3) as pool:
        answers = pool.render(endless())
        for _ in range(6):
            next(answers)
    assert taken <= 6 + 2 * 2 * 3


def test_workers_start_fast_and_without_heavy_imports(wild: RenderSettings) -> None:
    code = (
        "import sys, json; import tunesmith.data.worker; "
        "print(json.dumps(sorted({'torch', 'transformers', 'datasets', 'pydantic', 'pandas'} "
        "& set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    before = children_seconds()
    with RenderPool(wild, 1) as pool:
        list(pool.render(rows("a")))
    assert children_seconds() - before < 1.5


def test_secrets_of_the_environment_do_not_reach_a_worker(
    wild: RenderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with RenderPool(wild, 1) as pool:
        list(pool.render(rows("a")))
        (worker,) = pool._started
        environment = Path(f"/proc/{worker._process.pid}/environ")
        if not environment.exists():
            pytest.skip("this system does not show the environment of a process")
        assert b"secret" not in environment.read_bytes()


def test_an_outcome_is_a_rendered_row_or_an_error(wild: RenderSettings) -> None:
    (outcome,) = rendered(wild, rows("a"))
    assert isinstance(outcome, RenderedRow)
    assert outcome.samples[0].input_ids.flags.c_contiguous
    assert outcome.samples[0].source == "rows.jsonl:1"
