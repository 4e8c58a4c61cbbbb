"""A plugin (`-p tests.correctness.cli.faulty_engines`) with engines that refit well and then spoil a tensor.

Each is megatron's engine with all repairs; `plant` spoils the target of one rank after every refit.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.registry import ENGINES, EngineKind
from fixtures.models.build import ModelPair
from fixtures.ranks import current_rank

EXPERTS = "decoder.layers.1.mlp.experts."
ROUTER = "decoder.layers.1.mlp.router"
SPOILED_RANK = 1

Plant = Callable[[nn.Module, int], None]


def weight(model: nn.Module, name: str) -> torch.Tensor:
    """A parameter's tensor."""
    return model.get_parameter(name).data


def flip_bit(model: nn.Module, _refits: int) -> None:
    """One bit of one element."""
    weight(model, "output_layer.weight").view(torch.int16)[3, 5] ^= 1 << 2


def swap_experts(model: nn.Module, _refits: int) -> None:
    """Two experts of one rank exchanged."""
    first, second = (weight(model, f"{EXPERTS}linear_fc2.weight{k}") for k in (0, 1))
    first[:], second[:] = second.clone(), first.clone()


def swap_gate_and_up(model: nn.Module, _refits: int) -> None:
    """The two halves of a gated expert exchanged."""
    fc1 = weight(model, f"{EXPERTS}linear_fc1.weight1")
    fc1[:] = fc1.roll(len(fc1) // 2, 0)


def lose_transfer(model: nn.Module, _refits: int) -> None:
    """What the destination holds when one transfer never comes: poison."""
    weight(model, "decoder.layers.0.self_attention.linear_proj.weight").view(torch.int16)[:, 4:8] = -1


def round_bias(model: nn.Module, _refits: int) -> None:
    """The router's bias taken through bf16."""
    bias = model.get_submodule(ROUTER).expert_bias
    bias.copy_(bias.bfloat16().float())


def change_dtype(model: nn.Module, _refits: int) -> None:
    """The router's bias replaced by one of another dtype."""
    model.get_submodule(ROUTER).expert_bias = model.get_submodule(ROUTER).expert_bias.bfloat16()


class KeepFirst:
    """From the second refit on the weights of the first: a plan or a graph that was cached too well."""

    def __init__(self) -> None:
        self._first: dict[str, torch.Tensor] = {}

    def __call__(self, model: nn.Module, refits: int) -> None:
        """Remember the first refit's weights, then bring them back."""
        for name, tensor in model.named_parameters():
            if refits == 1:
                self._first[name] = tensor.detach().clone()
            else:
                tensor.data.copy_(self._first[name])


def raise_error(_model: nn.Module, _refits: int) -> None:
    """An engine that breaks on one rank."""
    raise RuntimeError("the wire is cut")


PLANTS: dict[str, Callable[[], Plant]] = {
    "flipped-bit": lambda: flip_bit,
    "swapped-experts": lambda: swap_experts,
    "gate-up": lambda: swap_gate_and_up,
    "lost-transfer": lambda: lose_transfer,
    "rounded-bias": lambda: round_bias,
    "wrong-dtype": lambda: change_dtype,
    "stale": KeepFirst,
    "broken": lambda: raise_error,
}


class FaultyEngine(MegatronEngine):
    """megatron's engine and, on one rank, a fault after each refit."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self._plant, self._refits = PLANTS[self.name](), 0

    @torch.no_grad()
    def refit(self) -> None:
        """Refit, then spoil."""
        super().refit()
        self._refits += 1
        if current_rank().rank == SPOILED_RANK:
            self._plant(self._target, self._refits)

    @property
    def _target(self) -> nn.Module:
        pair: ModelPair | None = self._pair
        assert pair is not None
        assert pair.target is not None
        return pair.target


def kinds() -> Iterator[EngineKind]:
    """One engine for each fault."""
    for name in PLANTS:
        engine = type("Faulty", (FaultyEngine,), {"name": name})
        yield EngineKind(name=name, engine=engine, methods={"cpu": ("gloo",), "cuda": ("gloo",)})


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Offer the engines before the suite reads `--engine`."""
    ENGINES.update({kind.name: kind for kind in kinds()})
