"""The traffic figure: one scale for all panels, axes named by what they show."""

from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot

from fixtures.bounds.fabric import parse_fabric
from fixtures.cases.inventory import find_model
from fixtures.cases.scenarios import find_scenarios
from fixtures.planning.figure import draw_traffic
from fixtures.planning.summary import plan_scenario


def test_panels_share_a_scale_and_say_what_their_axes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fabric, model = parse_fabric([]), find_model("kimi-k2")
    plans = [plan_scenario(scenario, model, fabric) for scenario in find_scenarios(["s6", "s1"])]
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    draw_traffic(plans, tmp_path / "traffic.svg")
    monkeypatch.undo()
    *panels, scale = [axis for axis in drawn[0].axes if axis.get_visible()]
    limits = [panel.images[0].get_clim() for panel in panels]
    largest = max(order.matrix.max() for plan in plans for order in plan.orders) / 1e9
    assert limits == [(0.0, pytest.approx(largest))] * 3
    assert scale.get_ylabel().startswith("GB, one scale")
    titles = [panel.get_title().splitlines()[0] for panel in panels]
    assert titles == [
        "s6 TP16,EP8 to TP8,EP16, megatron order",
        "s6 TP16,EP8 to TP8,EP16, best order",
        "s1 TP8,EP8 to TP8,EP4, megatron order",
    ]
    same, other = "GPU that receives = target rank", "GPU that receives; it holds another target rank"
    assert [panel.get_xlabel() for panel in panels] == [same, other, same]
    assert {panel.get_ylabel() for panel in panels} == {"GPU that sends"}
    pyplot.close("all")
