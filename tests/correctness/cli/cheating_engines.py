"""A plugin (`-p tests.correctness.cli.cheating_engines`) with engines that want a good time.

Each is megatron's engine with all repairs, which cheats in some refits or reaches for what is not its own.
"""

import signal
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.registry import ENGINES, EngineKind
from fixtures.models.bind import bind, refit_tensors
from fixtures.models.build import ModelPair
from fixtures.ranks import current_rank
from fixtures.weights.fill import fill

COLD = 1
LATE_S = 0.5


class Cheat(MegatronEngine):
    """Counts its refits; `honest` is one, and what it left."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.refits = 0

    @torch.no_grad()
    def refit(self) -> None:
        """Cheat."""
        self.refits += 1
        self.cheat()

    def cheat(self) -> None:
        """What this engine does instead."""
        raise NotImplementedError

    def honest(self) -> None:
        """What it should do."""
        super().refit()

    @property
    def pair(self) -> ModelPair:
        """The models."""
        assert self._pair is not None
        return self._pair

    def tensors(self) -> list[torch.Tensor]:
        """The target's."""
        assert self.pair.target is not None
        return [tensor for _, tensor in refit_tensors(self.pair.target)]


class IdleByCount(Cheat):
    """Works in the cold refit, of which it knows that it is checked, and never again."""

    def cheat(self) -> None:
        """Count."""
        if self.refits == COLD:
            self.honest()


class IdleWithoutPoison(Cheat):
    """Works only where poison tells it that a check will come."""

    def cheat(self) -> None:
        """Look for poison."""
        if bool(self.tensors()[0].isnan().all()):
            self.honest()


class WrongWhenTimed(Cheat):
    """Wrong weights in the timed refits but the last, right ones elsewhere (3 are timed, no warm-up)."""

    def cheat(self) -> None:
        """Spoil one tensor of many."""
        self.honest()
        if self.refits in (2, 3):
            self.tensors()[3].zero_()


class Late(Cheat):
    """Returns at once, and brings the weights when a signal comes."""

    def cheat(self) -> None:
        """Do the work, hide it, and bring it out later."""
        tensors = self.tensors()
        before = [tensor.clone() for tensor in tensors]
        self.honest()
        if self.refits == COLD:
            return
        after = [tensor.clone() for tensor in tensors]
        torch._foreach_copy_(tensors, before)
        self.later(lambda: torch._foreach_copy_(tensors, after))

    def later(self, work: object) -> None:
        """Let the kernel remind us."""
        signal.signal(signal.SIGALRM, lambda *_: work())
        signal.setitimer(signal.ITIMER_REAL, LATE_S)


class LateThread(Late):
    """The same, by a thread."""

    def later(self, work: object) -> None:
        """Start one that waits."""
        threading.Thread(target=lambda: (time.sleep(LATE_S), work()), daemon=True).start()


class Early(Cheat):
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

    def cheat(self) -> None:
        """The rest."""
        self.honest()

    def close(self) -> None:
        """Look no more."""
        self.over.set()
        super().close()


class ByChecksum(Cheat):
    """Works only when a few sampled elements of the source have changed."""

    seen: object = None

    def cheat(self) -> None:
        """Look at one element of each tensor."""
        assert self.pair.source is not None
        sample = [float(tensor.flatten()[0]) for _, tensor in refit_tensors(self.pair.source)][:4]
        if sample != self.seen:
            self.honest()
        self.seen = sample


class NewStorage(Cheat):
    """Gives the target's parameters storage of its own in every refit."""

    def cheat(self) -> None:
        """Swap, not copy."""
        self.honest()
        for tensor in self.tensors():
            tensor.data = tensor.data.clone()


class NewStrides(Cheat):
    """Leaves right weights in another memory layout."""

    def cheat(self) -> None:
        """Transpose what is square enough."""
        self.honest()
        for tensor in self.tensors():
            if tensor.dim() == 2:
                tensor.data = tensor.data.t().contiguous().t()


class SourceDestroyed(Cheat):
    """Uses the source's memory as scratch."""

    ranks = (0, 1)

    def cheat(self) -> None:
        """Take it when it is read."""
        self.honest()
        if self.refits > COLD and current_rank().rank in self.ranks and self.pair.source is not None:
            for _, tensor in refit_tensors(self.pair.source):
                tensor.zero_()


class SourceDestroyedOnOneRank(SourceDestroyed):
    """The same, on rank 1 alone."""

    ranks = (1,)


class NoTarget(Cheat):
    """Takes away what would be checked."""

    def cheat(self) -> None:
        """Leave a pair without a target."""
        if self.refits == COLD:
            object.__setattr__(self.pair, "target", None)


