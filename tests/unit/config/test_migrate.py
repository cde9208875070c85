import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.config.migrate import migrate
from tunesmith.config.read import LoadedConfig, load
from tunesmith.errors import ConfigError

HEAD = "base_model: m\nlearning_rate: 1e-4\nmicro_batch_size: 1\n"


def after(text: str) -> str:
    return migrate(dedent(text), "old.yaml").after


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("evaluation_strategy: 'no'  # never\n", "eval_strategy: 'no'  # never\n"),
        ("dataset_processes: 4\n", "dataset_num_proc: 4\n"),
        ("# fast\nflash_attention: true\nseed: 1\n", "# fast\nseed: 1\n"),
        ("sdp_attention: true # slow\n", "attn_implementation: sdpa # slow\n"),
        ("flash_attention: false\n", "flash_attention: false\n"),
        ("bfloat16: true\nbf16: true\n", "bf16: true\n"),
        ("bf16: auto # a\nfloat32: true\n", "bf16: false # a\n"),
        ("bf16: yes\n", "bf16: true\n"),
        ("evaluation_strategy: no\n", "eval_strategy: no\n"),
        (
            'bnb_4bit_quant_type: "nf4"\n',
            'bnb_config_kwargs:\n  bnb_4bit_quant_type: "nf4"\n',
        ),
        (
            "bnb_config_kwargs: {bnb_4bit_use_double_quant: true}\nbnb_4bit_quant_type: nf4\n",
            "bnb_config_kwargs: {bnb_4bit_use_double_quant: true, bnb_4bit_quant_type: nf4}\n",
        ),
        (
            "bnb_config_kwargs:\nbnb_4bit_quant_type: nf4\n",
            "bnb_config_kwargs:\n  bnb_4bit_quant_type: nf4\n",
        ),
        ("plugins: [axolotl.integrations.liger.LigerPlugin, mine]\n", "plugins: [mine]\n"),
        ("plugins:\n  - axolotl.integrations.liger.LigerPlugin\nseed: 1\n", "seed: 1\n"),
        ("unsloth_rope: true\nunsloth_lora_mlp: true", ""),
        ("dataset: rows.jsonl\n", "datasets: [{path: rows.jsonl}]\n"),
        ("datasets: 'rows.jsonl' # mine\n", "datasets: [{path: rows.jsonl}] # mine\n"),
        ("datasets: [a, b]\n", "datasets: [{path: a}, {path: b}]\n"),
        ("datasets:\n- a # 1\n- path: b\n", "datasets:\n- path: a # 1\n- path: b\n"),
        (
            "datasets:\n- path: a\n  message_field_role: who\n  message_field_content: b\n",
            "datasets:\n- path: a\n  message_property_mappings:\n    role: who\n    content: b\n",
        ),
        (
            "datasets:\n- {path: a, train_on_split: test}\n",
            "datasets:\n- {path: a, split: test}\n",
        ),
    ],
)
def test_old_keys_become_todays_in_their_place(before, expected):
    assert after(HEAD + before) == HEAD + expected


def test_sharegpt_becomes_chat_template_with_all_that_it_meant():
    before = """\
    datasets:
      - path: a.jsonl   # the rows
        type: sharegpt  # turns
        conversation: chatml
        field_human: person
        field: talk
        split: train
    """
    assert after(HEAD + dedent(before)) == HEAD + dedent(
        """\
        datasets:
          - path: a.jsonl   # the rows
            type: chat_template  # turns
            message_property_mappings:
              role: from
              content: value
            chat_template: chatml
            roles:
              user: [person]
            field_messages: talk
            split: train
        """
    )


