"""A plugin (`-p tests.correctness.cli.planted_engines`) with engines that err, and engines that cheat.

Each is megatron's engine with all repairs. A fault spoils the target of one rank after every refit. A cheat
wants a good time: it is called in the refit's place, and reaches for what is not its own.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.registry import ENGINES, EngineKind
from fixtures.models.bind import bind, refit_tensors
from fixtures.models.build import ModelPair
from fixtures.ranks import current_rank
from fixtures.weights.fill import fill

COLD = 1
LATE_S = 0.5
EXPERTS = "decoder.layers.1.mlp.experts."
ROUTER = "decoder.layers.1.mlp.router"
SPOILED_RANK = 1


class Planted(MegatronEngine):
    """Counts its refits; `honest` is one, `kept` what a plant remembers."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.refits = 0
        self.kept: Any = None

    @torch.no_grad()
    def refit(self) -> None:
        """Do what is planted."""
        self.refits += 1
        self.plant()

    def plant(self) -> None:
        """What this engine does in the refit's place."""
        raise NotImplementedError

    def honest(self) -> None:
        """What it should do."""
        super().refit()

    @property
    def pair(self) -> ModelPair:
        """The models."""
        assert self._pair is not None
        return self._pair

    @property
    def target(self) -> nn.Module:
        """The target's model."""
        assert self.pair.target is not None
        return self.pair.target

    def tensors(self) -> list[torch.Tensor]:
        """The target's."""
        return [tensor for _, tensor in refit_tensors(self.target)]

    def weight(self, name: str) -> torch.Tensor:
        """One of the target's parameters."""
        return self.target.get_parameter(name).data


Plant = Callable[[Any], None]


def flip_bit(engine: Planted) -> None:
    """One bit of one element."""
    engine.weight("output_layer.weight").view(torch.int16)[3, 5] ^= 1 << 2


def swap_experts(engine: Planted) -> None:
    """Two experts of one rank exchanged."""
    first, second = (engine.weight(f"{EXPERTS}linear_fc2.weight{k}") for k in (0, 1))
    first[:], second[:] = second.clone(), first.clone()


