"""The delta engine between CPU processes: bit-exact at any share of changes, and it never diverges."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import fixtures.engines.delta_exchange as exchange
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.engines.delta import APART, FIRST, REBOUND, DeltaEngine
from fixtures.engines.delta_tiles import OVERWRITTEN
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.synthetic import (
    CPU,
    SyntheticPair,
    build,
    poison,
    synthetic_plan,
    twin_of,
    twin_pair,
)
from tests.correctness.engines.updates import Training

SHARES = (0, 0.0003, 0.01, 0.03, 0.1, 0.33, 1)
REFITS = 12


def engine_of(**options: Any) -> DeltaEngine:
    """An engine whose tiles and rounds are small enough for small models to have many."""
    sizes = {"tile_bytes": 3000, "round_bytes": 100_000, "memory_bytes": 1 << 20}
    return DeltaEngine(**{**sizes, **options}, planner=synthetic_plan)


def prepared(scenario: Scenario, ranks: int, **options: Any) -> tuple[SyntheticPair, Training, DeltaEngine]:
    pair = twin_pair(scenario, ranks)
    training, engine = Training(pair), engine_of(**options)
    poison(pair)
    engine.prepare(pair)
    return pair, training, engine


def train(scenario: Scenario, ranks: int) -> dict[str, Any]:
    """12 refits at each share, one after the other on the same models."""
    pair, training, engine = prepared(scenario, ranks)
    pointers = [t.data_ptr() for t in pair.target.values()]
    wrong, sent, words = [], {}, {}
    for share in SHARES:
        for _ in range(REFITS):
            training.step(share)
            engine.refit()
            wrong.append(training.wrong())
        facts = engine.describe()
        sent[share], words[share] = facts["sent_bytes"], facts["changed_words"]
    phases, facts = engine.profile(), engine.describe()
    engine.close()
    return {
        "wrong": sum(wrong),
        "sent": sent,
        "words": words,
        "phases": phases,
        "facts": facts,
        "dense": sum(t.nbytes for t in pair.source.values()),
        "same": pointers == [t.data_ptr() for t in pair.target.values()],
    }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_every_twin_is_exact_at_every_share(scenario: Scenario) -> None:
    for answer in run_ranks(train, 8, scenario, 8):
        assert answer["wrong"] == 0
        assert answer["same"]
        assert answer["facts"]["full_refits"] == {FIRST: 1}
        assert answer["facts"]["refits"] == REFITS * len(SHARES) + 1
        assert answer["words"][0] == 0
        if answer["words"][0.03]:
            assert 0 < answer["sent"][0] < answer["sent"][0.01] < answer["sent"][1]
            assert answer["facts"]["snapshot_bytes"] > 0


def test_idle_ranks() -> None:
    answers = run_ranks(train, 4, find_scenario("s1"), 3)
    assert [a["wrong"] for a in answers] == [0] * 4
    assert answers[3]["facts"]["paths"] == {}
    assert answers[0]["facts"]["snapshot_bytes"] > 0
    assert answers[3]["facts"]["snapshot_bytes"] == 0
    explained = sum(ms for phase, ms in answers[0]["phases"].items() if phase != "total")
    assert explained <= 1.001 * answers[0]["phases"]["total"]


def dense_traffic() -> tuple[int, int]:
    """What two ranks send when everything changes, and the bytes of the plan."""
    _, training, engine = prepared(find_scenario("s6"), 2, tile_bytes=32768)
    for _ in range(2):
        training.step(1)
        engine.refit()
    return int(engine.describe()["sent_bytes"]), int(engine._dense.describe()["bytes_out"])


def test_everything_changed_costs_no_more_than_the_weights() -> None:
    for sent, weights in run_ranks(dense_traffic, 2):
        assert 0.9 * weights < sent <= 1.02 * weights


# What each fault does to rank 1 between two refits, and what all ranks must then say.


def rebind(pair: SyntheticPair, engine: DeltaEngine) -> None:
    for side in (pair.source, pair.target):
        side.update({name: tensor.clone() for name, tensor in side.items()})


def rebind_target(pair: SyntheticPair, engine: DeltaEngine) -> None:
    pair.target.update({name: torch.zeros_like(tensor) for name, tensor in pair.target.items()})


def overwrite(pair: SyntheticPair, engine: DeltaEngine) -> None:
    poison(pair)


def overwrite_one_bit(pair: SyntheticPair, engine: DeltaEngine) -> None:
    """One bit of the target's last tile, seen because all tiles are checked."""
    address = int(engine._mover._everything.table[-1, 0])
    ctypes.c_ubyte.from_address(address).value ^= 1


def miss_a_refit(pair: SyntheticPair, engine: DeltaEngine) -> None:
    engine._generation -= 1


def join_anew(pair: SyntheticPair, engine: DeltaEngine) -> None:
    engine._generation, engine._in_step = 0, False


def lose_a_stream(pair: SyntheticPair, engine: DeltaEngine) -> None:
    """The target goes on as if it had applied another stream than its peer sent."""
    mover = engine._mover
    mover._chains.update({key: chain ^ 1 for key, chain in mover._chains.items() if key[0] == "from"})


