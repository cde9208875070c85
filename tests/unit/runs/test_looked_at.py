"""``preprocess`` on rows that nothing trains yet: read, shown and booked, and none of them kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.smallrun import ground, keys, write_rows, write_yaml
from tests.unit.data.formats import examples
from tunesmith.cli.main import run
from tunesmith.config.dataset_types import is_compared

__all__ = ["ground"]

PAIRS = [
    {"prompt": "Say sun", "chosen": "sun", "rejected": "moon"},
    {"prompt": "Say rain", "chosen": "rain rain", "rejected": "no"},
]
JUDGED = [
    {"prompt": "Say sun", "completion": "sun", "label": True},
    {"prompt": "Say sun", "completion": "wind", "label": False},
]
STEPS = [{"prompt": "1+1+1", "completions": ["1+1=2", "2+1=4"], "labels": [True, False]}]
PROMPTS = [{"prompt": "Say sun", "answer": "sun"}]


@pytest.fixture
def prepare(
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """A function: rows, keys and words of the command -> exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    def ask(rows: list[dict[str, Any]], *words: str, kind: Any = None, **more: Any) -> Any:
        data = write_rows(tmp_path / "rows.jsonl", rows)
        entry = {"path": str(data), **({"type": kind} if kind else {})}
        config = {
            **keys(ground / "base", data),
            "datasets": [entry],
            "sample_packing": False,
            **more,
        }
        code = run(["preprocess", str(write_yaml(tmp_path, config)), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return ask


def shown(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_pair_is_shown_and_nothing_is_kept(prepare: Any, tmp_path: Path) -> None:
    code, out, err = prepare(PAIRS, "--show", "2", rl="dpo")
    assert code == 0
    assert "not built yet: preference training (DPO)" in err
    assert "rows.jsonl:1 chosen: 11 tokens, 4 trained" in out
    assert "[sun<|im_end|>]" in out
    assert "rows.jsonl:2 rejected:" in out
    assert "2 rows, " in out
    assert out.endswith("looked at, not kept: training on these rows is not built yet\n")
    assert not list((tmp_path / "cache").rglob("prepared*"))


def test_the_ledger_counts_both_sides_of_a_pair(prepare: Any) -> None:
    _, out, _ = prepare(PAIRS, "--show", "2", "--json", rl="dpo")
    *samples, ledger = shown(out)
    account = ledger["datasets"][0]
    tokens = [token for sample in samples for token in sample["tokens"]]
    trained = sum(token["weight"] > 0 for token in tokens)
    assert [sample["title"] for sample in samples] == ["chosen", "rejected"] * 2
    assert account["samples"] == 4
    assert account["tokens"]["in"] == len(tokens)
    assert account["tokens"]["trained"] == trained > 0
    assert account["rows"]["trained"] == 2


def test_judged_answers_say_whether_they_are_wanted(prepare: Any) -> None:
    _, out, _ = prepare(JUDGED, "--show", "2", rl="kto")
    assert "rows.jsonl:1 wanted:" in out
    assert "rows.jsonl:2 unwanted:" in out
    assert "one-class" not in out


def test_one_kind_of_label_alone_is_told(prepare: Any) -> None:
    code, out, _ = prepare(JUDGED[:1], rl="kto")
    assert code == 0
    assert "1 x one-class: all 1 answers are wanted: without unwanted ones" in out
    _, out, _ = prepare(JUDGED[1:], rl="kto")
    assert "all 1 answers are unwanted: without wanted ones" in out


def test_steps_are_shown_with_their_labels(prepare: Any) -> None:
    code, out, err = prepare(
        STEPS, "--show", "1", "--reasons", kind="stepwise_supervised", process_reward_model=True
    )
    assert code == 0
    assert "not built yet: reward models" in err
    assert "2 trained" in out
    assert "step 2: wrong" in out
    lines = [line.split("  ") for line in out.splitlines() if line.startswith("+")]
    assert [line[-1] for line in lines] == ["'\\n'", "'\\n'"]
    assert "end of a step that is right" in out
    assert "inside of a step" in out


def test_the_tokens_of_each_step_are_its_own(prepare: Any) -> None:
    keyed = {"kind": "stepwise_supervised", "process_reward_model": True}
    sample, _ = shown(prepare(STEPS, "--show", "1", "--json", **keyed)[1])
    texts: dict[Any, str] = {}
    for token in sample["tokens"]:
        texts[token["message"]] = texts.get(token["message"], "") + token["text"]
    assert texts == {None: "1+1+1", 0: "1+1=2\n", 1: "2+1=4\n"}


def test_prompts_are_shown_with_the_columns_of_the_rewards(prepare: Any) -> None:
    code, out, _ = prepare(PROMPTS, "--show", "1", rl="grpo")
    assert code == 0
    assert "rows.jsonl:1 prompt: 7 tokens, 0 trained" in out
    assert "  answer: sun" in out


def test_pairs_stand_side_by_side_on_the_page(prepare: Any, tmp_path: Path) -> None:
    code, _, _ = prepare(PAIRS, "--html", "page.html", rl="dpo")
    assert code == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    row = json.loads(text.split('id="data">')[1].split("</script>")[0])["rows"][0]
    assert row["side"]
    assert [part["title"] for part in row["parts"]] == ["chosen", "rejected"]
    assert "not built yet (rl: dpo)" in text


def test_a_type_alone_is_enough(prepare: Any) -> None:
    rows = [{"input": "Say sun", "chosen": "sun", "rejected": "rain"}]
    code, out, err = prepare(rows, "--show", "1", kind="dpo.chat_template.argilla_chat")
    assert code == 2
    assert "rows.jsonl:1" in err
    code, out, err = prepare(PAIRS, "--show", "1", kind="dpo")
    assert code == 0
    assert "training on rows of `dpo`" in err
    assert "chosen" in out


def test_broken_pairs_are_named(prepare: Any) -> None:
    broken = [{"prompt": "a", "chosen": "b"}, *PAIRS, {**PAIRS[0], "chosen": 3}]
    code, _, err = prepare(broken, rl="dpo")
    assert code == 2
    assert "2 rows cannot be used; the first is" in err
    assert "rows.jsonl:1: rejected: " in err
    assert "rows.jsonl:4: chosen: " in err


def test_answers_to_learn_are_refused_where_pairs_are_compared(prepare: Any) -> None:
    rows = [{"instruction": "a", "input": "", "output": "b"}]
    code, _, err = prepare(rows, kind="alpaca", rl="dpo")
    assert code == 2
    assert "`type: alpaca` gives answers to learn, which `rl: dpo` does not read" in err
    assert "datasets.0.type" in err


def test_long_pairs_are_dropped_and_named(prepare: Any) -> None:
    long = {"prompt": "Say sun", "chosen": "sun" * 200, "rejected": "no"}
    code, out, _ = prepare([*PAIRS, long], rl="dpo")
    assert code == 0
    assert "dropped, longer than sequence_len (256): 1 rows" in out
    code, _, err = prepare([long], rl="dpo")
    assert code == 2
    assert "nothing is left to train on" in err


def test_training_on_them_stays_refused(
    ground: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", PAIRS)
    path = write_yaml(tmp_path, {**keys(ground / "base", data), "rl": "dpo"})
    assert run(["train", str(path)]) == 2
    assert "not built yet: preference training (DPO)" in capsys.readouterr().err


COMPARED = sorted(
    name for name in examples.names() if is_compared(name) and not name.endswith(".inline")
)


@pytest.mark.parametrize("name", COMPARED)
def test_every_format_of_them_can_be_seen(name: str, prepare: Any) -> None:
    code, out, err = prepare([examples.row(name)], "--show", "1", "--json", kind=name)
    assert code == 0, err
    *samples, ledger = shown(out)
    assert samples
    assert all(sample["tokens"] for sample in samples)
    assert ledger["datasets"][0]["rows"] == {"in": 1, "trained": 1, "held_out": 0, "dropped": {}}