def test_a_stream_becomes_data_sets_with_its_lines_as_they_were():
    before = """\
    # corpus
    pretraining_dataset:   # huge
      - path: "web"  # pages
        # all of it
        split: train
      - books
    max_steps: 10
    """
    assert after(HEAD + dedent(before)) == HEAD + dedent(
        """\
        # corpus
        datasets:   # huge
          - path: "web"  # pages
            # all of it
            split: train
            type: pretrain
          - path: books
            type: pretrain
        streaming: true
        max_steps: 10
        """
    )
    assert after(HEAD + "pretraining_dataset: web # x\n").endswith(
        "datasets: [{path: web, type: pretrain}] # x\nstreaming: true\n"
    )


def test_one_data_set_becomes_a_list_of_one_with_its_lines_as_they_were():
    before = """\
    dataset:
      path: a
      # how
      type:
        format: |
          {instruction}

          {input}
    seed: 1
    """
    assert after(HEAD + dedent(before)) == HEAD + dedent(
        """\
        datasets:
          - path: a
            # how
            type:
              format: |
                {instruction}

                {input}
        seed: 1
        """
    )


def test_a_comment_behind_a_block_of_text_does_not_become_a_part_of_it():
    block = "chat_template_jinja: |\n  text\n"
    before = HEAD + block + "unsloth_rope: true\n\n   # a comment\nseed: 1\n"
    assert after(before) == HEAD + block + "\n# a comment\nseed: 1\n"


def test_an_anchor_is_rewritten_once_for_all_who_share_it():
    before = (
        "datasets: &d\n- &e {path: a, type: sharegpt}\n- <<: *e\n  path: b\ntest_datasets: *d\n"
    )
    text = HEAD + before
    found = migrate(text, "old.yaml")
    assert found.after.count("chat_template") == 1
    assert found.after.endswith("- <<: *e\n  path: b\ntest_datasets: *d\n")


def test_what_an_anchor_shares_with_a_place_that_differs_is_left_to_the_user():
    text = HEAD + "load_4bit: true\ndatasets: [{path: &p rows, type: alpaca}]\ntest_dataset: *p\n"
    found = migrate(text, "old.yaml")
    assert found.after == text.replace("load_4", "load_in_4").replace(
        "test_dataset", "test_datasets"
    )
    assert {said(line).partition(" is ")[0] for line in found.rewritten} > {"load_4bit"}
    (left,) = found.left
    assert said(left).startswith("test_datasets: rows is read as ")


def test_a_merged_block_keeps_its_old_keys_and_the_others_are_rewritten():
    before = """\
    x-common: &common
      type: sharegpt
      conversation: chatml
    evaluation_strategy: 'no'  # never
    datasets:
      - path: a
        <<: *common
      - path: b
        train_on_split: test
        type: alpaca
    """
    text = HEAD + dedent(before)
    found = migrate(text, "old.yaml")
    assert found.after == text.replace("evaluation_strategy", "eval_strategy").replace(
        "train_on_split", "split"
    )
    assert len(found.rewritten) == 2
    assert "datasets.0.conversation" in found.left[0]
    assert "datasets.0.type" in found.left[1]
    assert migrate(found.after, "old.yaml") == replace(
        found, before=found.after, rewritten=(), left=found.left
    )
    assert loaded(found.after).config == loaded(text).config


def test_an_old_entry_that_becomes_a_list_keeps_its_comments_and_lines():
    before = """\
    datasets:
      # the data
      path: a.jsonl  # where
      type: sharegpt # what
      # more
      conversation: chatml
      field_human: person  # who
    """
    assert after(HEAD + dedent(before)) == HEAD + dedent(
        """\
        datasets:
          # the data
          - path: a.jsonl  # where
            type: chat_template # what
            field_messages: conversations
            message_property_mappings:
              role: from
              content: value
            # more
            chat_template: chatml
            roles:
              user: [person]  # who
        """
    )


