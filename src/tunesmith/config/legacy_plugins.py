"""axolotl's own plugins: kernels are left out aloud, the others ask for a capability."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.config.draft import Draft, Switched
from tunesmith.config.tree import Path
from tunesmith.errors import REMOVE
from tunesmith.registry import nearest

_HOME = "axolotl.integrations."
_LOSS = "no logits are stored here, whatever the kernel"

# Plugins that only change how fast the same is computed.
_LEFT_OUT: Mapping[str, str] = {
    "cut_cross_entropy.CutCrossEntropyPlugin": _LOSS,
    "liger.LigerPlugin": _LOSS,
    "kernels.KernelsPlugin": "it does what its keys ask for, and those are read by themselves",
}

# Plugins that change what is trained as soon as they are listed, by their capability.
_CAPABILITIES: Mapping[str, str] = {
    "densemixer.DenseMixerPlugin": "mixtures of experts",
    "diffusion.DiffusionPlugin": "masked diffusion",
    "expert_parallel.ExpertParallelPlugin": "training on several devices",
    "grokfast.GrokfastPlugin": "GrokFast",
    "hatchery.HatcheryPlugin": "hosted training (Tinker, Hatchery)",
    "kd.KDPlugin": "knowledge distillation",
    "llm_compressor.LLMCompressorPlugin": "quantisation-aware training and export",
    "lm_eval.LMEvalPlugin": "benchmarks in evaluation",
    "mora.MoraPlugin": "further kinds of LoRA",
    "nemo_gym.NemoGymPlugin": "NeMo Gym",
    "spectrum.SpectrumPlugin": "Spectrum",
    "swanlab.SwanLabPlugin": "SwanLab",
}


def take_plugins(draft: Draft) -> None:
    """Take axolotl's plugins out of the list, from its end, so that the numbers of those before
    hold; what is left are plugins to load.
    """
    listed = draft.values.get("plugins")
    names = listed if isinstance(listed, list) else [listed]
    for number, name in reversed(list(enumerate(names))):
        path: Path = ("plugins", number) if listed is names else ("plugins",)
        if isinstance(name, str) and name.startswith("axolotl."):
            _take(draft, name, path, alone=len(names) == 1)


def _take(draft: Draft, name: str, path: Path, *, alone: bool) -> None:
    known = {**_LEFT_OUT, **_CAPABILITIES}
    short = _short(name)
    if short in _LEFT_OUT:
        whole: Path = ("plugins",) if alone else path
        draft.replace(whole, {}, f"plugin {name} is left out: {_LEFT_OUT[short]}")
        return
    if short in _CAPABILITIES:
        draft.switched.append(Switched(_CAPABILITIES[short], path, draft.place(path)))
    else:
        meant = nearest(short, known)
        fix = f"did you mean `{_HOME}{meant}`?" if meant else "take it out"
        edit = {".".join(map(str, path)): f"{_HOME}{meant}" if meant else REMOVE}
        draft.problem("out-of-range", path, f"axolotl has no plugin `{name}`", fix, edit)
    draft.drop(path)


def _short(name: str) -> str:
    """Package and class of a plugin: modules between them, such as ``plugin``, are left out."""
    parts = name.removeprefix(_HOME).split(".")
    return f"{parts[0]}.{parts[-1]}"
