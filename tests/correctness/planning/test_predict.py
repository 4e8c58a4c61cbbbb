import itertools
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from fixtures.bounds.fabric import PRESETS
from fixtures.cases.inventory import KIMI_K2, KIMI_K2_MINI
from fixtures.cases.scenarios import SCENARIOS
from fixtures.cases.twins import Twin
from fixtures.planning.predict import (
    MeasuredCase,
    fit,
    measured_cases,
    order_terms,
    predict,
    sentence,
    unpredicted,
)
from fixtures.planning.ranking import rank_by_floor, rank_by_prediction, reasons
from fixtures.planning.summary import plan_scenario
from fixtures.records.reader import Run
from fixtures.records.record import CaseRecord
from tests.correctness.made_up_runs import case

TRUTH = {
    ("megatron", "nccl"): {"kilo-ops": 15.0, "wire ms": 1.2, "staging ms": 2.0},
    ("packed", "nccl"): {"wire ms": 1.1, "passes ms": 0.2, "constant": 1.5},
}
TWINS = [(s, Twin(a=a, b=b)) for s in SCENARIOS[3:] for a, b in ((8, 2), (4, 2), (8, 1))]


@cache
def terms_of_twins() -> list[tuple[str, dict[str, float]]]:
    """(scenario key, value of each term) of TWINS."""
    plans = [plan_scenario(t.scenario(s), t.model(KIMI_K2), PRESETS["8xH200"]) for s, t in TWINS]
    return [(plan.scenario.key, order_terms(plan, plan.orders[0])) for plan in plans]


def made_up(way: tuple[str, str], noise: float = 0.0) -> list[MeasuredCase]:
    """Cases of an engine that follows TRUTH, every second one off by `noise`."""
    cases = []
    for number, (key, terms) in enumerate(terms_of_twins()):
        ms = sum(value * terms[name] for name, value in TRUTH[way].items()) * (1 + noise * (number % 2))
        cases.append(MeasuredCase(way=way, label=key, ms=ms, terms=terms))
    return cases


@pytest.mark.parametrize("way", TRUTH)
def test_coefficients_of_an_engine_that_obeys_the_model_are_found(way: tuple[str, str]) -> None:
    fitted = fit(made_up(way))[way]
    for name, value in TRUTH[way].items():
        assert fitted.coefficients[name] == pytest.approx(value, rel=1e-3)
    assert fitted.worst_error == pytest.approx(0, abs=1e-3)


def test_a_case_that_does_not_obey_shows_in_its_own_error() -> None:
    way = ("packed", "nccl")
    cases = made_up(way)
    cases[4] = MeasuredCase(way=way, label="odd", ms=cases[4].ms * 2, terms=cases[4].terms)
    errors = fit(cases)[way].errors
    assert errors["odd #5"] == pytest.approx(-0.5, abs=0.1)
    assert max(errors.values(), key=abs) == errors["odd #5"]


def test_noise_is_told_as_error() -> None:
    way = ("megatron", "nccl")
    assert 0.05 < (fit(made_up(way, noise=0.2))[way].worst_error) < 0.4


def test_a_fit_always_has_more_cases_than_terms() -> None:
    """As many terms as cases would hit every measured case and predict nothing."""
    way = ("packed", "nccl")
    for count in range(3, 6):
        coefficients = fit(made_up(way)[:count])[way].coefficients
        assert len(set(coefficients) - {"wire ms"}) <= count - 2
    assert fit(made_up(way)[:2]) == {}


def test_the_error_told_is_that_of_cases_the_fit_did_not_see() -> None:
    """Seven cases and six both allow all three terms, so that the fits can be compared."""
    way = ("packed", "nccl")
    cases = made_up(way, noise=0.2)[:7]
    fitted = fit(cases)[way]
    for number, left_out in enumerate(cases):
        others = fit([*cases[:number], *cases[number + 1 :]])[way]
        error = fitted.errors[f"{left_out.label} #{number + 1}"]
        assert error == pytest.approx(others.predict(left_out.terms) / left_out.ms - 1)
    assert f"{fitted.worst_error:.0%} off" in fitted.trust


def test_what_lies_outside_of_what_was_measured_is_said() -> None:
    way = ("packed", "nccl")
    fitted = fit([replace(m, ranks=8) for m in made_up(way)])[way]
    assert fitted.outside(8, nics=False) == ""
    assert fitted.outside(128, nics=False) == "128 ranks (measured: at most 8)"
    assert fitted.outside(128, nics=True).endswith(" and bytes over NICs (measured: none)")
    assert fit([replace(m, nics=True) for m in made_up(way)])[way].outside(2, nics=True) == ""


