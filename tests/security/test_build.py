"""The package that is built holds the package, and twice the same bytes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(target: Path) -> Path:
    """The wheel of the repository, built without a network."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", *options, str(ROOT)],
        capture_output=True,
        text=True,
        env={"SOURCE_DATE_EPOCH": "1700000000", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_two_builds_are_equal_and_hold_the_package_alone(tmp_path: Path) -> None:
    first, second = build(tmp_path / "first"), build(tmp_path / "second")
    digests = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in (first, second)]
    assert digests[0] == digests[1]
    with zipfile.ZipFile(first) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    ours = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/tunesmith"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert names - {name.removeprefix("src/") for name in ours} == set()
    assert "tunesmith/cli/main.py" in names
    assert not [name for name in names if name.endswith((".pyc", ".pkl", ".bin", ".pt", ".so"))]