def damage_a_stream(pair: SyntheticPair, engine: DeltaEngine) -> None:
    message = engine._mover._message

    def damaged(*arguments: Any) -> Any:
        header, lengths, data = message(*arguments)
        if len(data):
            data[len(data) // 2] ^= 16
        return header, lengths, data

    engine._mover._message = damaged


def repeat_a_stream(pair: SyntheticPair, engine: DeltaEngine) -> None:
    message = engine._mover._message
    engine._mover._message = lambda peer, number, generation, encoded: message(
        peer, number, generation - 1, encoded
    )


Fault = Callable[[SyntheticPair, DeltaEngine], None]
FAULTS: dict[Fault, str] = {
    rebind: REBOUND,
    rebind_target: REBOUND,
    overwrite: OVERWRITTEN,
    overwrite_one_bit: OVERWRITTEN,
    miss_a_refit: APART,
    join_anew: FIRST,
    lose_a_stream: "rank 0 continues from another state than this rank's target has",
    damage_a_stream: "rank 1's stream arrived damaged",
    repeat_a_stream: "rank 1 sent round 0 of refit 3 where round 0 of refit 4 was due",
}


def with_fault(fault: Fault) -> tuple[list[int], dict[str, int]]:
    """Three refits, the fault on rank 1, two more refits: wrong elements after each, and the full refits."""
    every = 1 if fault is overwrite_one_bit else 64
    pair, training, engine = prepared(find_scenario("s6"), 2, check_every=every)
    wrong = []
    for number in range(5):
        if number == 3 and dist.get_rank() == 1:
            fault(pair, engine)
        training.step(0.02)
        engine.refit()
        wrong.append(training.wrong())
        if number == 3 and fault in (damage_a_stream, repeat_a_stream) and dist.get_rank() == 1:
            del engine._mover._message
    return wrong, engine.describe()["full_refits"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_delta_that_would_be_wrong_is_a_full_refit(fault: Fault) -> None:
    for wrong, reasons in run_ranks(with_fault, 2, fault):
        assert wrong == [0] * 5
        assert reasons.pop(FIRST) == (2 if fault is join_anew else 1)
        assert FAULTS[fault] in {FIRST, *reasons}


def undetected() -> int:
    """What the checks are for: without them the same fault leaves a wrong target."""
    pair, training, engine = prepared(find_scenario("s6"), 2)
    training.step(0.02)
    engine.refit()
    poison(pair)
    engine._mover.note_target(engine._generation, 64)
    training.step(0.02)
    engine.refit()
    return training.wrong()


def test_without_the_check_an_overwritten_target_stays_wrong() -> None:
    assert min(run_ranks(undetected, 2)) > 0


def full_every_third() -> dict[str, int]:
    _, training, engine = prepared(find_scenario("s6"), 2, full_every=3)
    for _ in range(7):
        training.step(0.02)
        engine.refit()
        assert training.wrong() == 0
    return engine.describe()["full_refits"]


def test_full_every() -> None:
    assert run_ranks(full_every_third, 2) == [{FIRST: 1, "full every 3 refits": 2}] * 2


def two_pairs_and_again() -> list[int]:
    pairs = [twin_pair("s7", 4) for _ in range(2)]
    trainings, engines = [Training(pair) for pair in pairs], [engine_of() for _ in pairs]
    wrong = []
    for engine, pair in zip(engines, pairs, strict=True):
        engine.prepare(pair)
    for _ in range(3):
        for engine, training in zip(engines, trainings, strict=True):
            training.step(0.05)
            engine.refit()
        wrong += [training.wrong() for training in trainings]
    engines[0].close()
    engines[0].prepare(pairs[1])
    for _ in range(2):
        trainings[1].step(0.05)
        engines[0].refit()
        wrong.append(trainings[1].wrong())
    for engine in engines:
        engine.close()
    return wrong


def test_two_pairs_at_once_and_prepare_again() -> None:
    assert run_ranks(two_pairs_and_again, 4) == [[0] * 8] * 4


def shared(pair: SyntheticPair, folder: str) -> None:
    """Put the pair's target into files that outlive the rank."""
    for number, (name, tensor) in enumerate(list(pair.target.items())):
        file = f"{folder}/{pair.rank}-{number}"
        words = torch.from_file(file, shared=True, size=tensor.nbytes, dtype=torch.uint8)
        pair.target[name] = words.view(tensor.dtype).reshape(tensor.shape)


def killed_or_resumed(folder: str, killed: bool) -> int:
    """Three refits on targets that outlive the gang; rank 1 dies in the middle of the last, if it must."""
    pair = twin_pair("s6")
    shared(pair, folder)
    training, engine = Training(pair), engine_of()
    engine.prepare(pair)
    patch, applied = exchange._patch, []

    def dying(*arguments: Any) -> None:
        patch(*arguments)
        applied.append(1)
        if len(applied) == 2:
            os._exit(1)

    for number in range(3):
        if killed and number == 2 and dist.get_rank() == 1:
            exchange._patch = dying
        training.step(0.3)
        engine.refit()
    return training.wrong()


def test_a_rank_killed_in_a_refit_and_a_fresh_gang(tmp_path: Path) -> None:
    spec, scenario = twin_of(find_scenario("s6"), 2)
    for rank in range(2):
        for number, tensor in enumerate(build(spec, scenario, rank, CPU).target.values()):
            (tmp_path / f"{rank}-{number}").write_bytes(bytes(tensor.nbytes))
    with pytest.raises(AssertionError, match="rank 0 failed"):
        run_ranks(killed_or_resumed, 2, str(tmp_path), True)
    left = np.concatenate([np.fromfile(f, np.uint8) for f in sorted(tmp_path.glob("1-*"))])
    assert left.any(), "the dead rank left a target that is half one state and half another"
    assert run_ranks(killed_or_resumed, 2, str(tmp_path), False) == [0, 0]
