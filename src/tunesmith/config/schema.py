"""``RunConfig``: the sections put together."""

from __future__ import annotations

from tunesmith.config.adapters import AdaptersSection
from tunesmith.config.checkpoint import CheckpointSection
from tunesmith.config.data import DataSection
from tunesmith.config.evaluation import EvaluationSection
from tunesmith.config.guard import GuardSection
from tunesmith.config.kernels import KernelsSection
from tunesmith.config.memory import MemorySection
from tunesmith.config.model import ModelSection
from tunesmith.config.optim import BatchSection, OptimSection
from tunesmith.config.packing import PackingSection
from tunesmith.config.parallel import PrecisionSection
from tunesmith.config.plugins import PluginsSection
from tunesmith.config.preflight import PreflightSection
from tunesmith.config.quant import QuantSection
from tunesmith.config.section import Section
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.config.tracking import TrackingSection


class RunConfig(Section):
    """Everything that a user asked for, frozen. Below ``runs`` nobody sees it whole."""

    model: ModelSection
    tokenizer: TokenizerSection
    data: DataSection
    packing: PackingSection
    optim: OptimSection
    batch: BatchSection
    adapters: AdaptersSection
    quant: QuantSection
    precision: PrecisionSection
    memory: MemorySection
    kernels: KernelsSection
    evaluation: EvaluationSection
    checkpoint: CheckpointSection
    guard: GuardSection
    tracking: TrackingSection
    preflight: PreflightSection
    plugins: PluginsSection
