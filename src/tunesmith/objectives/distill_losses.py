"""Losses of distillation: how far a student's next token lies from a teacher's.

Dimensions: S positions, K tokens of each that the teacher names, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def scaled_teacher(
    logps_SK: Tensor, *, measured_at: float, temperature: float, normalized: bool
) -> Tensor:
    """The teacher's log-probs [S, K] at another temperature.

    ``logps_SK`` were measured at ``measured_at`` and are -inf where a position names fewer than K
    tokens. What the teacher gave to the tokens that it does not name is not known at another
    temperature; there, as where ``normalized``, the K tokens share all of the probability.
    """
    if temperature == measured_at and not normalized:
        return logps_SK
    return torch.log_softmax(logps_SK * (measured_at / temperature), dim=-1)


def student_at(logits_SV: Tensor, ids_SK: Tensor, temperature: float) -> Tensor:
    """The student's log-probs [S, K] of the tokens that the teacher names, float32."""
    logits_SV = logits_SV.float() / temperature
    return logits_SV.gather(-1, ids_SK) - logits_SV.logsumexp(-1, keepdim=True)


def divergence_sum(
    student_SK: Tensor, teacher_SK: Tensor, weights_S: Tensor, *, mix: float
) -> Tensor:
    """The weighted sum over positions of a divergence between two rows of log-probs.

    ``mix`` 0 is KL(teacher, student), 1 is KL(student, teacher), and between them lies the
    generalised Jensen-Shannon divergence (arXiv:2306.13649, equation 1). Tokens that the teacher
    does not name count nothing.
    """
    named_SK = torch.isfinite(teacher_SK)
    # where() has the gradient of what it leaves out: it must be finite there.
    teacher_SK = torch.where(named_SK, teacher_SK, torch.zeros_like(teacher_SK))
    if mix == 0:
        each_SK = _gap(teacher_SK, student_SK)
    elif mix == 1:
        each_SK = _gap(student_SK, teacher_SK)
    else:
        middle_SK = torch.logaddexp(student_SK + math.log1p(-mix), teacher_SK + math.log(mix))
        each_SK = mix * _gap(teacher_SK, middle_SK) + (1 - mix) * _gap(student_SK, middle_SK)
    each_SK = torch.where(named_SK, each_SK, torch.zeros_like(each_SK))
    return (each_SK.sum(-1) * weights_S).sum()


def _gap(logps_SK: Tensor, others_SK: Tensor) -> Tensor:
    """``p (log p - log q)``, the summands of KL(p, q)."""
    return logps_SK.exp() * (logps_SK - others_SK)
