"""How much memory the preparation of a large jsonl takes: generated on the spot, then prepared.

    python -m benchmarks.data.large_file [--gigabytes 2] [--workers 1] [--keep FOLDER]

The file, the tokenizer and the cache lie in a temporary folder. Preparation runs in a process of
its own; its peak resident memory, and that of its render workers, is what the kernel counted.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

STEMS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in ("a", "en", "ost", "ia") for c in "prstvwxz"]
WORDS = [f"{first}{second}" for first in STEMS[:40] for second in STEMS[40:80]]

PREPARE = """
import json, resource, sys, time
from tests.unit.data.toys import request
from tunesmith.config.data import DatasetEntry
from tunesmith.data.prepare import prepare
from pathlib import Path
path, home, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
start = time.monotonic()
made = prepare(request([DatasetEntry(path=str(path), type="alpaca")], home,
    packing={"sequence_len": 4096}, data={"val_set_size": 0.01}, workers=workers))
account = made.ledger.accounts[0]
unit = 1024 if sys.platform.startswith("linux") else 1
print(json.dumps({
    "rows": account.rows_in, "tokens": account.tokens_in,
    "seconds": round(time.monotonic() - start, 1),
    "resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6),
    "largest_worker_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6),
    "cpu_seconds": round(sum(sum(resource.getrusage(who)[:2]) for who in
        (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)), 1),
}))
"""


def make_tokenizer(folder: Path) -> None:
    """Write a tokenizer of whole words: fast, so that the time goes where the memory does."""
    vocabulary = {word: number for number, word in enumerate(["<|unknown|>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def generate(path: Path, size: int) -> None:
    """Write rows of 0.3 to 6 kB, all different, up to ``size`` bytes."""
    draw = random.Random(1)
    blocks = [" ".join(draw.choices(WORDS, k=50)) for _ in range(500)]
    written = number = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            answer = " ".join(draw.choices(blocks, k=draw.randint(1, 20)))
            row = {"instruction": f"Write text {number}.", "input": "", "output": answer}
            written += file.write(json.dumps(row) + "\n")
            number += 1


def measure(folder: Path, gigabytes: float, workers: int) -> dict[str, float]:
    """The figures of one preparation, and of the file that was prepared."""
    path = folder / "large.jsonl"
    start = time.monotonic()
    generate(path, int(gigabytes * 1e9))
    generated = time.monotonic() - start
    make_tokenizer(folder / "tokenizer")
    command = [sys.executable, "-c", PREPARE, str(path), str(folder), str(workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {
        "gigabytes": path.stat().st_size / 1e9,
        "workers": workers,
        "generated_seconds": round(generated, 1),
        **json.loads(done.stdout.splitlines()[-1]),
    }


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Work in this folder, and leave it.")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        found = measure(arguments.keep, arguments.gigabytes, arguments.workers)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), arguments.gigabytes, arguments.workers)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
