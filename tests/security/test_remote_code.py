"""Code of a model's repository runs where the config names its bytes, and nowhere else."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from tests import smallrun, warm
from tests.security.home import approval, make_home
from tunesmith.config.model import ModelSection, RemoteCode
from tunesmith.config.read import load
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.errors import ConfigError, ExitCode, ModelError
from tunesmith.models.load import load_model, read_config
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file that the model's code makes when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def home(tmp_path: Path, ran: Path, request: pytest.FixtureRequest) -> Path:
    """A model that needs code of its own, by a name that no other test has."""
    name = "home_" + re.sub(r"\W", "_", request.node.name)
    return make_home(smallrun.base(tmp_path), ran, name)


def refused(folder: Path, **keys: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        locate(ModelSection(base=str(folder), **keys))
    assert caught.value.exit_code == ExitCode.UNSAFE
    return caught.value


def printed_block(error: ModelError) -> dict[str, Any]:
    """The block of the error's hint, as a user pastes it."""
    text = error.hint[error.hint.index("    remote_code:") :]
    block: dict[str, Any] = YAML(typ="safe").load(text)["remote_code"]
    return block


@pytest.mark.parametrize("trust", [True, False])
def test_code_is_not_run_and_the_block_to_add_is_printed(
    trust: bool, home: Path, ran: Path
) -> None:
    error = refused(home, trust_remote_code=trust)
    assert "trust_remote_code alone is not enough" in error.message
    block = printed_block(error)
    name = json.loads((home / "config.json").read_text())["model_type"]
    assert block == approval(str(home), ran, name)
    assert set(block["sha256"]) == {
        "configuration_home.py",
        "modeling_home.py",
        "more/unused.py",
        "parts.py",
    }
    assert not ran.exists()


def test_approved_code_is_run_and_transformers_then_knows_the_model(
    home: Path, ran: Path, caplog: pytest.LogCaptureFixture
) -> None:
    approved = RemoteCode(**printed_block(refused(home)))
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        base = locate(ModelSection(base=str(home), remote_code=approved))
    assert ran.exists()
    assert "code of" in caplog.text
    assert "modeling_home.py" in caplog.text
    load_tokenizer(base, TokenizerSection())
    model = load_model(base, torch.float32, None, CPU, "sdpa")
    assert type(model).__name__ == "HomeForCausalLM"
    assert model.marker == "homehome"
    assert read_config(base).model_type.startswith("home_")


def test_a_tokenizer_of_its_own_is_part_of_the_approval(home: Path, ran: Path) -> None:
    (home / "tokenization_home.py").write_text(
        "from transformers import PreTrainedTokenizerFast\n\n\n"
        "class HomeTokenizer(PreTrainedTokenizerFast):\n    marker = 'home'\n"
    )
    path = home / "tokenizer_config.json"
    named = {"AutoTokenizer": [None, "tokenization_home.HomeTokenizer"]}
    content = json.loads(path.read_text()) | {"auto_map": named, "tokenizer_class": "HomeTokenizer"}
    path.write_text(json.dumps(content))
    approved = RemoteCode(**printed_block(refused(home)))
    assert "tokenization_home.py" in approved.sha256
    base = locate(ModelSection(base=str(home), remote_code=approved))
    tokenizer = load_tokenizer(base, TokenizerSection())
    assert type(tokenizer).__name__ == "HomeTokenizer"
    assert tokenizer("Hello")["input_ids"]


def test_what_was_approved_once_is_asked_for_again(home: Path, ran: Path) -> None:
    approved = RemoteCode(**printed_block(refused(home)))
    locate(ModelSection(base=str(home), remote_code=approved))
    ran.unlink()
    refused(home)
    _change_a_byte(home)
    refused(home, remote_code=approved)
    assert not ran.exists()


def _change_a_byte(home: Path) -> None:
    path = home / "parts.py"
    path.write_bytes(path.read_bytes().replace(b"* 2", b"* 3"))


def _add_a_file(home: Path) -> None:
    (home / "more" / "extra.py").write_text("")


