from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.unit.data.chats import SOURCE, chat, make_tokenizer, settings, template
from tunesmith.data.encode import Encoder
from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.proof import prove_origins, turn_letters
from tunesmith.data.records import Conversation, RowError, Segment, Segments, Source, Text
from tunesmith.data.render import Renderer, RenderSettings
from tunesmith.data.templates import ChatTemplate, resolve_template
from tunesmith.data.tokens import runs_of_weights, weigh_tokens
from tunesmith.errors import DataError, ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), bos="<s>", merges=[("Ġ", "b")])


def ids_of(folder: Path, *texts: str) -> list[int]:
    return [token for ids in Encoder(str(folder)).encode_each(texts) for token in ids]


# --- plain text and pieces ------------------------------------------------------------------------


def test_text_trains_whole_between_bos_and_eos(folder: Path) -> None:
    row = Renderer(settings(folder, eos="</s>")).render(Text("abc"), SOURCE)
    (sample,) = row.samples
    assert sample.input_ids.tolist() == ids_of(folder, "<s>", "abc", "</s>")
    assert sample.input_ids.dtype == np.int32
    assert sample.runs == ((1, 5, 1.0),)
    assert sample.source == "rows.jsonl:1"


def test_long_text_is_cut_into_pieces_that_lose_nothing(folder: Path) -> None:
    made = Renderer(settings(folder, eos="</s>", sequence_len=4))
    samples = made.render(Text("abcdefgh"), SOURCE).samples
    assert [len(sample) for sample in samples] == [4, 4, 2]
    joined = [token for sample in samples for token in sample.input_ids.tolist()]
    assert joined == ids_of(folder, "<s>", "abcdefgh", "</s>")
    assert [sample.runs for sample in samples] == [((1, 4, 1.0),), ((1, 4, 1.0),), ((1, 2, 1.0),)]


def test_text_that_ends_in_the_eos_gets_no_second_one(folder: Path) -> None:
    (sample,) = Renderer(settings(folder, eos="</s>")).render(Text("a</s>"), SOURCE).samples
    assert sample.input_ids.tolist() == ids_of(folder, "<s>", "a", "</s>")


def test_pieces_are_tokenized_one_by_one(folder: Path) -> None:
    """ " b" is one token, but a border between the blank and the letter keeps them apart."""
    record = Segments((Segment("a ", False), Segment("b", True)))
    (sample,) = Renderer(settings(folder, eos="</s>")).render(record, SOURCE).samples
    assert sample.input_ids.tolist() == ids_of(folder, "<s>", "a ", "b", "</s>")
    assert sample.runs == ((3, 5, 1.0),)


def test_pieces_without_special_tokens(folder: Path) -> None:
    pieces = (Segment("a", True), Segment("b", False), Segment("c", True))
    record = Segments(pieces, special_tokens=False)
    (sample,) = Renderer(settings(folder, eos="</s>")).render(record, SOURCE).samples
    assert sample.input_ids.tolist() == ids_of(folder, "a", "b", "c")
    assert sample.runs == ((2, 3, 1.0),)


def test_a_masked_last_piece_has_a_masked_eos(folder: Path) -> None:
    record = Segments((Segment("a", True), Segment("b", False)))
    (sample,) = Renderer(settings(folder, eos="</s>")).render(record, SOURCE).samples
    assert sample.runs == ((1, 2, 1.0),)


def test_half_a_surrogate_pair_is_the_rows_error(folder: Path) -> None:
    made = Renderer(settings(folder, "chatml"))
    for record in (Text("a\ud83d"), chat(("user", "u"), ("assistant", "a\ud83d"))):
        with pytest.raises(RowError, match="surrogate"):
            made.render(record, SOURCE)


def test_a_chat_without_a_template_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="needs a chat template"):
        Renderer(settings(folder)).render(chat(("user", "u"), ("assistant", "a")), SOURCE)


