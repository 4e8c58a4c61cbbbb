"""The page: right, self-contained, accessible in structure and colour; and the Markdown."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from fixtures.engines.registry import ENGINES
from fixtures.records.reader import Run, read_run, read_runs
from fixtures.views.report import page as page_module
from fixtures.views.report.entries import newest_entries
from fixtures.views.report.markdown import markdown
from fixtures.views.report.page import page
from fixtures.views.report.questions import answers
from fixtures.views.report.svg import looks, style_of
from tests.correctness.golden import assert_golden
from tests.correctness.made_up_runs import case, environment, skipped, write_run
from tests.correctness.patience import PATIENCE_S
from tools.__main__ import main as run

GOLDEN = Path(__file__).parent / "golden"


class _Document(HTMLParser):
    """What the structural checks ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_the_markdown_is_golden(tmp_path: Path, runs: list[Run]) -> None:
    assert_golden(markdown(runs), GOLDEN / "report.md", tmp_path)


def test_nothing_is_fetched_and_nothing_runs(runs: list[Run]) -> None:
    text = page(runs)
    document = _Document(text)
    assert not document.all("script", "img", "iframe", "object", "embed")
    for attributes in document.all(*{tag for tag, _ in document.tags}):
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import|https?://", text)


def test_structure_for_screen_readers(runs: list[Run]) -> None:
    document = _Document(page(runs))
    assert document.open == []
    assert document.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    for attributes in document.all("svg"):
        named = attributes.get("role") == "img" and attributes.get("aria-label")
        inner = attributes.get("overflow") == "visible"
        assert named or inner or attributes.get("aria-hidden") == "true", attributes
    assert len(document.all("table")) == len(document.all("caption"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in document.all("th"))
    for attributes in document.all("div"):
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
    ids = [attributes["id"] for _, attributes in document.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for attributes in document.all("a")} <= set(ids)


def test_the_page_says_what_matters(runs: list[Run]) -> None:
    words = _Document(page(runs)).words
    for needed in (
        "8 passed, 1 failed, 1 skipped",
        "gate & up <rows> are scrambled",
        "needs 3 GPUs, has 2",
        "Straggler: rank 5 is slowest in 5 of 5 iterations, 20% above the median rank.",
        "The expected range of s1 lies below the floor of this machine.",
        "No engine can meet the expected range here: the floor is 175 ms.",
        "Twins keep each rank's tensors and bytes",
        "TP16 × EP8",
        "put 390 GB/s",
        "megatron core 0.19.2",
    ):
        assert needed in words, needed


def test_questions_are_answered_with_numbers_or_said_to_be_open(runs: list[Run], tmp_path: Path) -> None:
    found = {answer.title: answer for answer in answers(newest_entries(runs))}
    assert len(found) == 9
    direct = {title: answer.lines[0][2] for title, answer in found.items()}
    assert direct["How does TP granularity affect an EP refit? (s3 against s1)"][1][0] == "0.947×"
    assert direct["How does the collocated refit scale with TP? (s7 against s6)"][1][0] == "0.929×"
    assert (
        "expected s6 s7 s1 s2 s3 s4 s5, measured s7 s6 s4 s5 s3 s1 s2"
        in direct["Expected ranking against the measured one"][0][1]
    )
    assert [fact[0] for fact in direct["What does a strategy shift cost? (s5 against s1 and s2)"]][1:] == [
        "0.516×",
        "0.503×",
    ]
    alone = read_run(write_run(tmp_path / "x.jsonl", [case("s6"), skipped("s1")]))
    some = {answer.title: answer for answer in answers(newest_entries([alone]))}
    assert some["EP baseline (s1)"].missing == "not measured here: s1"
    assert some["Collocated best case (s6)"].lines
    assert all(answer.missing for answer in answers([]))


def test_phases_leave_out_the_total_and_name_the_rest(tmp_path: Path) -> None:
    lines = [case("s6", phases_ms={"pack": 2.0, "wire": 5.0, "wait": 0.0, "total": 10.0}), case("s7")]
    entries = newest_entries([read_run(write_run(tmp_path / "x.jsonl", lines))])
    assert entries[0].phases == {"pack": 2.0, "wire": 5.0, "rest": 3.0}
    assert entries[1].phases == {}


def test_a_run_without_times_still_makes_a_page(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "x.jsonl", [skipped("s1"), skipped("s6")]))
    words = _Document(page([run])).words
    assert "0 passed, 2 skipped" in words
    assert "nothing timed" in words
    assert "| floor |" not in markdown([run])
    untimed = read_run(write_run(tmp_path / "y.jsonl", [case("s6", [30.0] * 4, throttled=[0, 1, 2])]))
    assert "1 passed" in _Document(page([untimed])).words
    assert "1 passed" in markdown([untimed])


def test_two_systems_are_kept_apart(tmp_path: Path) -> None:
    cpu = environment(device="EPYC", devices_per_host=0, host_class="EPYC, 2 cores, 24 GiB", nvlink=None)
    paths = [
        write_run(tmp_path / "a.jsonl", [case("s6")]),
        write_run(tmp_path / "b.jsonl", [case("s6")], env=cpu),
    ]
    words = _Document(page(read_runs(paths))).words
    assert "8x-nvidia-h200" in words
    assert "cpu-epyc-2-cores-24-gib" in words
    assert words.count("sizes, checks and memory") == 1


