"""Ask a finished model: many prompts at once, or a conversation in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TextIteratorStreamer,
)

from tunesmith.checkpoint.finished import load_finished, open_finished
from tunesmith.errors import ExitCode, RunError

Message = dict[str, str]

END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|return|>", "<turn|>")
"""Tokens that end a turn in the templates of the field, beside the tokenizer's own eos."""

HELP = "/reset forgets the conversation, /exit ends it"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. ``temperature`` 0 takes the likeliest; ``seed`` decides the draw."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Speaker:
    """A loaded model with its tokenizer and the tokens that end its turn."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    stops: tuple[int, ...]

    @property
    def has_template(self) -> bool:
        """Whether prompts are messages; without a template they are continued as they are."""
        return self.tokenizer.chat_template is not None


def load_speaker(model_dir: Path, *, device: torch.device | str = "cpu") -> Speaker:
    """The model of a finished run, a checkpoint, or any folder in Hugging Face layout.

    Raises:
        RunError: exit 2, there is no model or no tokenizer in the folder.
    """
    finished = open_finished(model_dir)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model_dir))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{model_dir} has no tokenizer that can be read",
            hint="name the output_dir of a finished run",
            where=str(model_dir),
            exit_code=ExitCode.WRONG_INPUT,
        ) from error
    model = load_finished(finished, device=device)
    return Speaker(model, tokenizer, find_stops(model, tokenizer))


def find_stops(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """The ids that end a turn: the model's, the tokenizer's, and known ones of the template."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    stops = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        stops.add(tokenizer.eos_token_id)
    template = tokenizer.chat_template or ""
    for token in END_OF_TURN:
        if token in str(template) and token in tokenizer.get_vocab():
            stops.add(tokenizer.convert_tokens_to_ids(token))
    return tuple(sorted(stops))


def generate(
    model_dir: Path | str,
    prompts: Sequence[str | Sequence[Message]],
    sampling: Sampling | None = None,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
) -> list[str]:
    """The answer to each prompt, without the end-of-turn token.

    A prompt is the user's message, or a list of messages. Without a chat template it is a text to
    be continued.
    """
    speaker = load_speaker(Path(model_dir), device=device)
    return answer(speaker, prompts, sampling or Sampling(), batch_size=batch_size)


def answer(
    speaker: Speaker,
    prompts: Sequence[str | Sequence[Message]],
    sampling: Sampling,
    *,
    batch_size: int = 8,
) -> list[str]:
    """What ``generate`` gives, of a model that is already loaded.

    Greedy answers do not depend on which prompts share a batch, up to rounding.
    """
    rows = [encode(speaker, prompt) for prompt in prompts]
    # Rows of like length share a batch: less padding. The answers come back in the given order.
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    answers = [""] * len(rows)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        for row, text in zip(
            chosen, _answer_batch(speaker, [rows[row] for row in chosen], sampling), strict=True
        ):
            answers[row] = text
    return answers


def encode(speaker: Speaker, prompt: str | Sequence[Message]) -> list[int]:
    """The ids of a prompt, up to where the model's turn begins.

    Raises:
        RunError: exit 2, messages are given to a model without a chat template, or nothing is.
    """
    if not speaker.has_template:
        if not isinstance(prompt, str):
            raise _no_template()
        ids = list(speaker.tokenizer.encode(prompt))
    else:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        text = speaker.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        # The template has written the special tokens already.
        ids = list(speaker.tokenizer.encode(str(text), add_special_tokens=False))
    if not ids:
        raise _empty_prompt()
    return ids


def chat(
    speaker: Speaker,
    sampling: Sampling,
    *,
    read: Callable[[str], str] = input,
    write: Callable[[str], object],
) -> None:
    """Talk in the terminal until ``/exit`` or the end of the input; answers appear as they come."""
    if not speaker.has_template:
        raise _no_template()
    write(f"{HELP}\n")
    messages: list[Message] = []
    while True:
        try:
            said = read("> ").strip()
        except (EOFError, KeyboardInterrupt):
            write("\n")
            return
        if said == "/exit":
            return
        if said == "/reset":
            messages = []
            write("forgotten\n")
            continue
        if not said:
            continue
        messages.append({"role": "user", "content": said})
        spoken = ""
        for piece in stream(speaker, messages, sampling):
            spoken += piece
            write(piece)
        write("\n")
        messages.append({"role": "assistant", "content": spoken})


def stream(speaker: Speaker, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
    """The answer to a conversation, in pieces, as soon as each is known."""
    ids = torch.tensor([encode(speaker, messages)], device=speaker.model.device)
    streamer = TextIteratorStreamer(speaker.tokenizer, skip_prompt=True, skip_special_tokens=True)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            _generate(speaker, ids, torch.ones_like(ids), sampling, streamer=streamer)
        except BaseException as error:  # handed to the reader, below
            failed.append(error)
            streamer.end()

    worker = Thread(target=work, name="generate", daemon=True)
    worker.start()
    yield from streamer
    worker.join()
    if failed:
        raise failed[0]


def _answer_batch(speaker: Speaker, rows: list[list[int]], sampling: Sampling) -> list[str]:
    """Answers to rows of ids, filled up on the left, where nothing looks."""
    longest = max(map(len, rows))
    pad = _pad_id(speaker)
    device = speaker.model.device
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor(
        [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device
    )
    made = _generate(speaker, ids, mask, sampling)
    return [_text(speaker, row[longest:].tolist()) for row in made]


def _generate(
    speaker: Speaker, ids: Tensor, mask: Tensor, sampling: Sampling, **more: Any
) -> Tensor:
    """The ids with what the model adds to them."""
    torch.manual_seed(sampling.seed)
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=sampling.temperature > 0,
        eos_token_id=list(speaker.stops) or None,
        pad_token_id=_pad_id(speaker),
        **(
            {"temperature": sampling.temperature, "top_p": sampling.top_p}
            if sampling.temperature > 0
            else {}
        ),
    )
    with torch.no_grad():
        made: Tensor = speaker.model.generate(
            input_ids=ids, attention_mask=mask, generation_config=config, **more
        )
    return made


def _text(speaker: Speaker, ids: list[int]) -> str:
    """The text of an answer: what comes before its first end-of-turn token."""
    for place, token in enumerate(ids):
        if token in speaker.stops:
            ids = ids[:place]
            break
    return str(speaker.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _pad_id(speaker: Speaker) -> int:
    """Any id does: the mask hides it."""
    pad = speaker.tokenizer.pad_token_id
    return int(pad) if pad is not None else (speaker.stops[0] if speaker.stops else 0)


def _no_template() -> RunError:
    return RunError(
        "this model has no chat template: it continues texts, it cannot chat",
        hint="give prompts as plain texts to `tunesmith generate`, or train with chat_template",
        exit_code=ExitCode.WRONG_INPUT,
    )


def _empty_prompt() -> RunError:
    return RunError(
        "a prompt is empty",
        hint="give the model at least one word",
        exit_code=ExitCode.WRONG_INPUT,
    )