def run_of(case: CaseRecord, devices: int = 2) -> Run:
    environment = {"type": "environment", "schema": "1.0", "identity": {"devices_per_host": devices}}
    return Run(path=Path("x.jsonl"), environment=environment, calibration={"put_gbps": 200.0}, cases=(case,))


def a_case(**changes: object) -> CaseRecord:
    usual = {"twin": [8, 8], "num_layers": 10, "transport": "ipc"}
    return case("s6", [9.0, 7.0, 8.0], **{**usual, **changes})


def test_cases_of_a_run_carry_the_terms_of_their_twin_and_calibration() -> None:
    (measured,) = measured_cases([run_of(a_case())], PRESETS["8xH200"])
    assert (measured.way, measured.ms) == (("direct", "ipc"), 8.0)
    plan = plan_scenario(
        Twin(a=8, b=8).scenario(SCENARIOS[5]),
        Twin(a=8, b=8).model(KIMI_K2).with_layers(10),
        PRESETS["8xH200"],
    )
    assert measured.terms["wire ms"] == pytest.approx(
        order_terms(plan, plan.orders[0])["wire ms"] * 390 / 200
    )


@pytest.mark.parametrize(
    "run",
    [
        run_of(a_case(), devices=0),
        run_of(a_case(status="failed")),
        run_of(a_case().having(warm_ms=())),
        run_of(a_case(engine="megatron", transport="gloo")),
        run_of(a_case().having(scenario="other")),
    ],
)
def test_what_says_nothing_of_a_gpu_is_left_out(run: Run) -> None:
    assert measured_cases([run], PRESETS["8xH200"]) == []


def test_what_is_not_predicted_is_told_with_how_often_it_was_measured() -> None:
    """Another twin counts, and an update where all bytes move all the same; the same case again does not."""
    nixl = {"engine": "megatron", "transport": "nixl"}
    runs = [
        run_of(a_case(**nixl)),
        run_of(a_case(**nixl)),
        run_of(a_case(**nixl, twin=[4, 4], options={"update": "0.01"})),
        run_of(a_case(**nixl, twin=[2, 2], options={"ranks-per-gpu": "2"})),
        run_of(a_case(**nixl, twin=[2, 2], status="failed")),
        run_of(a_case(**nixl, twin=[2, 2], moved_bytes=0)),
        run_of(a_case(**nixl, twin=[2, 2]), devices=0),
    ]
    ways = unpredicted(runs)
    assert (ways["megatron", "nixl"], ways["megatron", "nccl_m2n"]) == (2, 0)
    assert "megatron nixl (2), megatron nccl_m2n (0)" in sentence(ways)
    third = run_of(a_case(**nixl, twin=[2, 2]))
    assert ("megatron", "nixl") not in unpredicted([*runs, third])
    assert ("megatron", "nixl") in fit(measured_cases([*runs, third], PRESETS["8xH200"]))
    assert sentence({}) == ""


def test_rankings_differ_from_the_expected_one_with_a_reason() -> None:
    plans = [plan_scenario(s, KIMI_K2, PRESETS["nvlink4"]) for s in SCENARIOS]
    assert rank_by_floor(plans).keys == ("s7", "s6", "s4", "s5", "s3", "s1", "s2")
    assert rank_by_floor(plans, best=False).keys[:2] == ("s7", "s6")
    sentences = reasons(plans)
    assert any("s7 before s6: each of its 128 target GPUs takes 8.6 GB" in text for text in sentences)
    assert any(
        text.startswith("s5 before s3: each of its 64 target GPUs takes 35.2 GB") for text in sentences
    )


def test_ranking_by_prediction_follows_the_times() -> None:
    plans = [plan_scenario(s, KIMI_K2_MINI, PRESETS["8xH200"]) for s in SCENARIOS]
    fitted = fit(made_up(("packed", "nccl")))
    predictions = predict(plans, fitted)
    for way in fitted:
        ranked = rank_by_prediction(predictions, way, "megatron").keys
        times = {p.scenario.key: p.ms[way] for p in predictions if p.order == "megatron"}
        assert sorted(ranked) == [s.key for s in SCENARIOS]
        for first, second in itertools.pairwise(ranked):
            assert times[first] <= times[second] * 1.01
    assert json.dumps([list(p.ms.values()) for p in predictions])