def test_a_tokenizer_without_a_fast_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Renderer(RenderSettings(str(tmp_path), "digest", 16))


# --- tokens ---------------------------------------------------------------------------------------


def test_offsets_hold_the_blanks_that_post_processors_trim(folder: Path) -> None:
    encoded = Encoder(str(folder)).encode("a b")
    assert encoded.offsets.tolist() == [[0, 1], [1, 3]]


def test_the_encoder_knows_what_the_tokenizer_adds(folder: Path, tmp_path: Path) -> None:
    assert list(Encoder(str(folder)).opening) == ids_of(folder, "<s>")
    assert Encoder(str(folder)).closing == ()
    bare = Encoder(str(make_tokenizer(tmp_path)))
    assert bare.opening == bare.closing == ()


def test_a_token_trains_only_if_all_of_its_characters_do(folder: Path) -> None:
    encoded = Encoder(str(folder)).encode("a b😀c")
    assert len(encoded.ids) == 7
    assert weigh_tokens(encoded, [(2, 5, 1.0)], 5).tolist() == [0, 0, *[1] * 5]
    assert weigh_tokens(encoded, [(1, 3, 1.0)], 5).tolist() == [0, 1, *[0] * 5]
    assert weigh_tokens(encoded, [(3, 4, 1.0)], 5).tolist() == [0, 0, *[1] * 4, 0]
    assert not weigh_tokens(encoded, [], 5).any()


def test_runs_of_weights_never_hold_the_first_token() -> None:
    flags = np.array([True, True, False, True, False, True])
    assert runs_of_weights(flags) == ((1, 2, 1.0), (3, 4, 1.0), (5, 6, 1.0))
    assert runs_of_weights(np.array([True])) == ()
    assert runs_of_weights(np.array([False, False])) == ()


# --- settings -------------------------------------------------------------------------------------


CHANGES: dict[str, Any] = {
    "tokenizer_digest": "other",
    "sequence_len": 7,
    "template": template("{{ other }}"),
    "special_tokens": {"bos_token": "<x>"},
    "eos_id": 3,
    "eos_text": "<x>",
    "eot_tokens": ("<x>",),
    "variables": {"enable_thinking": False},
    "roles_to_train": None,
    "roles": {"user": ("x",)},
    "turns_to_train": "last",
    "train_on_eos": "all",
    "train_on_eot": "none",
    "history": "last",
    "thinking_key": "thought",
    "split_thinking": True,
}


def test_the_digest_moves_with_everything_that_moves_tokens(folder: Path) -> None:
    base = settings(folder, "chatml")
    names = {item.name for item in dataclasses.fields(base)}
    assert names == {*CHANGES, "tokenizer_path", "now"}
    digests = {dataclasses.replace(base, **{name: value}).digest for name, value in CHANGES.items()}
    assert len(digests | {base.digest}) == len(CHANGES) + 1


def test_the_digest_leaves_out_where_and_when(folder: Path) -> None:
    base = settings(folder, "chatml")
    assert dataclasses.replace(base, tokenizer_path="/other").digest == base.digest
    assert dataclasses.replace(base, now="2025-01-01T00:00:00").digest == base.digest
    dated = dataclasses.replace(base, template=template("{{ strftime_now('%Y') }}"))
    assert dataclasses.replace(dated, now="2025-01-01T00:00:00").digest != dated.digest
    assert pickle.loads(pickle.dumps(base)).digest == base.digest


def test_a_row_gives_the_same_bytes_every_time(folder: Path) -> None:
    record = chat(("user", "u"), ("assistant", "a b"))
    rows = [Renderer(settings(folder, "chatml")).render(record, SOURCE) for _ in range(2)]
    assert rows[0].samples[0].input_ids.tobytes() == rows[1].samples[0].input_ids.tobytes()
    assert rows[0].samples[0].runs == rows[1].samples[0].runs