def _lose_a_file(home: Path) -> None:
    (home / "parts.py").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_change_a_byte, "parts.py has SHA-256"),
        (_add_a_file, "more/extra.py was not approved"),
        (_lose_a_file, "parts.py is not there"),
    ],
)
def test_any_other_byte_is_refused(change: Any, said: str, home: Path, ran: Path) -> None:
    approved = RemoteCode(**printed_block(refused(home)))
    change(home)
    assert said in refused(home, remote_code=approved).message
    assert not ran.exists()


@pytest.mark.parametrize(
    ("key", "value"), [("repo", "somebody/else"), ("commit", "0" * 40), ("sha256", {})]
)
def test_approval_of_another_repository_or_commit_is_refused(
    key: str, value: Any, home: Path, ran: Path
) -> None:
    approved = RemoteCode(**{**printed_block(refused(home)), key: value})
    refused(home, remote_code=approved, trust_remote_code=True)
    assert not ran.exists()


def test_code_of_another_repository_cannot_be_approved(home: Path, ran: Path) -> None:
    path = home / "config.json"
    path.write_text(path.read_text().replace("modeling_home.Home", "stranger/x--modeling.Home"))
    approved = RemoteCode(**printed_block(refused(home)))
    with pytest.raises(ModelError, match="names another repository"):
        locate(ModelSection(base=str(home), remote_code=approved))


def test_what_runs_is_what_was_hashed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes right after it was read is not the one that runs."""
    from tunesmith.models import remote_code

    approved = RemoteCode(**printed_block(refused(home)))
    kept = remote_code._kept

    def changed_meanwhile(*arguments: Any) -> Path:
        _change_a_byte(home)
        return kept(*arguments)

    monkeypatch.setattr(remote_code, "_kept", changed_meanwhile)
    base = locate(ModelSection(base=str(home), remote_code=approved))
    assert load_model(base, torch.float32, None, CPU, "sdpa").marker == "homehome"


def test_a_link_to_code_elsewhere_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("")
    (home / "more" / "link.py").symlink_to(tmp_path / "elsewhere.py")
    assert "link that leads out" in refused(home).message


def test_approval_without_need_is_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = smallrun.base(tmp_path)
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        locate(ModelSection(base=str(folder), remote_code=RemoteCode(repo="x", sha256={})))
    assert "remote_code has no effect" in caplog.text


EXACT = {"repo": "a/b", "commit": "0" * 40, "sha256": {"a.py": "0" * 64}}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"commit": "main"}, "remote_code.commit"),
        ({"commit": "abc1234"}, "remote_code.commit"),
        ({"repo": "a/other"}, "remote_code.repo"),
        ({"repo": None}, "remote_code.repo"),
        ({"sha256": {"a.py": "abc"}}, "remote_code.sha256"),
        ({"sha256": None}, "remote_code.sha256"),
        ({"trust": True}, "remote_code.trust"),
    ],
)
def test_a_block_that_says_less_is_refused(changes: dict[str, Any], key: str) -> None:
    keys = smallrun.keys(Path("a/b"), Path("x.jsonl"))
    load({**keys, "remote_code": EXACT})
    with pytest.raises(ConfigError) as caught:
        load({**keys, "remote_code": EXACT | changes})
    assert [problem.key for problem in caught.value.problems] == [key]


def test_a_model_with_approved_code_trains_and_is_written(home: Path, tmp_path: Path) -> None:
    data = smallrun.write_rows(tmp_path / "chat.jsonl", smallrun.chat_rows())
    keys = smallrun.keys(home, data, max_steps=2, save_steps=None)
    first = warm.run(tmp_path, "train", smallrun.write_yaml(tmp_path, keys))
    assert first.code == ExitCode.UNSAFE, first.err
    block = YAML(typ="safe").load(first.err[first.err.index("    remote_code:") :])
    second = warm.run(tmp_path, "train", smallrun.write_yaml(tmp_path, keys | block))
    assert second.code == 0, second.err
    third = warm.run(tmp_path, "generate", tmp_path / "out", "--prompt", "Say sun")
    assert third.code == ExitCode.UNSAFE, third.err
