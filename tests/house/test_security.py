"""Nothing in the product runs what it reads: no pickle, no eval, no shell, no import of data."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.house.source import Module, imports, modules

ROOT = Path(__file__).parents[2]

# Reading any of these can run code that someone else wrote.
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"),
    *("multiprocess", "runpy", "code", "codeop", "imp", "telnetlib", "ftplib", "pty"),
}

FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "execfile", "input"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("torch.save", "torch.jit.save"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle"),
    *("shutil.unpack_archive", "tarfile.open", "zipfile.ZipFile"),
    *("logging.config.dictConfig", "logging.config.fileConfig", "logging.config.listen"),
    *("tempfile.mktemp", "webbrowser.open"),
}

IMPORTERS = {
    "__init__": "a name of its own",
    "registry": "the catalog's own strings, and those that plugins and installed packages register",
    "patches/patch": "the patches' own strings",
    "plugins": "modules that the config names under `plugins`",
    "data/formats/own": "a data set's `type` that the config names as a module",
}
"""Modules that import by name, and whose names those are."""

OF_A_MODEL = "models/remote_code"
"""The one module that may import code of a repository, once its hashes are approved."""


def _calls() -> Iterator[tuple[Module, ast.Call, str]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                yield module, node, ast.unparse(node.func)


def _keyword(call: ast.Call, name: str) -> object:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else "computed"
    return None


def _is_room(module: Module, room: str) -> bool:
    return str(module.path).endswith(f"tunesmith/{room}.py")


def test_no_module_that_unpickles_is_imported() -> None:
    wrong = [
        f"{each.place}: {each.target}"
        for each in imports()
        if each.target.split(".")[0] in FORBIDDEN_MODULES
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_that_runs_what_it_reads_is_called() -> None:
    wrong = [
        f"{module.place(call)}: {name}"
        for module, call, name in _calls()
        if name in FORBIDDEN_CALLS and not _is_plain_array(call, name)
    ]
    assert not wrong, "\n".join(wrong)


def _is_plain_array(call: ast.Call, name: str) -> bool:
    """numpy refuses pickled arrays by a default that has changed before: the call must say it."""
    return name in ("np.load", "numpy.load") and _keyword(call, "allow_pickle") is False


def test_no_shell() -> None:
    wrong = [
        module.place(call)
        for module, call, _ in _calls()
        if _keyword(call, "shell") not in (None, False)
    ]
    assert not wrong, "\n".join(wrong)


def test_commands_are_lists_of_words() -> None:
    """A text would be cut at blanks, or given to a shell."""
    wrong = [
        f"{module.place(call)}: {name}"
        for module, call, name in _calls()
        if name.startswith("subprocess.")
        and name.rpartition(".")[2] in ("run", "Popen", "call", "check_call", "check_output")
        and (not call.args or isinstance(call.args[0], ast.Constant | ast.JoinedStr))
    ]
    assert not wrong, "\n".join(wrong)


def test_names_are_imported_where_they_are_the_user_s_or_ours() -> None:
    """Never a name that a model, a row or a checkpoint holds."""
    importing = {"import_module", "spec_from_file_location", "exec_module", "load_module"}
    found = {module.name for module, _, name in _calls() if name.rpartition(".")[2] in importing}
    own = {f"tunesmith.{room.replace('/', '.')}".removesuffix(".__init__") for room in IMPORTERS}
    assert found == own


def test_code_of_a_repository_is_imported_in_one_place() -> None:
    wrong = [
        module.place(call)
        for module, call, name in _calls()
        if name.rpartition(".")[2] == "get_class_from_dynamic_module"
        and not _is_room(module, OF_A_MODEL)
    ]
    assert not wrong, "\n".join(wrong)


def test_code_of_a_model_is_never_trusted_by_a_library() -> None:
    """`trust_remote_code` is never true, and never left to a library that might ask or guess."""
    wrong = []
    for module, call, name in _calls():
        trust = _keyword(call, "trust_remote_code")
        reads = re.search(r"\b(Auto\w+|\w*class|reader)\.from_pretrained$", name)
        spread = any(keyword.arg is None for keyword in call.keywords)
        if trust not in (None, False) or (reads and trust is None and not spread):
            wrong.append(f"{module.place(call)}: {name}")
    assert not wrong, "\n".join(wrong)


def test_models_are_fetched_in_one_place() -> None:
    """So that all files are of one commit, and none is code or a pickle."""
    wrong = [
        f"{module.place(call)}: {name}"
        for module, call, name in _calls()
        if name.rpartition(".")[2] in ("snapshot_download", "hf_hub_download", "cached_file")
        and not _is_room(module, "models/hub")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "name",
    ["os; import os", "a b", "../evil", "/tmp/evil.py", ".evil", "evil.", "a..b", "", "a\0b", "os"],
)
def test_a_plugin_is_the_name_of_a_module(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name runs more than the import of a module that is installed."""
    from tunesmith.errors import ConfigError
    from tunesmith.plugins import load_plugins

    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with pytest.raises(ConfigError) as caught:
        load_plugins([name])
    assert caught.value.where == "plugins"
    assert not list(tmp_path.rglob("ran"))


# --- what is installed ----------------------------------------------------------------------------


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, _, version in found}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


FLOORS = {
    "transformers": ("5.3", "a config could fetch a kernel (CVE-2026-4372), or trust itself"),
    "torch": (
        "2.10",
        "torch.load ran code with weights_only (CVE-2025-32434, CVE-2026-24747)",
    ),
    "jinja2": ("3.1.6", "a template could leave the sandbox (CVE-2024-56326, CVE-2025-27516)"),
    "pyarrow": ("14.0.1", "an arrow file could hold a pickle (CVE-2023-47248)"),
}
"""Package -> the oldest version without a weakness that we would inherit, and which."""


@pytest.mark.parametrize("package", FLOORS)
def test_no_version_with_a_known_weakness_is_tested(package: str) -> None:
    assert _version(_pins()[package]) >= _version(FLOORS[package][0]), FLOORS[package][1]


@pytest.mark.parametrize("package", ["transformers", "torch", "jinja2"])
def test_no_version_with_a_known_weakness_is_allowed(package: str) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (line,) = (one for one in wanted if re.match(rf"{package}\b", one))
    (least,) = re.findall(r">=([\d.]+)", line)
    assert _version(least) >= _version(FLOORS[package][0]), FLOORS[package][1]


def test_every_pin_is_one_version_of_one_index() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)] == []
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "constraints.txt"):
        assert "extra-index-url" not in path.read_text(encoding="utf-8"), path


def test_libraries_that_fetch_code_are_not_asked_for() -> None:
    """With `kernels` installed, transformers and bitsandbytes fetch kernels from the hub."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    assert "kernels" not in _pins()
    assert not [line for line in wanted if line.startswith("kernels")]


# --- SECURITY.md ----------------------------------------------------------------------------------

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[[^\]]*\]\((tests/[\w/]+\.py)(?:#(\w+))?\)", PAGE)


def test_every_guarantee_is_linked_to_a_test() -> None:
    rows = re.findall(r"^\| \*\*.*$", PAGE, flags=re.MULTILINE)
    assert len(rows) >= 12
    assert [row for row in rows if "](tests/" not in row] == []


@pytest.mark.parametrize(("file", "test"), sorted(set(LINKS)))
def test_a_test_that_is_linked_exists(file: str, test: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in names
    assert any(name.startswith("test_") for name in names)
