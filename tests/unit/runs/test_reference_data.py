"""Every data set of the reference folder that is meant to work: prepared, and trained for a few."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.smallrun import keys, write_yaml
from tunesmith.cli.main import run

SHAREGPT = {
    "type": "chat_template",
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}
CALLS = {"roles": {"assistant": ["gpt", "function_call"], "tool": ["observation"]}}
ALPACA = {"type": "alpaca"}
CHAT = {"type": "chat_template"}
QUESTIONS = {"type": {"field_instruction": "question", "field_output": "answer"}}
PAIRS = {"message_property_mappings": {"role": "from", "content": "value"}}

NO_TYPE = {
    "chat/mt_bench_questions.jsonl",  # questions without answers
    "prm/math_aps.jsonl",  # trees of steps with values, which no format of ours or axolotl's reads
    "prm/prm800k.jsonl",  # the same in the form of its labelling tool; stepwise.jsonl holds both
    "prm/math_shepherd.jsonl",
    "preference/v1_dpo_demo.jsonl",  # answers as whole conversations of LLaMA-Factory's own form
    "preference/orca_dpo_openai.jsonl",  # pairs in OpenAI's form, as in axolotl unread
    "reasoning/countdown_rft.jsonl",  # prompts in `messages`: `rl: grpo` reads `prompt`, and a
    "reasoning/tool_rft.jsonl",  # module of the user's turns one into the other
    "formats/alpaca20.txt",  # the questions of alpaca20 alone
}
"""Files that no ``type`` is meant for."""


@dataclass(frozen=True)
class Case:
    """How a file is read: keys of its entry and of the config; ``trains``: two steps as well."""

    entry: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)
    trains: bool = False


def _all(folder: str, names: str, case: Case) -> dict[str, Case]:
    return {f"{folder}/{name}": case for name in names.split()}


CASES: dict[str, Case] = {
    "instruct/gpteacher_codegen.jsonl": Case(ALPACA, trains=True),
    **_all(
        "instruct",
        "gpteacher_toolformer.jsonl alpaca_demo.jsonl alpaca_zh_demo.jsonl identity.jsonl"
        " self_instruct_seeds.jsonl",
        Case(ALPACA),
    ),
    "instruct/gpteacher_roleplay.jsonl": Case({"type": "gpteacher"}, trains=True),
    "instruct/self_instruct_seeds_nested.jsonl": Case(
        {"type": {"field_instruction": "instruction", "field_output": "name"}}
    ),
    "chat/glaive_toolcall_en.jsonl": Case({**SHAREGPT, **CALLS}, trains=True),
    "chat/glaive_toolcall_zh.jsonl": Case({**SHAREGPT, **CALLS}),
    "chat/reasoning_tool_openai.jsonl": Case(CHAT, trains=True),
    "chat/retail_agent_openai.jsonl": Case(CHAT, {"sequence_len": 32_768}),
    **_all(
        "chat",
        "reason_tool_use_50.jsonl think_inline.jsonl stock_toolcall_openai.jsonl"
        " gsm8k_chat_openai.jsonl",
        Case(CHAT),
    ),
    "chat/mt_bench_multiturn.jsonl": Case(CHAT, trains=True),
    "chat/sharegpt_dummy.jsonl": Case(SHAREGPT, trains=True),
    "chat/loss_weight_parts.jsonl": Case(
        {**CHAT, "message_field_weight": "loss_weight"}, trains=True
    ),
    "preference/dpo_en_demo.jsonl": Case(
        {"type": "chat_template.default", "field_messages": "conversations", **PAIRS},
        {"rl": "dpo"},
    ),
    "preference/dpo_zh_demo.jsonl": Case(
        {"type": "chat_template.default", "field_messages": "conversations", **PAIRS},
        {"rl": "dpo"},
    ),
    "preference/kto_en_demo.jsonl": Case(CHAT),
    "preference/orca_dpo_prompt.jsonl": Case({}, {"rl": "dpo"}),
    "preference/hh_harmless_sample.jsonl": Case({"type": "completion", "field": "chosen"}),
    "reasoning/gsm8k_test.jsonl": Case(QUESTIONS),
    "reasoning/gsm8k_train.jsonl": Case(QUESTIONS, trains=True),
    "reasoning/gsm8k_model_solutions.jsonl": Case(
        {"type": {"field_instruction": "question", "field_output": "ground_truth"}}
    ),
    "reasoning/aqua_test.jsonl": Case(
        {"type": {"field_instruction": "question", "field_output": "rationale"}}
    ),
    "reasoning/svamp.jsonl": Case(
        {"type": {"field_instruction": "Question", "field_output": "Equation"}}
    ),
    "reasoning/math500.jsonl": Case(
        {"type": {"field_instruction": "problem", "field_output": "final_answer"}}
    ),
    "prm/stepwise.jsonl": Case({"type": "stepwise_supervised"}, {"process_reward_model": True}),
    "text/tinyshakespeare.txt": Case({"type": "completion"}, trains=True),
    "text/tinyshakespeare.jsonl": Case({"type": "completion"}),
    "text/wiki.jsonl": Case({"type": "completion"}, trains=True),
    "text/c4.jsonl": Case({"type": "completion"}),
    **_all(
        "formats",
        "alpaca20.json alpaca20.jsonl alpaca20.jsonl.gz alpaca20.jsonl.zst alpaca20.parquet"
        " alpaca20.arrow alpaca20.csv alpaca20.tsv shards",
        Case(ALPACA),
    ),
    "formats/alpaca20.feather": Case(ALPACA, trains=True),
    "formats/saved_to_disk": Case(ALPACA, trains=True),
    **_all(
        "formats",
        "chat20.arrow chat20.feather chat20.json chat20.jsonl chat20.jsonl.gz chat20.jsonl.zst",
        Case(CHAT),
    ),
    "formats/chat20.parquet": Case(CHAT, trains=True),
}


@pytest.fixture(scope="session")
def base(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that speaks ChatML in 4,096 tokens."""
    folder = tmp_path_factory.mktemp("base4k")
    tokenizer = AutoTokenizer.from_pretrained(reference / "data" / "tokenizers" / "bpe4k_chatml")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config_of(base: Path, path: Path, case: Case) -> dict[str, Any]:
    compared = {"sample_packing": False} if {"rl", "process_reward_model"} & set(case.more) else {}
    config = keys(base, path, sequence_len=4096, max_steps=2, save_steps=None, **compared)
    return {**config, "datasets": [{"path": str(path), **case.entry}], **case.more}