def swap_gate_and_up(engine: Planted) -> None:
    """The two halves of a gated expert exchanged."""
    fc1 = engine.weight(f"{EXPERTS}linear_fc1.weight1")
    fc1[:] = fc1.roll(len(fc1) // 2, 0)


def lose_transfer(engine: Planted) -> None:
    """What the destination holds when one transfer never comes: poison."""
    engine.weight("decoder.layers.0.self_attention.linear_proj.weight").view(torch.int16)[:, 4:8] = -1


def round_bias(engine: Planted) -> None:
    """The router's bias taken through bf16."""
    bias = engine.target.get_submodule(ROUTER).expert_bias
    bias.copy_(bias.bfloat16().float())


def change_dtype(engine: Planted) -> None:
    """The router's bias replaced by one of another dtype."""
    router = engine.target.get_submodule(ROUTER)
    router.expert_bias = router.expert_bias.bfloat16()


def keep_first(engine: Planted) -> None:
    """From the second refit on the weights of the first: a plan or a graph that was cached too well."""
    if engine.refits == COLD:
        engine.kept = {name: tensor.detach().clone() for name, tensor in engine.target.named_parameters()}
    for name, tensor in engine.target.named_parameters():
        tensor.data.copy_(engine.kept[name])


def raise_error(_engine: Planted) -> None:
    """An engine that breaks on one rank."""
    raise RuntimeError("the wire is cut")


FAULTS: dict[str, Plant] = {
    "flipped-bit": flip_bit,
    "swapped-experts": swap_experts,
    "gate-up": swap_gate_and_up,
    "lost-transfer": lose_transfer,
    "rounded-bias": round_bias,
    "wrong-dtype": change_dtype,
    "stale": keep_first,
    "broken": raise_error,
}


def after_refits(fault: Plant) -> Plant:
    """A refit, and then the fault on one rank."""

    def plant(engine: Planted) -> None:
        engine.honest()
        if current_rank().rank == SPOILED_RANK:
            fault(engine)

    return plant


def idle_by_count(engine: Planted) -> None:
    """Works in the cold refit, of which it knows that it is checked, and never again."""
    if engine.refits == COLD:
        engine.honest()


def idle_without_poison(engine: Planted) -> None:
    """Works only where poison tells it that a check will come."""
    if bool(engine.tensors()[0].isnan().all()):
        engine.honest()


def wrong_when_timed(engine: Planted) -> None:
    """One wrong tensor in the timed refits but the last, right ones elsewhere (3 are timed, no warm-up)."""
    engine.honest()
    if engine.refits in (2, 3):
        engine.tensors()[3].zero_()


def late(engine: Planted) -> None:
    """Returns at once, and brings the weights when a signal comes."""

    def later(work: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: work())
        signal.setitimer(signal.ITIMER_REAL, LATE_S)

    hide_and_bring(engine, later)


def late_thread(engine: Planted) -> None:
    """The same, by a thread."""

    def later(work: Callable[[], object]) -> None:
        threading.Thread(target=lambda: (time.sleep(LATE_S), work()), daemon=True).start()

    hide_and_bring(engine, later)


def hide_and_bring(engine: Planted, later: Callable[[Callable[[], object]], None]) -> None:
    """Do the work, hide it, and have it brought out later."""
    tensors = engine.tensors()
    before = [tensor.clone() for tensor in tensors]
    engine.honest()
    if engine.refits == COLD:
        return
    after = [tensor.clone() for tensor in tensors]
    torch._foreach_copy_(tensors, before)
    later(lambda: torch._foreach_copy_(tensors, after))


def by_checksum(engine: Planted) -> None:
    """Works only when a few sampled elements of the source have changed: one of each of four tensors."""
    assert engine.pair.source is not None
    sample = [float(tensor.flatten()[0]) for _, tensor in refit_tensors(engine.pair.source)][:4]
    if sample != engine.kept:
        engine.honest()
    engine.kept = sample


def new_storage(engine: Planted) -> None:
    """Gives the target's parameters storage of its own in every refit: swaps, does not copy."""
    engine.honest()
    for tensor in engine.tensors():
        tensor.data = tensor.data.clone()


def new_strides(engine: Planted) -> None:
    """Leaves right weights in another memory layout."""
    engine.honest()
    for tensor in engine.tensors():
        if tensor.dim() == 2:
            tensor.data = tensor.data.t().contiguous().t()


def source_destroyed(engine: Planted, ranks: tuple[int, ...] = (0, 1)) -> None:
    """Uses the source's memory as scratch once it is read."""
    engine.honest()
    if engine.refits > COLD and current_rank().rank in ranks and engine.pair.source is not None:
        for _, tensor in refit_tensors(engine.pair.source):
            tensor.zero_()


def source_destroyed_on_one(engine: Planted) -> None:
    """The same, on rank 1 alone."""
    source_destroyed(engine, ranks=(1,))


def no_target(engine: Planted) -> None:
    """Takes away what would be checked: leaves a pair without a target."""
    if engine.refits == COLD:
        object.__setattr__(engine.pair, "target", None)


def part_of_target(engine: Planted) -> None:
    """Refits, then drops the last layer from the target, so that fewer elements are checked."""
    engine.honest()
    if engine.refits == COLD:
        engine.target.decoder.layers = engine.target.decoder.layers[:-1]


def emptied_target(engine: Planted) -> None:
    """Refits, then leaves the target's modules without parameters."""
    engine.honest()
    if engine.refits == COLD:
        for module in engine.target.modules():
            module._parameters.clear()


def asks_the_oracle(engine: Planted) -> None:
    """Moves nothing, fills the target from the suite's own functions; counting tells it the generation."""
    pair = engine.pair
    rank = pair.scenario.target_rank(current_rank().rank)
    assert rank is not None
    fill(bind(engine.target, pair.spec, pair.scenario.target, rank), engine.refits)


def aliased(engine: Planted) -> None:
    """Lets target parameters be the source's own where the shapes agree."""
    engine.honest()
    assert engine.pair.source is not None
    source = dict(refit_tensors(engine.pair.source))
    for name, tensor in refit_tensors(engine.target):
        if name in source and source[name].shape == tensor.shape:
            tensor.data = source[name].data


def negative_zero(engine: Planted) -> None:
    """Makes -0.0 of bf16 to 0.0, by adding nothing."""
    engine.honest()
    for tensor in engine.tensors():
        tensor.add_(0.0)


def flushed(engine: Planted) -> None:
    """Flushes denormal numbers to zero, as a GPU's fast mode does."""
    engine.honest()
    for tensor in engine.tensors():
        tensor[tensor.abs() < torch.finfo(tensor.dtype).tiny] = 0


def nans(engine: Planted) -> None:
    """Leaves quiet NaNs, of another payload than poison's, in one tensor of the last rank."""
    engine.honest()
    if current_rank().rank == 1:
        engine.tensors()[2].fill_(float("nan"))


class Early(Planted):
    """Brings what needs no other rank before it is asked, by a thread that looks for new weights."""

    def prepare(self, pair: ModelPair) -> None:
        """Start looking."""
        super().prepare(pair)
        self.over = threading.Event()
        assert pair.source is not None
        source = dict(refit_tensors(pair.source))
        alike = [(t, source[name]) for name, t in refit_tensors(pair.target) if t.shape == source[name].shape]
        threading.Thread(target=self.mirror, args=(alike,), daemon=True).start()

    @torch.no_grad()
    def mirror(self, alike: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Copy at once what is not the same."""
        while not self.over.wait(0.0005):
            for target, source in alike:
                target.copy_(source)

    def close(self) -> None:
        """Look no more."""
        self.over.set()
        super().close()


class SlowClock(Planted):
    """Slows the clocks that it can reach by a million, for itself and whoever comes after."""

    def prepare(self, pair: ModelPair) -> None:
        """Patch, the suite's own reference too."""
        import fixtures.timing.stopwatch as stopwatch

        super().prepare(pair)
        real = time.perf_counter
        time.perf_counter = stopwatch._now = lambda: real() / 1e6  # type: ignore[assignment]


class BlindOracle(Planted):
    """Replaces the oracle where it can reach it, by one that always says yes, and then does nothing."""

    def prepare(self, pair: ModelPair) -> None:
        """Patch the modules that define the check, not those that call it."""
        import fixtures.weights.pattern as pattern
        import fixtures.weights.verify as verify

        super().prepare(pair)
        verify.verify = pattern.hash_bits = lambda *_: None  # type: ignore[assignment]


CHEATS: dict[str, Plant] = {
    "idle-by-count": idle_by_count,
    "idle-without-poison": idle_without_poison,
    "wrong-when-timed": wrong_when_timed,
    "late": late,
    "late-thread": late_thread,
    "early": Planted.honest,
    "by-checksum": by_checksum,
    "new-storage": new_storage,
    "new-strides": new_strides,
    "source-destroyed": source_destroyed,
    "source-destroyed-on-one": source_destroyed_on_one,
    "no-target": no_target,
    "part-of-target": part_of_target,
    "emptied-target": emptied_target,
    "asks-the-oracle": asks_the_oracle,
    "aliased": aliased,
    "negative-zero": negative_zero,
    "flushed": flushed,
    "nans": nans,
    "blind-oracle": lambda _engine: None,
    "slow-clock": Planted.honest,
}
PREPARED = {"early": Early, "slow-clock": SlowClock, "blind-oracle": BlindOracle}
"""Cheats that begin before the first refit."""


def kinds() -> Iterator[EngineKind]:
    """One engine for each."""
    plants = {name: after_refits(fault) for name, fault in FAULTS.items()} | CHEATS
    for name, plant in plants.items():
        engine = type("Planted", (PREPARED.get(name, Planted),), {"name": name, "plant": plant})
        yield EngineKind(name=name, engine=engine, methods={"cpu": ("gloo",), "cuda": ("gloo",)})


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Offer the engines before the suite reads `--engine`."""
    ENGINES.update({kind.name: kind for kind in kinds()})
