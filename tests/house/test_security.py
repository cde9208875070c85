"""Nothing in the product runs what it reads: no pickle, no eval, no shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.source import Module, imports, modules

# Reading any of these can run code that someone else wrote.
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}

FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "yaml.load",
    "yaml.unsafe_load",
    "np.load",
    "numpy.load",
    "pd.read_pickle",
    "pandas.read_pickle",
    "subprocess.getoutput",
}


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


def test_code_of_a_model_is_never_trusted_by_a_constant() -> None:
    """`trust_remote_code` is the user's word, so its value comes from the configuration."""
    wrong = [
        module.place(call)
        for module, call, _ in _calls()
        if _keyword(call, "trust_remote_code") is True
    ]
    assert not wrong, "\n".join(wrong)
