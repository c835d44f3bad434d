"""Distillation: a small network learns from the softened outputs of a larger one, beside the labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Teacher:
    """`weight` is the share of the loss that the teacher gives; `temperature` softens its outputs."""

    model: nn.Module
    temperature: float
    weight: float

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """What the teacher says of `images` [batch, c, h, w]: [batch, classes], without a gradient."""
        self.model.eval()
        with torch.no_grad():
            logits: torch.Tensor = self.model(images)
        return logits


def distillation_loss(
    label_loss: torch.Tensor, logits: torch.Tensor, teacher_logits: torch.Tensor, teacher: Teacher
) -> torch.Tensor:
    """`(1 - w) * label_loss + w * T^2 * KL(teacher || student)`, both softened by T.

    `logits` [batch, classes] are the student's, `teacher_logits` the teacher's for the same images.
    Source: G. Hinton et al., "Distilling the knowledge in a neural network", 2015, section 2.
    """
    t = teacher.temperature
    divergence = functional.kl_div(
        functional.log_softmax(logits / t, dim=1),
        functional.log_softmax(teacher_logits / t, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - teacher.weight) * label_loss + teacher.weight * t * t * divergence
