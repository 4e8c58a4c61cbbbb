"""refit-bench plan: what a refit must move, how fast it can be at best, and in which order of ranks."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fixtures.bounds.fabric import PRESETS, parse_fabric
from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import MODELS, find_model
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenarios
from fixtures.cases.updates import parse_update
from fixtures.engines.registry import Way
from fixtures.planning.delta_table import deltas_json, print_deltas
from fixtures.planning.figure import draw_traffic
from fixtures.planning.predict import (
    MIN_CASES,
    Fitted,
    fit,
    measured_cases,
    predict,
    sentence,
    unpredicted,
)
from fixtures.planning.prediction_table import prediction_json, print_predictions
from fixtures.planning.summary import ScenarioPlan, as_json, plan_scenario
from fixtures.planning.tables import (
    print_fabric,
    print_placements,
    print_plans,
    print_quality,
    print_replayed,
)
from fixtures.records.reader import Run, read_runs, reference_runs
from tools import command_parser

EXACT_MOE_LAYERS = 3
"""MoE layers of the narrow model that --exact plans with all experts, unless --num-layers says otherwise."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = command_parser("plan", __doc__)
    add = made.add_argument
    add("scenarios", nargs="*", metavar="SCENARIO", help="s1..s7, or a row like 8:8:4:16:collocated:nccl; "
        "default: all")  # fmt: skip
    add("--fabric", action="append", metavar="F", help=f"one of {', '.join(PRESETS)}, a results file with a "
        "calibration, or key=value; repeat or separate by commas; default: 8xH200")  # fmt: skip
    add("--model", default="kimi-k2", metavar="NAME", help=f"one of {', '.join(MODELS)}")
    add("--num-layers", type=int, metavar="N", help="cut the model to its first N layers")
    add("--placement", nargs="?", const="best", metavar="ORDER", help="print the best order of target "
        "ranks too; or plan with the order 0,2,1,...")  # fmt: skip
    add("--json", action="store_true", help="print an object with a list of scenarios instead of tables")
    add("--figure", type=Path, metavar="FILE", help="write the traffic matrices (.png, .svg or .pdf)")
    add("--predict", action="store_true", help="predict each engine's time at full size; no measurement")
    add("--runs", action="append", metavar="FILE", help="results to predict from; default: those of "
        "results/reference")  # fmt: skip
    add("--update", metavar="SHARE", help="bound delta refits, which move only what changed, at this share "
        "of changed weights and at others")  # fmt: skip
    add("--exact", action="store_true", help="run Megatron's planner for all ranks on a narrow model, check "
        "every element, repaired and as shipped")  # fmt: skip
    return made


def main(argv: list[str]) -> int:
    """0: planned; 1: --exact found a wrong plan."""
    options = parser().parse_args(argv)
    if options.exact:
        return _exact(options)
    model = find_model(options.model, options.num_layers)
    fabric = parse_fabric(options.fabric or [])
    plans = [plan_scenario(scenario, model, fabric) for scenario in _scenarios(options)]
    runs = _runs(options.runs) if options.predict else []
    fitted = _fitted(runs, plans) if options.predict else {}
    share = parse_update(options.update).share if options.update else None
    if options.figure:
        draw_traffic(plans, options.figure)
        print(f"{options.figure} is written", file=sys.stderr)
    _show(plans, fitted, sentence(unpredicted(runs)), share, options)
    return 0


def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    scenarios = find_scenarios(options.scenarios) or list(SCENARIOS)
    if options.placement in (None, "best"):
        return scenarios
    order = _order(options.placement)
    return [replace(scenario, placement=order) for scenario in scenarios]


def _order(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(rank) for rank in text.split(","))
    except ValueError:
        raise CaseError(f"placement must be best or ranks like 0,2,1,3, not {text!r}") from None


def _runs(sources: list[str] | None) -> list[Run]:
    """The named runs, else the committed ones."""
    return read_runs(sources) if sources else reference_runs()


def _fitted(runs: list[Run], plans: list[ScenarioPlan]) -> dict[Way, Fitted]:
    """Every engine with enough cases in the runs."""
    fitted = fit(measured_cases(runs, plans[0].fabric))
    if not fitted:
        raise CaseError(f"no engine has {MIN_CASES} passed cases on GPUs in these runs to predict from")
    return fitted


def _show(
    plans: list[ScenarioPlan],
    fitted: dict[Way, Fitted],
    without: str,
    share: float | None,
    options: argparse.Namespace,
) -> None:
    if options.json:
        predicted = [prediction_json(p) for p in predict(plans, fitted)] if fitted else None
        fabric = vars(plans[0].fabric)
        unsaid = {"without_prediction": without} if fitted else {}
        scenarios = [as_json(plan) for plan in plans]
        said = {"fabric": fabric, "scenarios": scenarios, "predictions": predicted, **unsaid}
        if share is not None:
            said["deltas"] = [deltas_json(plan, share) for plan in plans]
        print(json.dumps(said, indent=1))
        return
    console = Console()
    print_plans(plans, console)
    print_quality(plans, console)
    if options.placement == "best":
        print_placements(plans, console)
    if fitted:
        print_predictions(plans, fitted, without, console)
    if share is not None:
        print_deltas(plans, share, console)
    print_fabric(plans[0].fabric, console)


def _exact(options: argparse.Namespace) -> int:
    """1 when a repaired plan is wrong."""
    from fixtures.megatron_plan.exact_topology import narrow_model, replay

    full = find_model(options.model)
    layers = full.with_layers(options.num_layers or full.dense_layers + EXACT_MOE_LAYERS).num_layers
    model = narrow_model(full, layers=layers, experts=full.experts)
    console = Console()
    worst = 0
    for scenario in _scenarios(options):
        repaired, shipped = (replay(scenario, model, repairs=repairs) for repairs in (True, False))
        print_replayed(repaired, shipped, console)
        worst = max(worst, 0 if repaired.exact else 1)
    return worst
