"""What megatron-core's inference computes with, beside the parameters that a refit writes."""

import torch
from torch import nn

from fixtures.models.parts import GroupedExperts


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(torch.int16)


def stale(model: nn.Module | None) -> list[str]:
    """Where what inference computes with is not what the parameters hold."""
    return [
        f"{name}.{linear} {index} is stale"
        for name, module in (model.named_modules() if model is not None else ())
        if isinstance(module, GroupedExperts)
        for linear, whole in (("linear_fc1", module._fc1_weight), ("linear_fc2", module._fc2_weight))
        for index, held in enumerate(whole)
        if not torch.equal(bits(held), bits(getattr(getattr(module, linear), f"weight{index}")))
    ]
