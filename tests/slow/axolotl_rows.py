"""Run by an interpreter that has axolotl: what it makes of the data of each config in a folder.

    PYTHON axolotl_rows.py FOLDER

FOLDER holds one folder a config with ``config.json``; beside it ``rows.json`` is written: ids and
labels of each row in the data's order, or what the failure was.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import multiprocess

os.environ["AXOLOTL_IS_PREPROCESS"] = "1"
# A spawned worker imports all of axolotl again.
multiprocess.get_context = lambda _: multiprocess.context.ForkContext()

from axolotl.cli.config import load_cfg  # noqa: E402
from axolotl.common.datasets import load_datasets  # noqa: E402


def rows_of(config: Path) -> dict[str, Any]:
    """The rows, or the type and the text of the error."""
    try:
        settings = load_cfg(str(config), is_preprocess=True)
        settings.is_preprocess = True
        rows = load_datasets(cfg=settings, cli_args=None).train_dataset
    except Exception as error:  # whatever it is, it is what we want to know
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return {"rows": [{key: row[key] for key in ("input_ids", "labels")} for row in rows]}


def main() -> None:
    """Every config of the folder that has no rows yet."""
    for config in sorted(Path(sys.argv[1]).glob("*/config.json")):
        target = config.with_name("rows.json")
        if not target.is_file():
            target.write_text(json.dumps(rows_of(config)), encoding="utf-8")


if __name__ == "__main__":
    main()
