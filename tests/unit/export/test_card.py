from __future__ import annotations

from importlib.metadata import version

from huggingface_hub import ModelCard

from tunesmith.export.card import CardFacts, make_card


def test_the_hub_reads_the_front_matter():
    card = ModelCard(
        make_card(
            CardFacts(
                base="Qwen/Qwen2.5-0.5B",
                method="LoRA",
                data=("tatsu-lab/alpaca", "./rows.jsonl"),
                results={"eval_loss": 1.23456789},
                is_adapter=True,
            )
        )
    )
    assert card.data.base_model == "Qwen/Qwen2.5-0.5B"
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.datasets == ["tatsu-lab/alpaca"]
    assert {"tunesmith", "lora"} <= set(card.data.tags)
    assert "| eval_loss | 1.23457 |" in card.text
    assert f"- torch {version('torch')}" in card.text


def test_paths_are_no_hub_ids():
    card = ModelCard(make_card(CardFacts(base="/models/smol", method="full")))
    assert card.data.base_model is None
    assert card.data.library_name == "transformers"
    assert "`/models/smol`" in card.text
    for path in ("./x", "a/b/c", "model.gguf", "~/x"):
        assert ModelCard(make_card(CardFacts(base=path, method="full"))).data.base_model is None


def test_a_config_cannot_end_its_own_block():
    config = "chat_template_jinja: |\n  ```\n  ````\n"
    text = make_card(CardFacts(base="a", method="full", config=config))
    assert f"`````yaml\n{config}`````\n" in text


def test_names_are_quoted():
    card = ModelCard(make_card(CardFacts(base='a"b: c', method="full")))
    assert card.data.base_model == 'a"b: c'