def _colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", css))


def _themes() -> dict[str, dict[str, str]]:
    css = (page_module.HERE / "page.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    themes = {"light": _colours(light), "dark": _colours(light) | _colours(dark[: dark.index("* {")])}
    return {
        theme: colours | {f"e{n}": getattr(look, theme) for n, look in enumerate(looks())}
        for theme, colours in themes.items()
    }


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    light, dark = sorted((float(_linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    """Text 4.5 : 1, marks 3 : 1 (WCAG AA), on both grounds."""
    colours = _themes()[theme]
    for ground in ("bg", "surface"):
        for name in ("ink", "soft", "link", "bad"):
            assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for name in (*(f"e{n}" for n in range(len(looks()))), "less", "good", "band-edge"):
            assert _contrast(colours[name], colours[ground]) >= 3, (name, ground)
    for verdict in ("less", "good"):
        assert _contrast(colours[verdict], colours["surface"]) >= 4.5


BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB."""


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 1e-6, None))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", BLINDNESS)
def test_engines_are_told_apart_by_colour_blind_readers(theme: str, kind: str) -> None:
    """Lab distance of 12 or more between the engines' colours (2.3 is just noticeable); shapes differ too."""
    colours = _themes()[theme]
    seen = [
        _lab(np.clip(np.array(BLINDNESS[kind]) @ _linear(colours[f"e{style_of(engine)}"]), 0, 1))
        for engine in ENGINES
    ]
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(one - other) >= 12


def test_the_tool_writes_a_page_and_markdown(
    tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "out" / "page.html"
    assert run(["report", str(tmp_path), "-o", str(output)]) == 0
    assert output.read_text().startswith("\n<!doctype html>") or output.read_text().startswith(
        "<!doctype html>"
    )
    assert run(["report", str(tmp_path), "--markdown"]) == 0
    assert "### Kimi K2 refits: 8 passed, 1 failed, 1 skipped" in capsys.readouterr().out
    empty = write_run(tmp_path / "empty" / "e.jsonl", [])
    for arguments in ([str(empty)], ["none.jsonl"], [str(tmp_path), "-o", "/dev/null/x.html"]):
        assert run(["report", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_job_of_github_is_told_what_ran(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """After what the job has said already; outside of a job one sentence says so."""
    summary = tmp_path / "summary.md"
    summary.write_text("built\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert run(["report", str(tmp_path), "--job-summary"]) == 0
    assert summary.read_text().startswith("built\n### Kimi K2 refits: 8 passed, 1 failed, 1 skipped")
    for value in ("", "/dev/null/x"):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", value)
        assert run(["report", str(tmp_path), "--job-summary"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_alike_entries_say_what_tells_them_apart(tmp_path: Path) -> None:
    """Two twins of one scenario, on two systems, with an option that all have."""
    shared = {"options": {"ranks-per-gpu": "8"}}
    twins = [case("s6", twin=[4, 4], **shared), case("s6", twin=[8, 8], **shared), case("s7", **shared)]
    run = read_run(write_run(tmp_path / "a.jsonl", twins))
    titles = [entry.title for entry in newest_entries([run])]
    words = [re.search(r"\((.*)\)", title) for title in titles]
    assert [bool(word) for word in words] == [True, True, False]
    assert len(set(titles[:2])) == 2
    assert all("twin" in title and "ranks-per-gpu" not in title for title in titles[:2])
    assert "all with ranks-per-gpu=8." in page([run])
    assert "All with ranks-per-gpu=8." in markdown([run])


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
    "--dump-dom",
)
FRAME = """<!doctype html><title></title>
<iframe id=f src=page.html style="width:WIDTHpx;height:900px;border:0"></iframe>
<script>
const f = document.getElementById("f");
f.onload = () => {
  const root = f.contentDocument.documentElement;
  const sections = root.querySelectorAll("section").length;
  root.querySelectorAll("details").forEach(each => each.open = true);
  const boxes = [...root.querySelectorAll(".scroll")];
  const wide = boxes.filter(box => box.scrollWidth > box.clientWidth).length;
  const time = boxes[0].querySelector("tbody td.n").getBoundingClientRect();
  const shown = time.right <= boxes[0].getBoundingClientRect().right;
  document.title = `sideways ${root.scrollWidth - root.clientWidth}, sections ${sections}, `
    + `wider tables ${WIDTH > 1000 ? wide : "allowed"}, first time ${shown ? "shown" : "hidden"}`;
};
</script>
"""
"""A headless window is never narrower than 500: a frame is."""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_errors_or_sideways_scrolling(
    tmp_path: Path, runs: list[Run], width: int
) -> None:
    (tmp_path / "page.html").write_text(page(runs))
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"file://{tmp_path}/frame.html",
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    wide = "0" if width > 1000 else "allowed"
    assert f"<title>sideways 0, sections 5, wider tables {wide}, first time shown</title>" in shown.stdout
    assert "CONSOLE" not in shown.stderr