def test_every_file_has_a_case_or_a_reason(reference: Path) -> None:
    data = reference / "data"
    folders = ("instruct", "chat", "preference", "reasoning", "prm", "text", "formats")
    found = {f"{name}/{path.name}" for name in folders for path in (data / name).iterdir()}
    assert found == set(CASES) | NO_TYPE


@pytest.mark.parametrize("name", CASES)
def test_the_data_set_is_prepared(
    name: str,
    reference: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    case = CASES[name]
    path = reference / "data" / name
    words = [str(write_yaml(tmp_path, config_of(base, path, case))), "--json"]
    code = run(["preprocess", *words, "--show", "1"])
    said = capsys.readouterr()
    assert code == 0, said.err
    *samples, ledger = (json.loads(line) for line in said.out.splitlines())
    account = ledger["datasets"][0]
    n_lines = count_rows(path)
    assert n_lines is None or account["rows"]["in"] == n_lines
    assert account["rows"]["trained"] >= 0.9 * account["rows"]["in"]
    assert samples
    assert all(sample["tokens"] for sample in samples)
    for code_of, found in ledger["lint"].items():
        if code_of in GUESSES:
            assert found["count"] <= 0.02 * account["rows"]["in"] + 1, (code_of, found)


GUESSES = ("cut-answer", "repeated-text", "open-code-fence", "damaged-text", "answer-without-call")
"""Findings that are guesses: on sound data they are rare."""


def count_rows(path: Path) -> int | None:
    """The rows of a file of json lines; None for others."""
    if path.suffix != ".jsonl":
        return None
    return sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").split("\n"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.trains])
def test_a_model_trains_on_it(
    name: str,
    reference: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    config = config_of(base, reference / "data" / name, CASES[name])
    code = run(["train", str(write_yaml(tmp_path, config))])
    said = capsys.readouterr()
    assert code == 0, said.err
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert len(losses) == 2
    assert all(4 < loss < 12 for loss in losses)  # ln 4,096 is 8.3
    shutil.rmtree(tmp_path / "out")


def test_images_are_refused_by_name(
    reference: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("messages.jsonl", "image_tags.jsonl", "openai_image_url.jsonl"):
        path = reference / "data" / "multimodal" / name
        config = config_of(base, path, Case(CHAT))
        assert run(["preprocess", str(write_yaml(tmp_path, config))]) == 2
        said = capsys.readouterr().err
        assert re.search(rf"{name}:1\b", said)
        assert "images are not built yet" in said