# --- explain --------------------------------------------------------------------------------------


def test_explain_names_origin_and_reason_of_every_token(folder: Path) -> None:
    made = Renderer(settings(folder, "chatml"))
    record = chat(("user", "u"), ("assistant", "a"))
    (views,) = made.explain(record)
    sample = made.render(record, SOURCE).samples[0]
    assert [view.id for view in views] == sample.input_ids.tolist()
    assert [view.weight for view in views] == sample.target_weights().tolist()
    by_text = {view.text: view for view in views}
    assert by_text["<|im_start|>"].reason == "template text outside of bodies"
    assert views[0].reason == "nothing predicts the first token"
    user = next(view for view in views if view.field == "content" and view.message == 0)
    assert (user.role, user.reason) == ("user", "a turn that does not train")
    answer = next(view for view in views if view.field == "content" and view.message == 1)
    assert (answer.role, answer.reason) == ("assistant", "body of a trained turn")
    assert [view.reason for view in views if view.text == "<|im_end|>"] == [
        "an end of turn that does not train",
        "end of turn",
    ]


def test_explain_shows_text_and_pieces(folder: Path) -> None:
    made = Renderer(settings(folder, eos="</s>"))
    (views,) = made.explain(Segments((Segment("a", False), Segment("é", True))))
    assert [view.weight for view in views] == [0, 0, 1, 1, 1]
    assert views[1].reason == "a piece that does not train"
    assert views[-1].text == "</s>"
    assert {view.field for view in views} == {"piece"}
    assert {view.field for view in made.explain(Text("a"))[0]} == {"text"}


def test_a_character_of_several_tokens_is_told_once(folder: Path) -> None:
    text = "Grüße 🎉 日本語"
    made = Renderer(settings(folder, "chatml", eos="</s>"))
    (views,) = made.explain(chat(("user", "u"), ("assistant", text)))
    assert text in "".join(view.text for view in views)
    (views,) = made.explain(Segments((Segment(text, True),), special_tokens=False))
    assert "".join(view.text for view in views) == text


# --- proofs ---------------------------------------------------------------------------------------


def test_letters_turn_but_marks_stay() -> None:
    assert turn_letters("azAZ 1é<think>b</think>{c}") == "baBA 1é<think>c</think>{c}"


LOSES = "{% for m in messages %}[{{ m.role }}]{{ m.content | lose }}</s>{% endfor %}"


def test_a_lost_origin_is_found_by_changing_letters(folder: Path) -> None:
    """A filter that hands back text without its origin, as a bug of ours would."""
    compiled = CompiledTemplate("{{ messages[0].content }}", {}, "2024-07-26T00:00:00")
    for environment in (compiled._tracking.environment, compiled._plain.environment):
        environment.filters["lose"] = lambda text: "".join(chr(ord(letter)) for letter in text)
    compiled._tracking = compiled._tracking.environment.from_string(LOSES)
    compiled._plain = compiled._plain.environment.from_string(LOSES)
    with pytest.raises(RowError, match="its origin was lost"):
        prove_origins(chat(("user", "hi"), ("assistant", "yo")), compiled, seed=1)


def test_only_some_rows_are_proved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proved: list[int] = []
    monkeypatch.setattr(
        "tunesmith.data.render.prove_origins", lambda record, compiled, *, seed: proved.append(seed)
    )
    made = Renderer(settings(folder, "chatml"))
    record = chat(("user", "u"), ("assistant", "a"))
    for row in (1, 64, 65, 999, 1000, 1001, 2000):
        made.render(record, Source(0, "rows.jsonl", row))
    assert proved == [1, 64, 1000, 2000]


def test_a_text_that_tracking_changes_is_the_rows_error(folder: Path) -> None:
    """``escape`` makes text of a kind that our sum of it and a plain string does not keep."""
    text = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content | e + '<' }}</s>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    with pytest.raises(RowError, match="changed the text"):
        Renderer(settings(folder, text, eos="</s>")).render(
            chat(("user", "u"), ("assistant", "a")), SOURCE
        )


