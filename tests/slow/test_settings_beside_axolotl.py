"""Settings of our own choice in both programs: ids and labels equal, or a difference with a name.

Needs ``TUNESMITH_AXOLOTL_PYTHON`` (see test_beside_axolotl.py) and the reference folder, of which
real chats and tokenizers come. What is compared is drawn by number, so that a failure can be had
again: ``chat-17`` is always the same config and rows.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data.compare_axolotl import environment
from tests.slow.settings import Setting, drawn_chat, plain
from tests.unit.data.explained import BORDER, END, INSIDE, SILENT, differences
from tests.unit.data.formats.goldens import Tokenizers
from tunesmith.config import read
from tunesmith.config.schema import RunConfig
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.overlong import LengthRule, fit
from tunesmith.data.records import Conversation, Record, RowError, Source, TokenRecord
from tunesmith.data.render import Renderer
from tunesmith.data.samples import TokenSample
from tunesmith.errors import TunesmithError
from tunesmith.models.tokenizer_facts import keep_tokenizer
from tunesmith.runs.request import render_settings

CHATS = 150

PROGRAM = Path(__file__).with_name("axolotl_rows.py")
SECONDS = 3600
EQUAL_AT_LEAST = 90
"""Settings without any difference."""
EQUAL = "equal"
OTHER = "unexplained: other ids"
BOTH = "refused by both"

# What axolotl does otherwise, beside the kinds of tests/unit/data/explained.py.
LLAMA2 = "rows of llama2_chat"
"""axolotl opens another exchange at the end of the row, pads it to sequence_len, and trains nothing
of it where its count of tokens is off, as with all tokenizers but Llama 2's."""
OPENING = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
OPENED = "an answer is opened"
"""axolotl's template opens another answer at the end of a row, although none is asked for."""
LOST = "calls or thoughts are lost"
"""axolotl looks for the keys of a turn in the template by the name of its loop's variable, does not
find them where the template goes by index, and drops them."""
NULLS = "absent keys are null"
"""axolotl reads rows through a table, which gives every tool the keys of all, as null."""
GLUED = "thoughts are glued to the answer"
"""axolotl takes a part of the type `reasoning` for text."""
FORGOTTEN = "no system text"
"""axolotl forgets the system text of `reflection` where no style is named."""
SYSTEM = "the system turn never trains"
"""axolotl trains no system turn that opens a chat where the tokenizer's path says mistral."""
PARTS = "parts are off by a token"
"""axolotl masks a token over two parts that both train, and counts the characters of parts in a
text that a sentencepiece tokenizer began with a blank of its own."""
KNOWN = {
    *(EQUAL, BOTH, END, INSIDE, BORDER, SILENT),
    *(LLAMA2, OPENED, LOST, NULLS, GLUED, FORGOTTEN, SYSTEM, PARTS),
}

REFUSED_HERE = (
    "`split_thinking` puts the thought",
    "the chat template refuses this row",
    "printed nothing",
    "train_on_inputs: `true` has no effect, `roles_to_train` names the turns",
)
"""What axolotl prepares and is an error here: thoughts for a template that prints none, turns or
tools that the template would drop, a turn that is not printed, a key that another one beats."""
REFUSED_THERE = ("chat_template.str-enum", "can only concatenate str")
"""What axolotl refuses and is read here: names of templates; calls whose arguments are objects, and
turns without a text, of which a template joins the text with its own."""

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TRAINING = {
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_steps": 1,
    "learning_rate": 1e-4,
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine",
    "bf16": False,
    "fp16": False,
    "tf32": False,
    "attn_implementation": "eager",
    "dataset_num_proc": 1,
    "shuffle_merged_datasets": False,
}


