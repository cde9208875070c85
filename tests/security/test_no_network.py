"""Without a network, and with nothing that says so, what was fetched is used, or one error said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from datasets import Dataset
from datasets.naming import filename_prefix_for_split

from tunesmith.errors import ExitCode

SHA = "0123456789" * 4
ROWS = [{"text": "kept"}]

_LOOK = """
import json, sys
from tunesmith.config.data import DatasetEntry
from tunesmith.data.sources import locate, open_rows
from tunesmith.errors import TunesmithError
for name, revision in json.loads(sys.argv[1]):
    try:
        entry = DatasetEntry(path=name, revision=revision)
        found = locate(entry)
        said = {"rows": [dict(r) for _, r in open_rows(entry, 0, found)], "commit": found.commit}
    except TunesmithError as error:
        said = {"code": int(error.exit_code), "error": error.message}
    print(json.dumps(said))
"""


def keep(cache: Path) -> None:
    """A data set as the library keeps what it has fetched."""
    folder = cache / "tiny___rows" / "default" / "0.0.0" / SHA
    folder.mkdir(parents=True)
    dataset = Dataset.from_list(ROWS)
    dataset.save_to_disk(folder / "saved")
    (arrow,) = (folder / "saved").glob("*.arrow")
    arrow.rename(folder / f"{filename_prefix_for_split('rows', 'train')}.arrow")
    split = {"name": "train", "num_examples": 1, "num_bytes": 8, "dataset_name": "rows"}
    about = {"config_name": "default", "dataset_name": "rows", "splits": {"train": split}}
    about |= {"features": {"text": {"dtype": "string", "_type": "Value"}}}
    (folder / "dataset_info.json").write_text(json.dumps(about))


def test_a_dead_network_is_no_crash(tmp_path: Path) -> None:
    keep(tmp_path / "datasets")
    env = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    env |= {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    env |= {"HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    calls = [("tiny/rows", None), ("tiny/rows", SHA), ("tiny/rows", "f" * 40), ("dta/rows", None)]
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, json.dumps(calls)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,  # tries again and again would take longer
    )
    assert done.returncode == 0, done.stderr
    latest, pinned, other, nowhere = map(json.loads, done.stdout.splitlines())
    assert latest == pinned == {"rows": ROWS, "commit": SHA}
    assert {other["code"], nowhere["code"]} == {ExitCode.WRONG_INPUT}
    assert f"what was fetched is of {SHA}" in other["error"]
    assert str(tmp_path / "dta/rows") in nowhere["error"]
    assert "without a connection to the hub" in nowhere["error"]
    assert "Traceback" not in done.stderr