# --- against transformers -------------------------------------------------------------------------


STABLE = ("bpe4k_chatml", "bpe4k_llama3", "bpe4k_gemma", "mistral_v1_spm")


@pytest.fixture(scope="module")
def tokenizers(
    reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, PreTrainedTokenizerFast]:
    """Each reference tokenizer, loaded again from a folder that holds its fast form."""
    loaded = {}
    for path in sorted((reference / "data/tokenizers").iterdir()):
        if (path / "tokenizer_config.json").exists():
            home = tmp_path_factory.mktemp(path.name)
            AutoTokenizer.from_pretrained(path).save_pretrained(home)
            loaded[path.name] = AutoTokenizer.from_pretrained(home)
    return loaded


def settings_of(
    tokenizer: PreTrainedTokenizerFast, chosen: ChatTemplate | None, **more: Any
) -> RenderSettings:
    specials = {
        name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)
    }
    values: dict[str, Any] = {"sequence_len": 1 << 20, **more}
    return RenderSettings(
        str(tokenizer.name_or_path),
        "digest",
        template=chosen,
        special_tokens=specials,
        eos_id=tokenizer.eos_token_id,
        eos_text=tokenizer.eos_token or "",
        **values,
    )


def alternating_chats(reference: Path) -> list[Conversation]:
    """Real conversations of user and assistant in turn, from three data sets."""
    chats = []
    for name in ("gsm8k_chat_openai", "mt_bench_multiturn", "sharegpt_dummy"):
        path = reference / f"data/chat/{name}.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines()[:20]:
            row = json.loads(line)
            turns = row.get("messages") or row["conversations"]
            names = {"human": "user", "gpt": "assistant"}
            pairs = [
                (names.get(role := turn.get("role") or turn["from"], role),
                 turn.get("content") or turn["value"])
                for turn in turns
            ]  # fmt: skip
            chats.append(chat(*[pair for pair in pairs if pair[0] != "system"]))
    return chats


def answers_by_prefixes(
    tokenizer: PreTrainedTokenizerFast, record: Conversation
) -> list[tuple[int, int]]:
    """The characters of each answer, from what renderings of shorter conversations end with.

    An answer starts where the rendering with the generation prompt ends and ends, blanks left out,
    where the rendering with the answer does.
    """
    messages = [dict(message.fields) for message in record.messages]
    spans = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = tokenizer.apply_chat_template(
                messages[:number], tokenize=False, add_generation_prompt=True
            )
            whole = tokenizer.apply_chat_template(messages[: number + 1], tokenize=False)
            assert whole.startswith(prompt)
            spans.append((len(prompt), len(whole.rstrip())))
    return spans


@pytest.mark.parametrize("name", STABLE)
def test_masks_are_those_of_prefix_rendering_by_transformers(
    name: str, tokenizers: dict[str, PreTrainedTokenizerFast], reference: Path
) -> None:
    tokenizer = tokenizers[name]
    made = Renderer(settings_of(tokenizer, resolve_template(tokenizer.chat_template)))
    encoder = Encoder(str(tokenizer.name_or_path))
    for record in alternating_chats(reference):
        messages = [dict(message.fields) for message in record.messages]
        row = made.render(record, SOURCE)
        (sample,) = row.samples
        expected = tokenizer.apply_chat_template(messages, return_dict=False)
        assert sample.input_ids.tolist() == expected
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        encoded = encoder.encode(text)
        trained = np.zeros(len(encoded.ids), dtype=bool)
        for start, end in answers_by_prefixes(tokenizer, record):
            trained |= (encoded.offsets[:, 0] >= start) & (encoded.offsets[:, 1] <= end)
        assert sample.runs == runs_of_weights(trained)
        assert sample.total_weight > 0
