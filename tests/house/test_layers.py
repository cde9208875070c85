"""Imports go down: also the lazy ones and those for typing only."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict

from tests.house.source import FLOOR_OF, ROOT, Import, imports, modules

# Who may see the whole configuration.
CONFIG_READERS = {"config", "runs", "launch", "cli"}
WHOLE_CONFIG = ("tunesmith.config.schema", "tunesmith.config.read")

# Rooms whose functions may import the product itself when called: a command or a call of the Python
# face loads what it needs and no more, which is what keeps `--help` and `config validate` quick.
DOORS = {"cli", "launch"}

# What waits elsewhere, although it is a direct dependency, and why.
WAITS = {
    ("tunesmith.data.hub", "datasets"): "1.5 s that a run on local files need not pay",
    ("tunesmith.data.remote", "tunesmith"): "it imports torch, and local files need no torch",
    ("tunesmith.kernels.logprobs", "tunesmith"): "a kernel imports triton, which CPU builds lack",
    ("tunesmith.models.projection", "peft"): "1.3 s that preparing data need not pay",
    ("tunesmith.optim.adamw_bf16", "tunesmith"): "a kernel imports triton, which CPU builds lack",
}

# Never seen from the two lowest floors: they are what a command line without torch is made of.
HEAVY = {"torch", "transformers", "datasets", "peft", "accelerate", "numpy", "safetensors"}

# What comes with a direct dependency and is a public face of it.
BROUGHT_ALONG = {
    "huggingface_hub": "transformers and datasets are built on it",
    "tokenizers": "transformers pins it",
    "accelerate": "peft needs it; accelerate.tracking is how services are reached",
    "pyarrow": "the memory of datasets",
    "packaging": "transformers needs it; versions are compared with it",
    "fsspec": "datasets reads remote files through it",
    "annotated_types": "pydantic keeps a field's limits as its objects",
    "pydantic_core": "pydantic's own errors and undefined value live there",
    "markupsafe": "jinja2's own string type",
    "triton": "torch for GPUs brings it; what imports it is imported there only",
}


def _package(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def _inner() -> list[Import]:
    return [each for each in imports() if each.is_ours]


def test_every_package_stands_on_a_floor() -> None:
    strangers = {m.package for m in modules() if m.package} - FLOOR_OF.keys()
    assert not strangers, f"not on any floor: {sorted(strangers)}"


def test_no_import_climbs_or_visits_a_neighbour() -> None:
    wrong = []
    for each in _inner():
        here, there = _package(each.module), _package(each.target)
        if not here or not there or here == there:
            continue
        if FLOOR_OF[there] > FLOOR_OF[here] or FLOOR_OF[there] == FLOOR_OF[here] > 0:
            wrong.append(f"{each.place}: {here} imports {each.target}")
    assert not wrong, "\n".join(wrong)


def test_root_imports_nothing_of_ours() -> None:
    """`import tunesmith` must stay free: its names are resolved when asked for."""
    wrong = [f"{e.place}: {e.target}" for e in imports() if e.module == "tunesmith" and e.is_ours]
    assert not [each for each in wrong if "tunesmith.registry" not in each], "\n".join(wrong)


def test_no_cycles() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for each in _inner():
        if each.target != each.module:
            graph[each.module].add(each.target)
    cycles = [loop for loop in _components(graph) if len(loop) > 1]
    assert not cycles, "\n".join(" <-> ".join(sorted(loop)) for loop in cycles)


def _components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components: those that reach each other. Small graphs, so plainly."""
    reach = {start: _reachable(graph, start) for start in list(graph)}
    seen: set[str] = set()
    found = []
    for start, ends in reach.items():
        if start not in seen:
            loop = {start} | {end for end in ends if start in reach.get(end, ())}
            seen |= loop
            found.append(loop)
    return found


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph.get(waiting.pop(), ()):
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def test_no_two_packages_import_each_other() -> None:
    pairs = {(_package(e.module), _package(e.target)) for e in _inner()}
    mutual = {(a, b) for a, b in pairs if a < b and (b, a) in pairs and FLOOR_OF.get(a, 0) > 0}
    assert not mutual


def test_few_see_the_whole_config() -> None:
    wrong = [
        f"{each.place}: imports {each.target}"
        for each in _inner()
        if each.target.startswith(WHOLE_CONFIG) and _package(each.module) not in CONFIG_READERS
    ]
    assert not wrong, "\n".join(wrong)


def test_the_lowest_floors_know_no_torch() -> None:
    wrong = [
        f"{each.place}: imports {each.target}"
        for each in imports()
        if FLOOR_OF.get(_package(each.module), 0) <= 1 and each.target.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_the_ground_floor_is_standard_library() -> None:
    wrong = [
        f"{each.place}: imports {each.target}"
        for each in imports()
        if FLOOR_OF.get(_package(each.module), 0) == 0 and _is_foreign(each)
    ]
    assert not wrong, "\n".join(wrong)


def _is_foreign(each: Import) -> bool:
    return not each.is_ours and each.target.split(".")[0] not in sys.stdlib_module_names


def _declared(*, extras: bool) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    if extras:
        wanted = [spec for group in project["optional-dependencies"].values() for spec in group]
    names = {re.split(r"[<>=!~\[; ]", spec)[0].lower() for spec in wanted}
    return {"ruamel" if name == "ruamel.yaml" else name for name in names}


def test_eleven_dependencies_and_no_twelfth() -> None:
    assert len(_declared(extras=False)) == 11


def test_what_is_imported_at_the_top_is_declared() -> None:
    allowed = _declared(extras=False) | BROUGHT_ALONG.keys()
    wrong = [
        f"{each.place}: {each.target} is not a direct dependency; import it where it is used"
        for each in imports()
        if _is_foreign(each)
        and not each.lazy
        and not each.typing_only
        and each.target.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_lazy_imports_are_for_optional_packages_and_doors() -> None:
    core = _declared(extras=False) | BROUGHT_ALONG.keys()
    lazy = [each for each in imports() if each.lazy]
    wrong = [
        f"{each.place}: {each.target} can be imported at the top of the file"
        for each in lazy
        if _package(each.module) not in DOORS
        and not _is_slow_to_start(each)
        and (each.module, each.target.split(".")[0]) not in WAITS
        and (not _is_foreign(each) or each.target.split(".")[0] in core)
    ]
    assert not wrong, "\n".join(wrong)


def _is_slow_to_start(each: Import) -> bool:
    """Every start pays for the ground floor, and some of the standard library is slow to import."""
    is_standard = not each.is_ours and not _is_foreign(each)
    return is_standard and FLOOR_OF.get(_package(each.module), 0) == 0


def test_what_waits_with_a_reason_still_waits() -> None:
    lazy = {(each.module, each.target.split(".")[0]) for each in imports() if each.lazy}
    known = {module.name for module in modules()}
    stale = [pair for pair in WAITS if pair[0] in known and pair not in lazy]
    assert not stale


def test_few_imports_are_lazy() -> None:
    everything = imports()
    outside_doors = [e for e in everything if e.lazy and _package(e.module) not in DOORS]
    assert len(outside_doors) / len(everything) < 0.05
