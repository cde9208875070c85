from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unit.export.parts import byte_tokenizer, make_base, make_export
from tunesmith.errors import ExitCode, RunError
from tunesmith.export.final import export
from tunesmith.serve.chat import (
    Sampling,
    Speaker,
    answer,
    chat,
    encode,
    find_stops,
    generate,
    load_speaker,
    stream,
)

SHORT = Sampling(max_new_tokens=12)
PROMPTS = ["Hi", "What is the capital of France, and why?", "2 + 2 =", "x" * 60, "Bye"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def speaker(folder) -> Speaker:
    return load_speaker(folder)


@pytest.fixture
def scripted(folder) -> Speaker:
    """A model that answers ``ok`` and ends its turn, then talks on if nobody stops it."""
    speaker = load_speaker(folder)
    tokenizer = speaker.tokenizer
    o, k, newline = (tokenizer.encode(c)[0] for c in "ok\n")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    after = {newline: o, o: k, k: end, end: o}
    forward = speaker.model.forward

    def fixed(*arguments, input_ids, **options):
        output = forward(*arguments, input_ids=input_ids, **options)
        output.logits = torch.zeros_like(output.logits)
        for row, last in enumerate(input_ids[:, -1].tolist()):
            output.logits[row, -1, after[last]] = 1.0
        return output

    speaker.model.forward = fixed
    return speaker


def test_an_answer_ends_with_the_turn(scripted):
    assert answer(scripted, ["Hi", [{"role": "user", "content": "Hello"}]], SHORT) == ["ok", "ok"]


def test_an_answer_is_no_longer_than_asked(speaker):
    for text in answer(speaker, PROMPTS, Sampling(max_new_tokens=3)):
        assert len(byte_tokenizer().encode(text)) <= 3 * 3  # a broken byte becomes three


@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_batch_says_what_single_prompts_say(speaker, batch_size):
    single = [answer(speaker, [prompt], SHORT)[0] for prompt in PROMPTS]
    assert answer(speaker, PROMPTS, SHORT, batch_size=batch_size) == single
    assert len(set(single)) > 1


def test_greedy_is_the_likeliest_token_each_time(speaker):
    ids = encode(speaker, PROMPTS[1])
    expected: list[int] = []
    with torch.no_grad():
        for _ in range(SHORT.max_new_tokens):
            logits = speaker.model(input_ids=torch.tensor([ids + expected])).logits
            token = int(logits[0, -1].argmax())
            if token in speaker.stops:
                break
            expected.append(token)
    text = speaker.tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert answer(speaker, [PROMPTS[1]], SHORT) == [text]


def test_sampling_is_seeded(speaker):
    def draw(seed: int) -> list[str]:
        return answer(speaker, PROMPTS, Sampling(12, temperature=1.0, top_p=0.9, seed=seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1) != answer(speaker, PROMPTS, SHORT)


def test_a_finished_adapter_answers_as_its_own_model(tmp_path, folder):
    export(make_export(tmp_path, folder, learned=0.2))
    trained = generate(tmp_path, PROMPTS, SHORT)
    assert trained != generate(folder, PROMPTS, SHORT)


def test_a_prompt_ends_where_the_models_turn_begins(speaker):
    text = speaker.tokenizer.decode(encode(speaker, "Hi"))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_stops_are_those_of_model_tokenizer_and_template(folder):
    speaker = load_speaker(folder)
    ids = {t: speaker.tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")}
    speaker.model.generation_config.eos_token_id = ids["<|endoftext|>"]
    speaker.tokenizer.eos_token = "<|endoftext|>"
    assert find_stops(speaker.model, speaker.tokenizer) == tuple(sorted(ids.values()))
    speaker.tokenizer.chat_template = None
    assert find_stops(speaker.model, speaker.tokenizer) == (ids["<|endoftext|>"],)


def test_without_a_template_texts_are_continued(folder):
    loaded = load_speaker(folder)
    plain = Speaker(loaded.model, byte_tokenizer(template=None), loaded.stops)
    assert encode(plain, "Hi") == byte_tokenizer().encode("Hi")
    assert len(answer(plain, PROMPTS, SHORT)) == len(PROMPTS)
    for ask in (
        lambda: encode(plain, [{"role": "user", "content": "Hi"}]),
        lambda: chat(plain, SHORT, read=lambda _: "/exit", write=print),
    ):
        with pytest.raises(RunError, match="no chat template") as caught:
            ask()
        assert caught.value.exit_code == ExitCode.WRONG_INPUT
    with pytest.raises(RunError, match="a prompt is empty"):
        encode(plain, "")


def test_the_stream_says_what_the_answer_is(speaker):
    messages = [{"role": "user", "content": PROMPTS[1]}]
    assert (
        "".join(stream(speaker, messages, SHORT)).strip() == answer(speaker, [messages], SHORT)[0]
    )


def test_an_error_in_the_model_reaches_the_reader(folder):
    broken = load_speaker(folder)

    def fail(*arguments, **options):
        raise ValueError("mine")

    broken.model.forward = fail
    with pytest.raises(ValueError, match="mine"):
        list(stream(broken, [{"role": "user", "content": "Hi"}], SHORT))


def converse(speaker: Speaker, lines: list[str]) -> str:
    """What is written while these lines are said."""
    said = iter(lines)
    written: list[str] = []

    def read(prompt: str) -> str:
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    chat(speaker, SHORT, read=read, write=written.append)
    return "".join(written)


def test_a_conversation_is_remembered_until_it_is_reset(scripted, monkeypatch):
    seen: list[list[str]] = []
    apply = scripted.tokenizer.apply_chat_template

    def spy(messages, **options):
        seen.append([message["content"] for message in messages])
        return apply(messages, **options)

    monkeypatch.setattr(scripted.tokenizer, "apply_chat_template", spy)
    written = converse(scripted, ["one", "  ", "two", "/reset", "three", "/exit", "never"])
    assert seen == [["one"], ["one", "ok", "two"], ["three"]]
    assert written.count("ok\n") == 3
    assert "forgotten\n" in written


def test_the_end_of_the_input_ends_the_conversation(scripted):
    assert converse(scripted, ["one"]).endswith("ok\n\n")


@pytest.mark.parametrize(("make", "words"), [(False, "neither a model"), (True, "no tokenizer")])
def test_what_is_no_model_is_refused(tmp_path, make, words):
    if make:
        make_base(tmp_path)
        for path in tmp_path.glob("token*"):
            path.unlink()
        (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(RunError, match=words) as caught:
        load_speaker(tmp_path)
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
