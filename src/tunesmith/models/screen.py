"""A folder from elsewhere is looked at before any library reads it.

Libraries follow what a folder says: they import modules, fetch kernels, open files and unpickle.
What could make them do so is refused here, with plain JSON and plain file names as the only means.
Code of a model's own is a matter of `tunesmith.models.remote_code`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.data.inside import why_outside
from tunesmith.errors import ExitCode, ModelError

ADAPTER_CONFIG = "adapter_config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5")
"""Endings of files that are pickles, or can hold some."""

_CONFIGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    ADAPTER_CONFIG,
)
_READ = (
    *("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.py"),
    "additional_chat_templates/*.jinja",
)
"""What libraries open in such a folder, by name."""

_MAX_BYTES = 16 << 20
_FREE = frozenset(
    {
        *("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"),
        *("id2label", "label2id", "task_specific_params"),
    }
)
"""Blocks of texts that may be any: words of a vocabulary, names of classes, settings of tasks."""

_STEERS = re.compile(r"(attn|attention|experts?)_implementation|kernel")
"""Parts of keys by which libraries choose kernels. Other hidden keys are notes of those who wrote
the model, such as where it came from."""

_LEADS = ("_repo", "_repo_id", "_repository", "_module", "_file", "_files")
"""Ends of hidden keys that a loader of parts would have."""

_CODE_KEYS = ("_file", "_module", "_code")
"""Ends of keys under which the name of a file of Python is no note."""

_PLAIN = re.compile(r"[\w|.-]*")
"""A word, as functions of attention are named; a repository, path or address has more than that."""

_ELSEWHERE = re.compile(r"[/\\:]")
"""What a repository, a path or an address has."""


def screen_model(folder: Path, name: str, where: str = "base_model") -> None:
    """Refuse a folder in which something could run, or lead out of it. ``name`` is for people.

    Raises:
        ModelError: exit code 8; names the file, and the key where there is one.
    """
    if (folder / ADAPTER_CONFIG).exists():
        raise unsafe(
            f"{name} holds an adapter beside its weights: {ADAPTER_CONFIG} would lead transformers "
            "to another repository",
            hint="name the base model itself, or take the adapter out of the folder",
            where=where,
        )
    screen(folder, name)


def screen_adapter(folder: Path, name: str) -> None:
    """The same for a folder that holds an adapter, whose weights must be no pickle.

    Raises:
        ModelError: exit code 8; names the file, and the key where there is one.
    """
    require_no_pickle(folder, name, "adapter_model")
    config = read_object(folder / ADAPTER_CONFIG)
    if config.get("megatron_config") is not None:
        raise unsafe(
            f"{name}: {ADAPTER_CONFIG} names a module to import (megatron_core)",
            hint="take `megatron_config` out of it, if you trust the rest",
            where=str(folder / ADAPTER_CONFIG),
        )
    screen(folder, name)


def screen(folder: Path, name: str) -> None:
    """The same for a folder of settings alone, such as a tokenizer's.

    Raises:
        ModelError: exit code 8; names the file, and the key where there is one.
    """
    for pattern in _READ:
        for path in folder.glob(pattern):
            _require_inside(folder, name, path.relative_to(folder).as_posix(), path)
    for path in folder.glob("*.index.json"):
        shards = read_object(path).get("weight_map")
        shards = shards if isinstance(shards, Mapping) else {}
        for shard in sorted(set(map(_as_text, shards.values()))):
            _require_inside(folder, name, shard, path)
    for file in _CONFIGS:
        if (folder / file).exists():
            _screen_config(name, folder / file)


def require_no_pickle(folder: Path, name: str, stem: str, where: str = "") -> None:
    """Refuse a folder whose only weights are pickles.

    Raises:
        ModelError: exit code 8; names the file and a command that converts it.
    """
    index = f"{stem}.safetensors.index.json"
    safe = [*folder.glob(f"{stem}*.safetensors")]
    if (stem == "adapter_model" and not (folder / index).is_file() and safe) or (
        stem == "model" and any(folder.glob("*.safetensors"))
    ):
        return
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLED)
    weights = [path for path in pickles if path.name.startswith((stem, "pytorch_model"))]
    if not pickles:
        return
    found = (weights or pickles)[0]
    raise unsafe(
        f"{name} has pickled weights only ({found.name}); a pickle can run any code",
        hint="take a revision that has safetensors, or convert them where nothing can be lost (no "
        f"network, no secrets): {conversion(folder, found)}",
        where=where or str(found),
    )


def conversion(folder: Path, pickled: Path) -> str:
    """A command that writes the pickled weights of a folder as safetensors."""
    if pickled.name.startswith("adapter_model"):
        target = pickled.with_suffix(".safetensors")
        code = (
            "import sys, torch, safetensors.torch as s; "
            "w = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
            "s.save_file({n: t.contiguous() for n, t in w.items()}, sys.argv[2], {'format': 'pt'})"
        )
        return shlex.join(["python", "-c", code, str(pickled), str(target)])
    code = (
        "import sys; from transformers import AutoModelForCausalLM as M; "
        "M.from_pretrained(sys.argv[1], use_safetensors=False).save_pretrained(sys.argv[2])"
    )
    return shlex.join(["python", "-c", code, str(folder), f"{folder}-safetensors"])


def unsafe(message: str, *, hint: str, where: str) -> ModelError:
    """The error of everything that is refused for safety."""
    return ModelError(message, hint=hint, where=where, exit_code=ExitCode.UNSAFE)


def _require_inside(folder: Path, name: str, file: str, named_by: Path) -> None:
    reason = why_outside(folder, file)
    if reason is not None:
        is_itself = folder / file == named_by
        raise unsafe(
            f"{name}: {file} is refused: {reason}"
            if is_itself
            else f"{name}: {named_by.name} names {file!r}, and {reason}",
            hint="put the file itself into the folder, if it is yours",
            where=str(named_by),
        )


def _screen_config(name: str, path: Path) -> None:
    for key, value in _leaves(read_object(path)):
        reason = _why_refused(key, value)
        if reason is not None:
            raise unsafe(
                f"{name}: {path.name} sets {'.'.join(key)} to {value!r}, which {reason}",
                hint="take a repository that transformers can load by itself, or take the key out "
                "of a copy that you have read",
                where=f"{path}:{'.'.join(key)}",
            )


def _why_refused(key: tuple[str, ...], value: Any) -> str | None:
    """What is wrong with a leaf of a config; None where nothing is."""
    last = key[-1]
    if last == "trust_remote_code" and value not in (False, None):
        return "is not for a repository to decide"
    if last == "use_kernels" and value not in (False, None):
        return "would fetch kernels"
    if not isinstance(value, str) or "auto_map" in key:
        return None
    if value.endswith(".py") and last.endswith(_CODE_KEYS):
        return "names code to run"
    if any(map(_STEERS.search, key)) and not _PLAIN.fullmatch(value):
        return "names a kernel or a repository"
    if last.startswith("_") and last.endswith(_LEADS) and _ELSEWHERE.search(value):
        return "names a repository or a path"
    is_file = last in ("transformers_weights", "fast_tokenizer_files", "chat_template.name")
    if is_file and (_ELSEWHERE.search(value) or value.startswith("..")):
        return "names a file elsewhere"
    return None


def _leaves(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that holds no others, with its path; blocks of free texts are left out."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "chat_template":  # several are written as files of these names
                for called in _names(inner):
                    yield (*key, "chat_template.name"), called
            elif name not in _FREE:
                yield from _leaves(inner, (*key, str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key or ("",))
    else:
        yield key or ("",), value


def _names(templates: Any) -> list[Any]:
    """What several chat templates are called, in either way to write them."""
    if isinstance(templates, Mapping):
        return list(templates)
    listed = templates if isinstance(templates, list) else []
    return [each.get("name") for each in listed if isinstance(each, Mapping)]


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: it is something else, or too large to be what its name says.
    """
    reason = why_outside(path.parent, path.name)
    if reason is not None:
        raise unsafe(f"{path.name} is refused: {reason}", hint="replace it", where=str(path))
    if path.name in _CONFIGS and path.stat().st_size > _MAX_BYTES:
        raise unsafe(f"{path.name} is larger than 16 MiB", hint="replace it", where=str(path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the model's {path.name} is not JSON: {error}",
            hint="fetch the model again",
            where=str(path),
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"the model's {path.name} is no JSON object",
            hint="fetch the model again",
            where=str(path),
        )
    return content


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
