"""A model that needs code of its own: a Llama by another name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

CONFIGURATION = """
import pathlib
from transformers import LlamaConfig

pathlib.Path({ran!r}).touch()


class HomeConfig(LlamaConfig):
    model_type = {name!r}
"""

MODELING = """
from transformers import LlamaForCausalLM

from .configuration_home import HomeConfig
from .parts import double


class HomeForCausalLM(LlamaForCausalLM):
    config_class = HomeConfig
    marker = double("home")
"""


def sources(ran: Path, name: str) -> dict[str, str]:
    """Its files of code, by their paths. On import they make the file ``ran``."""
    return {
        "configuration_home.py": CONFIGURATION.format(ran=str(ran), name=name),
        "modeling_home.py": MODELING,
        "more/unused.py": "",
        "parts.py": "def double(text):\n    return text * 2\n",
    }


def make_home(folder: Path, ran: Path, name: str = "home_made") -> Path:
    """Turn a Llama's folder into it."""
    for file, text in sources(ran, name).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    path = folder / "config.json"
    content = json.loads(path.read_text()) | {
        "model_type": name,
        "architectures": ["HomeForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_home.HomeConfig",
            "AutoModelForCausalLM": "modeling_home.HomeForCausalLM",
        },
    }
    path.write_text(json.dumps(content))
    return folder


def approval(repo: str, ran: Path, name: str = "home_made") -> dict[str, Any]:
    """The block that approves it, made without the product."""
    texts = sources(ran, name)
    hashes = {file: hashlib.sha256(text.encode()).hexdigest() for file, text in texts.items()}
    return {"repo": repo, "sha256": hashes}
