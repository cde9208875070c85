"""Code that a model's repository brings: run only where the config names its very bytes.

``trust_remote_code`` says yes to whatever the repository holds at the time. ``remote_code`` says
yes to files that somebody has read: repository, commit, and the SHA-256 of each ``.py`` file. The
bytes that were hashed are the bytes that run: they are read once, and kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from tunesmith.config.model import RemoteCode
from tunesmith.data.inside import why_outside
from tunesmith.dist.runtime import cache_dir
from tunesmith.errors import ModelError
from tunesmith.log import get_logger
from tunesmith.models.screen import read_object, unsafe

log = get_logger(__name__)

AUTO_MAP = "auto_map"
_CLASSES = {"AutoConfig": AutoConfig, "AutoModelForCausalLM": AutoModelForCausalLM}


def needs_code(folder: Path) -> bool:
    """Whether the model in ``folder`` brings classes that transformers does not have itself."""
    return bool(_own_types(read_object(folder / "config.json")))


def _own_types(config: Mapping[str, Any]) -> set[str]:
    """The types of model, also of parts, that come with code and are none of transformers'.

    Those that were admitted before in this process are among them: each model is asked anew.
    """
    own = str(config.get("model_type"))
    found = {own} if config.get(AUTO_MAP) and own not in CONFIG_MAPPING_NAMES else set()
    inner = [value for value in config.values() if isinstance(value, Mapping)]
    return found.union(*map(_own_types, inner))


def approved_commit(approved: RemoteCode | None) -> str | None:
    """The commit that is taken where the config names no revision."""
    return approved.commit if approved is not None else None


def admit(folder: Path, repo: str, commit: str | None, approved: RemoteCode | None) -> None:
    """Make transformers know the classes of a folder that ``needs_code``, once they are approved.

    ``repo`` is what the config calls the model; ``commit`` is the hub's, None for a folder here.
    Afterwards transformers has them for this process, and never looks for code in a folder again.

    Raises:
        ModelError: exit code 8: they are not approved (the hint is the block to add), or something
            differs from what was; exit code 2: the code cannot be imported.
    """
    content = {name: (folder / name).read_bytes() for name in _python_files(folder)}
    found = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    if approved is None:
        raise _not_approved(repo, commit, found)
    _require_same(repo, commit, found, approved)
    _register(_kept(content, found), folder, repo)


def require_known(folder: Path, name: str) -> None:
    """Refuse a model of unknown classes where no config is at hand that could approve them.

    What this process has admitted is known: a run reads what it has written.

    Raises:
        ModelError: exit code 8.
    """
    if any(name not in CONFIG_MAPPING for name in _own_types(read_object(folder / "config.json"))):
        raise unsafe(
            f"{name} needs code from its own repository, and no config is read here that names "
            "its bytes",
            hint="`remote_code` is a key of `train`; load the finished model yourself, where you "
            "would run that code",
            where=str(folder),
        )


def describe_block(repo: str, commit: str | None, found: Mapping[str, str]) -> str:
    """The ``remote_code`` block of a config for these files."""
    lines = ["remote_code:", f"  repo: {json.dumps(repo)}"]
    lines += [f'  commit: "{commit}"'] if commit is not None else []
    lines += ["  sha256:", *(f'    {json.dumps(name)}: "{sha}"' for name, sha in found.items())]
    return "\n".join(lines)


def _python_files(folder: Path) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.py"))]
    for name in names:
        reason = why_outside(folder, name)
        if reason is not None:
            raise unsafe(f"{name} is refused: {reason}", hint="replace it", where=str(folder))
    return names


def _not_approved(repo: str, commit: str | None, found: Mapping[str, str]) -> ModelError:
    block = "\n".join(f"    {line}" for line in describe_block(repo, commit, found).splitlines())
    return unsafe(
        f"{repo} needs code from its own repository, which is not run unless you name its bytes; "
        "trust_remote_code alone is not enough",
        hint="choose a model that transformers has itself; or read these files, and where you "
        f"would run them, add to the config:\n{block}",
        where="remote_code",
    )


def _require_same(
    repo: str, commit: str | None, found: Mapping[str, str], approved: RemoteCode
) -> None:
    """Raise unless repository, commit and every file are those that were approved."""
    changed = [
        f"{what} is {is_!r}, approved was {was!r}"
        for what, is_, was in (("repo", repo, approved.repo), ("commit", commit, approved.commit))
        if is_ != was
    ]
    for name in sorted({*found, *approved.sha256}):
        is_, was = found.get(name), approved.sha256.get(name)
        if is_ != was:
            changed.append(
                f"{name} is not there"
                if is_ is None
                else f"{name} was not approved"
                if was is None
                else f"{name} has SHA-256 {is_[:12]}..., approved was {was[:12]}..."
            )
    if changed:
        raise unsafe(
            f"the code of {repo} is not what `remote_code` approves: {'; '.join(changed)}",
            hint="read what changed before you approve it; the block for these files is\n"
            + "\n".join(f"    {row}" for row in describe_block(repo, commit, found).splitlines()),
            where="remote_code",
        )


def _kept(content: Mapping[str, bytes], found: Mapping[str, str]) -> Path:
    """A folder of our own that holds exactly the bytes that were hashed."""
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]
    target = cache_dir() / "remote_code" / f"code_{digest}"
    if all(_holds(target / name, data) for name, data in content.items()):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    for name, data in content.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(data)
    shutil.rmtree(target, ignore_errors=True)  # whatever lies there is something else
    partial.rename(target)
    return target


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _register(code: Path, folder: Path, repo: str) -> None:
    """Import the classes that config.json and tokenizer_config.json name, from ``code`` alone."""
    config = read_object(folder / "config.json")
    named = config.get(AUTO_MAP) or {}
    try:
        config_class = _import(code, named.get("AutoConfig"))
        model_class = _import(code, named.get("AutoModelForCausalLM"))
        tokenizer_class = _import(code, _tokenizer_reference(folder))
        if config_class is None or model_class is None:
            raise ValueError("auto_map names no AutoConfig or no AutoModelForCausalLM")
        AutoConfig.register(config["model_type"], config_class, exist_ok=True)
        AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)
        if tokenizer_class is not None:
            AutoTokenizer.register(config_class, tokenizer_class=tokenizer_class, exist_ok=True)
    except Exception as error:  # a stranger's code raises what it likes
        raise ModelError(
            f"the approved code of {repo} cannot be used: {type(error).__name__}: {error}",
            hint="install what it imports, or choose a model that transformers has itself",
            where="remote_code",
        ) from error
    log.warning(
        "notice: code of %s is run, as `remote_code` approves: %s",
        repo,
        ", ".join(sorted(path.name for path in code.rglob("*.py"))),
    )


def _import(code: Path, reference: str | None) -> Any:
    """The class that ``module.Class`` names in ``code``; None for None."""
    if reference is None:
        return None
    if "--" in reference:
        raise ValueError(f"auto_map names another repository ({reference})")
    return get_class_from_dynamic_module(reference, str(code))


def _tokenizer_reference(folder: Path) -> str | None:
    path = folder / "tokenizer_config.json"
    named = (read_object(path).get(AUTO_MAP) or {}) if path.is_file() else {}
    found = named.get("AutoTokenizer") if isinstance(named, Mapping) else named
    slow_and_fast = found if isinstance(found, list) else [found]
    return next((reference for reference in reversed(slow_and_fast) if reference), None)