class PartOfTarget(Cheat):
    """Refits, then drops the last layer from the target, so that fewer elements are checked."""

    def cheat(self) -> None:
        """Drop it."""
        self.honest()
        if self.refits == COLD:
            assert self.pair.target is not None
            self.pair.target.decoder.layers = self.pair.target.decoder.layers[:-1]


class EmptiedTarget(Cheat):
    """Refits, then leaves the target's modules without parameters."""

    def cheat(self) -> None:
        """Empty them."""
        self.honest()
        if self.refits == COLD:
            assert self.pair.target is not None
            for module in self.pair.target.modules():
                module._parameters.clear()


class AsksTheOracle(Cheat):
    """Fills the target from the suite's own functions; counting tells it the generation."""

    def cheat(self) -> None:
        """Move nothing."""
        pair, rank = self.pair, self.pair.scenario.target_rank(current_rank().rank)
        assert pair.target is not None
        assert rank is not None
        fill(bind(pair.target, pair.spec, pair.scenario.target, rank), self.refits)


class Aliased(Cheat):
    """Lets target parameters be the source's own where the shapes agree."""

    def cheat(self) -> None:
        """Share."""
        self.honest()
        assert self.pair.source is not None
        source = dict(refit_tensors(self.pair.source))
        for name, tensor in refit_tensors(self.pair.target):
            if name in source and source[name].shape == tensor.shape:
                tensor.data = source[name].data


class Negative(Cheat):
    """Makes -0.0 of bf16 to 0.0."""

    def cheat(self) -> None:
        """Add nothing."""
        self.honest()
        for tensor in self.tensors():
            tensor.add_(0.0)


class Flushed(Cheat):
    """Flushes denormal numbers to zero."""

    def cheat(self) -> None:
        """As a GPU's fast mode does."""
        self.honest()
        for tensor in self.tensors():
            tensor[tensor.abs() < torch.finfo(tensor.dtype).tiny] = 0


class NaNs(Cheat):
    """Leaves NaNs of another payload than poison's in one tensor of the last rank."""

    def cheat(self) -> None:
        """A quiet NaN."""
        self.honest()
        if current_rank().rank == 1:
            self.tensors()[2].fill_(float("nan"))


class SlowClock(Cheat):
    """Slows the clocks that it can reach by a million, for itself and whoever comes after."""

    def prepare(self, pair: ModelPair) -> None:
        """Patch, the suite's own reference too."""
        import fixtures.timing.stopwatch as stopwatch

        super().prepare(pair)
        real = time.perf_counter
        time.perf_counter = stopwatch._now = lambda: real() / 1e6  # type: ignore[assignment]

    def cheat(self) -> None:
        """Work: the time is what it falsifies."""
        self.honest()


class BlindOracle(Cheat):
    """Replaces the oracle where it can reach it, by one that always says yes, and then does nothing."""

    def prepare(self, pair: ModelPair) -> None:
        """Patch the modules that define the check, not those that call it."""
        import fixtures.weights.pattern as pattern
        import fixtures.weights.verify as verify

        super().prepare(pair)
        verify.verify = pattern.hash_bits = lambda *_: None  # type: ignore[assignment]

    def cheat(self) -> None:
        """Nothing."""


CHEATS: dict[str, type[Cheat]] = {
    "idle-by-count": IdleByCount,
    "idle-without-poison": IdleWithoutPoison,
    "wrong-when-timed": WrongWhenTimed,
    "late": Late,
    "late-thread": LateThread,
    "early": Early,
    "by-checksum": ByChecksum,
    "new-storage": NewStorage,
    "new-strides": NewStrides,
    "source-destroyed": SourceDestroyed,
    "source-destroyed-on-one": SourceDestroyedOnOneRank,
    "no-target": NoTarget,
    "part-of-target": PartOfTarget,
    "emptied-target": EmptiedTarget,
    "asks-the-oracle": AsksTheOracle,
    "aliased": Aliased,
    "negative-zero": Negative,
    "flushed": Flushed,
    "nans": NaNs,
    "blind-oracle": BlindOracle,
    "slow-clock": SlowClock,
}


def kinds() -> Iterator[EngineKind]:
    """One engine for each."""
    for name, cheat in CHEATS.items():
        engine = type(cheat.__name__, (cheat,), {"name": name})
        yield EngineKind(name=name, engine=engine, methods={"cpu": ("gloo",), "cuda": ("gloo",)})


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Offer the engines before the suite reads `--engine`."""
    ENGINES.update({kind.name: kind for kind in kinds()})