def test_json_stays_json():
    old = {
        "base_model": "m",
        "learning_rate": 0.1,
        "micro_batch_size": 1,
        "evaluation_strategy": "no",
        "datasets": [{"path": "a", "type": "sharegpt", "conversation": "chatml"}],
        "bnb_4bit_quant_type": "nf4",
        "pretraining_sample_concatenation": True,
        "flash_attention": True,
    }
    for indent in (None, 2):
        found = migrate(json.dumps(old, indent=indent), "old.json")
        new = json.loads(found.after)
        assert new["bnb_config_kwargs"] == {"bnb_4bit_quant_type": "nf4"}
        assert new["datasets"][0]["message_property_mappings"] == {
            "role": "from",
            "content": "value",
        }
        assert not new.keys() & {"evaluation_strategy", "flash_attention"}
        assert migrate(found.after, "again").rewritten == ()


def test_wrong_and_unbuilt_keys_stay_for_the_user_to_see():
    text = HEAD + "rl: dpo\neta_min: 1\nlr: 3\nlandmark_attention: true\n"
    assert migrate(text, "old.yaml").after == text


def test_contradictions_are_not_resolved():
    text = HEAD + "dataset_processes: 4\ndataset_num_proc: 5\nflash_attention: true\n"
    expected = HEAD + "dataset_processes: 4\ndataset_num_proc: 5\n"
    assert migrate(text, "old.yaml").after == expected


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "a: 1\na: 2\n", "a: !x 1\n"])
def test_what_is_no_config_is_refused_with_its_place(text):
    with pytest.raises(ConfigError) as caught:
        migrate(text, "old.yaml")
    assert caught.value.problems[0].file == "old.yaml"


def test_an_empty_file_has_nothing_old():
    assert migrate("# nothing\n", "old.yaml").rewritten == ()


OLD_LINES = st.sampled_from(
    [
        "evaluation_strategy: 'no'",
        "dataset_processes: 3",
        "adam_eps: 1.0e-6",
        "flash_attention: on",
        "bnb_4bit_quant_type: nf4",
        "bnb_4bit_use_double_quant: true",
        "unsloth_rope: true",
        "torch_compile: true",
        "tokenizer_use_fast: false",
        "bfloat16: true",
        "optimizer: adamw_hf",
        "plugins: [axolotl.integrations.liger.LigerPlugin]",
        "lora_mlp_kernel: yes",
        "load_4bit: no",
        "seed: 7",
        "num_epochs: 2",
        "special_tokens:\n  pad_token: '<pad>'  # p",
        "lora_target_modules:\n- q_proj\n\n- v_proj",
        "chat_template_jinja: |\n  # no comment\n  flash_attention: true",
        "datasets:\n- path: a\n  type: sharegpt.load_role\n  # x\n  preprocess_shards: 2\n- b",
        "test_dataset: {path: c, message_field_role: who}",
    ]
)
NOISE = st.sampled_from(["", "# a comment", "   # another: one", "\n\n"])
TAILS = st.sampled_from(["", "  # why", " #x"])


@st.composite
def old_files(draw) -> str:
    keys = draw(st.lists(OLD_LINES, unique_by=lambda line: line.partition(":")[0]))
    if not any(key.startswith("datasets") for key in keys):
        keys.append(draw(st.sampled_from(["datasets: a", "dataset: {path: a}", "datasets: [a]"])))
    parts = [HEAD]
    for key in keys:
        multi = "\n" in key
        parts += [draw(NOISE), key + ("" if multi else draw(TAILS))]
    return "\n".join(parts) + draw(st.sampled_from(["", "\n", "\n# end\n"]))


@settings(deadline=None, max_examples=60)
@given(old_files())
def test_any_mixture_loads_to_the_same_without_a_word_of_old_keys(text):
    found = migrate(text, "old.yaml")
    before, migrated = loaded(text), loaded(found.after)
    assert migrated.config == before.config
    rewritten = Counter(said(line) for line in found.rewritten)
    assert Counter(map(said, migrated.notices)) == Counter(map(said, before.notices)) - rewritten
    assert found.after.count("#") >= text.count("#")
    assert migrate(found.after, "again").rewritten == ()


def loaded(text: str) -> LoadedConfig:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path)


def said(notice: str) -> str:
    return notice.partition(": ")[2]
