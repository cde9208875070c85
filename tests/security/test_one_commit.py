"""Everything of a repository is of the one commit that its branch was at when it was asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import smallrun
from tests.security import canary
from tests.security.home import approval, sources
from tests.security.moving_hub import Files, Hub, commit, serving
from tunesmith.config.data import DatasetEntry
from tunesmith.data import hub
from tunesmith.data.splits import parse_split
from tunesmith.errors import DataError, ExitCode

ROOT = Path(__file__).parents[2]
N_COMMITS = 5
RAN = Path(os.devnull)


def versions(base: Path) -> list[Files]:
    """The model with another number and another template in each commit."""
    found = []
    for number in range(1, N_COMMITS + 1):
        files = {path.name: path.read_bytes() for path in base.iterdir()}
        config = json.loads(files["config.json"]) | {"rms_norm_eps": number / 1000}
        files["config.json"] = json.dumps(config).encode()
        files["chat_template.jinja"] = f"{{# {number} #}}".encode()
        files |= dict.fromkeys(("evil.py", "tokenizer.py"), b"import os")
        files |= dict.fromkeys(canary.PICKLE_NAMES, canary.pickled(RAN))
        found.append(files)
    return found


def homes(base: Path) -> list[Files]:
    """A model that needs code of its own."""
    files = {path.name: path.read_bytes() for path in base.iterdir()}
    names = {
        "AutoConfig": "configuration_home.HomeConfig",
        "AutoModelForCausalLM": "modeling_home.HomeForCausalLM",
    }
    config = json.loads(files["config.json"]) | {"model_type": "home_made", "auto_map": names}
    files["config.json"] = json.dumps(config).encode()
    code = {name: text.encode() for name, text in sources(RAN, "home_made").items()}
    return [files | code] * N_COMMITS


def data(readme: str = "") -> list[Files]:
    return [
        {
            "train.jsonl": json.dumps({"text": f"commit {number}"}).encode() + b"\n",
            "data.py": b"raise SystemExit('a script ran')",
            **({"README.md": readme.encode()} if readme else {}),
        }
        for number in range(1, N_COMMITS + 1)
    ]


def readme(files: str) -> str:
    return f"---\nconfigs:\n- config_name: default\n  data_files: {json.dumps(files)}\n---\n"


@dataclass(frozen=True)
class Seen:
    """What each call came to, and what the hub was asked."""

    said: list[dict[str, Any]]
    again: list[dict[str, Any]]
    hub: Hub


CALLS: tuple[tuple[str, list[str], dict[str, Any]], ...] = (
    ("model", ["tiny/moves"], {}),
    ("model", ["tiny/pinned"], {"revision": commit(2)}),
    ("settings", ["tiny/pinned", "tiny/settings"], {}),
    ("model", ["tiny/home"], {"trust_remote_code": True}),
    ("model", ["tiny/home"], {"remote_code": {**approval("tiny/home", RAN), "commit": commit(2)}}),
    ("model", ["tiny/home"], {"remote_code": approval("tiny/home", RAN)}),
    ("data", ["tiny/rows"], {}),
    ("data", ["tiny/card"], {}),
    ("data", ["tiny/reaches"], {}),
    ("data", ["tiny/others"], {}),
    ("data", ["tiny/pickles"], {}),
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All of it in one process with a connection, and once more in one without."""
    folder = tmp_path_factory.mktemp("hub")
    base = smallrun.base(folder)
    secret = smallrun.write_rows(folder / "secret.jsonl", [{"text": "secret"}])
    other = f"hf://datasets/tiny/rows@{commit(1)}/train.jsonl"
    pickles = [{"rows.pkl": canary.pickled(folder / "fired")}] * N_COMMITS
    moving = Hub(
        {
            "models/tiny/moves": versions(base),
            "models/tiny/pinned": versions(base),
            "models/tiny/settings": versions(base),
            "models/tiny/home": homes(base),
            "datasets/tiny/rows": data(),
            "datasets/tiny/card": data(readme("train.jsonl")),
            "datasets/tiny/reaches": data(readme(str(secret))),
            "datasets/tiny/others": data(readme(other)),
            "datasets/tiny/pickles": pickles,
        }
    )
    with serving(moving) as address:
        said = fetch(folder, address)
    again = fetch(folder, address, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    assert not (folder / "fired").exists()
    return Seen(said, again, moving)


def fetch(folder: Path, address: str, **environment: str) -> list[dict[str, Any]]:
    env = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    env |= {"HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_canary"}
    env |= {"HF_HUB_DISABLE_XET": "1", "TUNESMITH_CACHE": str(folder / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.security.fetching", json.dumps(CALLS)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_branch_that_moves_gives_one_commit(seen: Seen) -> None:
    said = seen.said[0]
    number = int(said["commit"], 16)
    assert said["eps"] == number / 1000
    assert said["template"] == f"{{# {number} #}}"
    revisions = [revision for name, revision, _ in seen.hub.asked if name == "models/tiny/moves"]
    assert revisions.count("main") == 1
    assert set(revisions) == {"main", said["commit"]}


def test_a_pinned_commit_is_that_one(seen: Seen) -> None:
    assert seen.said[1]["commit"] == commit(2)
    assert seen.said[1]["eps"] == 2 / 1000
    assert seen.said[1]["template"] == "{# 2 #}"


def test_no_pickle_and_no_code_is_fetched(seen: Seen) -> None:
    assert "model.safetensors" in seen.said[0]["files"]
    names = {"evil.py", "tokenizer.py", *canary.PICKLE_NAMES}
    assert not names & set(seen.said[0]["files"])
    assert not [what for _, _, what in seen.hub.asked if what in names]


def test_a_tokenizer_of_its_own_is_of_one_commit(seen: Seen) -> None:
    asked = [revision for name, revision, _ in seen.hub.asked if name == "models/tiny/settings"]
    assert asked.count("main") == 1
    (found,) = set(asked) - {"main"}
    assert seen.said[2]["template"] == f"{{# {int(found, 16)} #}}"
    assert ("models/tiny/settings", found, "model.safetensors") not in seen.hub.asked


def test_code_is_approved_for_one_commit(seen: Seen) -> None:
    refused, approved = seen.said[3], seen.said[4]
    assert refused["code"] == ExitCode.UNSAFE
    assert f'commit: "{commit(1)}"' in refused["hint"]
    assert "modeling_home.py" in refused["hint"]
    assert approved["commit"] == commit(2), approved
    without = seen.said[5]
    assert without["code"] == ExitCode.UNSAFE
    assert "approved was None" in without["error"]


@pytest.mark.parametrize("call", [6, 7])
def test_data_is_of_one_commit(call: int, seen: Seen) -> None:
    said = seen.said[call]
    assert said["rows"] == [{"text": f"commit {int(said['commit'], 16)}"}]
    name = f"datasets/{CALLS[call][1][0]}"
    revisions = [revision for asked, revision, _ in seen.hub.asked if asked == name]
    assert revisions.count("main") == 1
    assert set(revisions) == {"main", said["commit"]}
    assert not [what for asked, _, what in seen.hub.asked if asked == name and what == "data.py"]


@pytest.mark.parametrize("call", [8, 9, 10])
def test_data_that_names_files_elsewhere_or_pickles_is_refused(call: int, seen: Seen) -> None:
    """By the library, in its newer versions, or by us."""
    assert seen.said[call]["code"] in (ExitCode.UNSAFE, ExitCode.WRONG_INPUT), seen.said[call]


def stand_in(reader: str, *files: str) -> Any:
    """A builder of the library that would read these files."""
    builder = type("Builder", (), {"__module__": f"datasets.packaged_modules.{reader}.{reader}"})()
    builder.config = SimpleNamespace(data_files={"train": list(files)})
    return builder


@pytest.mark.parametrize(
    ("reader", "file"),
    [
        ("json", "/etc/passwd"),
        ("json", "https://elsewhere.example/rows.json"),
        ("json", f"hf://datasets/other/rows@{commit(2)}/rows.json"),
        ("json", f"hf://buckets/other/rows@{commit(1)}/rows.json"),
        ("webdataset", f"hf://datasets/a/b@{commit(1)}/rows.tar"),
        ("pandas", f"hf://datasets/a/b@{commit(1)}/rows.pkl"),
        ("imagefolder", f"hf://datasets/a/b@{commit(1)}/a.png"),
    ],
)
def test_a_repository_does_not_choose_other_readers_or_files(
    reader: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"hf://datasets/a/b@{commit(1)}/train.json"
    entry = DatasetEntry(path="a/b")
    hub._screen_builder(entry, stand_in("json", own), commit(1))
    monkeypatch.setattr(hub, "_commit", lambda entry: commit(1))
    monkeypatch.setattr(hub, "_builder", lambda entry, commit: stand_in(reader, own, file))
    with pytest.raises(DataError, match="is refused") as caught:
        hub.open_hub(entry, parse_split(None))
    assert caught.value.exit_code == ExitCode.UNSAFE


@pytest.mark.parametrize("call", [1, 6, 7])
def test_what_was_fetched_needs_no_connection(call: int, seen: Seen) -> None:
    """The process without a connection has no hub that answers."""
    known: Mapping[str, Any] = {name: v for name, v in seen.said[call].items() if name != "commit"}
    assert {name: seen.again[call].get(name) for name in known} == known


def test_a_token_goes_to_the_hub_alone(seen: Seen) -> None:
    assert seen.hub.tokens <= {"Bearer hf_canary", ""}
    assert "hf_canary" not in json.dumps([seen.said, seen.again])