def write(setting: Setting, tokenizers: Tokenizers, folder: Path) -> None:
    """The setting's rows and config, which both programs read."""
    name = tokenizers.load(f"tokenizers/{setting.tokenizer}").name_or_path
    about = Path(name) / "config.json"
    about.write_text(json.dumps({**LLAMA, "vocab_size": 100_000}), encoding="utf-8")
    folder.mkdir(parents=True)
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in setting.rows)
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    entry = {"path": str(folder / "rows.jsonl"), "ds_type": "json", "split": "train"}
    config = {
        "base_model": name,
        "datasets": [{**entry, **setting.entry}],
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        **TRAINING,
        **setting.more,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Made:
    """A row, its record and sample; ``sample`` is None where cutting left nothing that trains."""

    values: Mapping[str, Any]
    renderer: Renderer
    record: Record
    sample: TokenSample | None


def samples(setting: Setting, config: RunConfig, tokenizer: Any) -> Iterator[Made]:
    """Our samples, row by row, and of the dropped ones those that axolotl keeps.

    Raises:
        RowError: a row that is refused.
    """
    (entry,) = config.data.datasets
    given = render_settings(config, entry, tokenizer, keep_tokenizer(tokenizer))
    today = datetime.now().isoformat()
    made = Renderer(dataclasses.replace(given, now=today, history="whole"))
    policy, longest = config.packing.excess_length, config.packing.sequence_len
    read_row = load_format(entry, None)
    for number, values in enumerate(setting.rows):
        record = read_row(dict(values), FormatOptions.of(entry, config.data))
        assert isinstance(record, TokenRecord)
        for sample in made.render(record, Source(0, entry.path, number + 1)).samples:
            whole = len(sample.input_ids) <= longest
            kept = [sample] if whole else fit(sample, LengthRule(longest, 1, policy))[0]
            if kept or policy == "truncate":
                yield Made(values, made, record, kept[0] if kept else None)


def compared(setting: Setting, folder: Path, tokenizer: Any) -> str:
    """``equal``, or what differs: kinds of tokens, who refuses, other ids."""
    given: Mapping[str, Any] = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    try:
        config = read.load(json.loads((folder / "config.json").read_text(encoding="utf-8"))).config
        ours = list(samples(setting, config, tokenizer))
    except (TunesmithError, RowError) as error:
        return BOTH if "error" in given else f"refused here: {error.message}"
    if "error" in given:
        return f"refused there: {given['error']}"
    if len(ours) != len(given["rows"]):  # what is added makes other rows too long
        texts = [tokenizer.decode(row["input_ids"]) for row in given["rows"]]
        is_longer = any(": null" in text for text in texts)
        return NULLS if is_longer else f"{len(ours)} rows, there {len(given['rows'])}"
    kinds: set[str] = set()
    for each, row in zip(ours, given["rows"], strict=True):
        found = kinds_of(each, row, tokenizer)
        kinds |= {name_of(kind, setting) for kind in found}
    return ", ".join(sorted(kinds)) or EQUAL


def name_of(kind: str, setting: Setting) -> str:
    """The kind, or what explains it for the whole setting."""
    if kind == OTHER:
        return {"reflection": FORGOTTEN, "llama2_chat": LLAMA2}.get(
            str(setting.entry["type"]), kind
        )
    if not kind.startswith("unexplained"):
        return kind
    if "mistral" in setting.tokenizer and "message=0, role='system'" in kind:
        return SYSTEM
    return PARTS if has_parts(setting) else kind


def has_parts(setting: Setting) -> bool:
    """Whether some answers of the rows are lists of parts, or have spans that do not train."""
    turns = [turn for row in setting.rows for turn in row.get("messages", ())]
    return any(isinstance(turn["content"], list) or "train_detail" in turn for turn in turns)


def kinds_of(made: Made, row: Mapping[str, Any], decoder: Any) -> set[str]:
    """How our sample and axolotl's row differ."""
    ids, trains = row["input_ids"], [False, *(label != -100 for label in row["labels"][1:])]
    if made.sample is None:
        return {"unexplained: cut"} if any(trains) else set()
    if made.sample.input_ids.tolist() == ids:
        return differences(made.renderer, made.record, made.sample, trains)
    text, theirs = decoder.decode(made.sample.input_ids), decoder.decode(ids)
    if theirs == text + OPENING:
        return {OPENED}
    if theirs.count(": null") > text.count(": null"):
        return {NULLS}
    return {
        otherwise(made, is_less=len(theirs) < len(text) or len(ids) == len(made.sample.input_ids))
    }


def otherwise(made: Made, *, is_less: bool) -> str:
    """Why axolotl's text of a chat is another one."""
    if not isinstance(made.record, Conversation):
        return OTHER
    if '"type": "reasoning"' in json.dumps(made.values):
        return GLUED
    keys = {key for message in made.record.messages for key in message.fields}
    return LOST if is_less and keys & {"tool_calls", "reasoning_content"} else OTHER


def settings_of(reference: Path) -> list[Setting]:
    return [*(drawn_chat(number, reference) for number in range(CHATS)), *plain()]


def all_compared(reference: Path, axolotl: Path, home: Path) -> dict[str, str]:
    """What came of each setting; axolotl runs once for all of them."""
    tokenizers = Tokenizers(reference, home / "tokenizers")
    for setting in (found := settings_of(reference)):
        write(setting, tokenizers, home / "settings" / setting.name)
    command = [str(axolotl), str(PROGRAM), str(home / "settings")]
    subprocess.run(command, env=environment(home), check=True, timeout=SECONDS)
    return {
        setting.name: compared(
            setting,
            home / "settings" / setting.name,
            tokenizers.load(f"tokenizers/{setting.tokenizer}"),
        )
        for setting in found
    }


@pytest.mark.slow
def test_every_difference_has_a_name(reference: Path, axolotl: Path, tmp_path: Path) -> None:
    found = all_compared(reference, axolotl, tmp_path)
    strange = {name: what for name, what in found.items() if not is_known(what)}
    assert not strange
    assert Counter(found.values())[EQUAL] >= EQUAL_AT_LEAST


def is_known(what: str) -> bool:
    if what.startswith("refused here"):
        return any(known in what for known in REFUSED_HERE)
    if what.startswith("refused there"):
        return any(known in what for known in REFUSED_THERE)
    return set(what.split(", ")) <= KNOWN


def test_settings_are_the_same_each_time(reference: Path) -> None:
    assert settings_of(reference) == settings_of(reference)
    assert len({setting.name for setting in settings_of(reference)}) == len(settings_of(reference))
    entries = [setting.entry for setting in settings_of(reference)]
    keys = {key for entry in entries for key in entry}
    assert {"roles_to_train", "train_on_eos", "train_on_eot", "split_thinking"} <= keys
