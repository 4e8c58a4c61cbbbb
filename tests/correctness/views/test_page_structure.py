"""What stands where on the page of two made-up nights: headings, rows, labels of figures, ticks of axes."""

import re

import pytest

from fixtures.records.reader import Run
from fixtures.views.report.page import page
from tests.correctness.views.page_reader import PageReader, Section

D, M, P = "direct over nvshmem", "megatron over nvshmem", "packed over nccl"
TWIN = "twin 4,4 on 8 ranks"
KEYS = [f"s{number}" for number in range(1, 8)]
FAILURE, REASON = "gate & up <rows> are scrambled", "needs 3 GPUs, has 2"


@pytest.fixture
def sections(runs: list[Run]) -> dict[str, Section]:
    return PageReader(page(runs)).sections


def test_sections_and_headings(sections: dict[str, Section]) -> None:
    assert list(sections) == ["", "glance", "questions", "scenarios", "history", "environment"]
    assert sections[""].headings == ["Kimi K2 weight refits"]
    assert sections["glance"].headings == [
        "At a glance",
        "s1 TP8,EP8 to TP8,EP4, non-collocated",
        "s2 TP16,EP4 to TP8,EP4, non-collocated",
        "s3 TP16,EP4 to TP16,EP2, non-collocated",
        "s4 TP16,EP4 to TP32,EP2, non-collocated",
        "s5 TP8,EP8 to TP16,EP4, non-collocated",
        "s6 TP16,EP8 to TP8,EP16, collocated",
        "s7 TP32,EP4 to TP16,EP8, collocated",
    ]
    cards = [heading for heading in sections["scenarios"].headings if re.match(r"s\d ", heading)]
    assert [heading[:2] for heading in cards] == KEYS
    assert cards[0] == "s1 EP baseline non-collocated, nvshmem, expected 30–60 ms"
    assert sections["scenarios"].headings.count("Where the last refit's time went") == 7
    assert sections["environment"].headings == ["Environment", "8x-nvidia-h200"]


def test_every_case_has_a_row_of_times(sections: dict[str, Section]) -> None:
    header, *rows = sections["glance"].table("Times of every case")
    assert " | ".join(header) == (
        "scenario | engine | warm | cold | p95 | floor | x floor | GB/s | expected | verdict | as run"
    )
    assert rows == [
        ["s1", D, "190 ms", "1.6 s", "191 ms", "175 ms", "1.09 x", "300 GB/s", "30–60 ms", "▲ above", TWIN],
        ["s2", M, FAILURE, "50–100 ms", "✕ failed", TWIN],
        ["s2", D, "195 ms", "1.6 s", "196 ms", "", "", "", "50–100 ms", "▲ above", TWIN],
        ["s3", M, REASON, "60–120 ms", "○ skipped", TWIN],
        ["s3", D, "180 ms", "1.6 s", "181 ms", "", "", "", "60–120 ms", "▲ above", TWIN],
        ["s4", D, "97.2 ms", "1.6 s", "97.4 ms", "", "", "", "80–150 ms", "● within", TWIN],
        ["s5", D, "98.2 ms", "1.6 s", "98.4 ms", "", "", "", "100–200 ms", "▼ below", TWIN],
        ["s6", P, "36 ms", "1.6 s", "36 ms", "26.1 ms", "1.38 x", "", "20–40 ms", "● within", TWIN],
        [
            "s6",
            D,
            "28.1 ms",
            "1.6 s",
            "28.1 ms",
            "26.1 ms",
            "1.07 x",
            "300 GB/s",
            "20–40 ms",
            "● within",
            TWIN,
        ],
        ["s7", D, "26.1 ms", "1.6 s", "26.1 ms", "", "", "", "25–50 ms", "● within", TWIN],
    ]


def test_every_lane_says_its_row_in_words_on_a_common_axis(sections: dict[str, Section]) -> None:
    glance = sections["glance"]
    assert len(glance.figures) == 10
    assert glance.figures[:2] == [
        f"{D}: median 190 ms, 5 samples from 190 ms to 191 ms; expected 30 to 60 ms; floor 175 ms",
        f"{M}: failed, {FAILURE}",
    ]
    axis = ["20 ms", "50 ms", "100 ms", "200 ms"]
    assert glance.ticks == [*axis, "failed", "skipped", *axis]


def test_the_order_of_the_scenarios_is_drawn_and_tabled(sections: dict[str, Section]) -> None:
    questions = sections["questions"]
    header, *rows = questions.table("Places of direct")
    assert header == ["scenario", "expected", "measured"]
    assert [" ".join(row) for row in rows] == [
        "s1 3 6", "s2 4 7", "s3 5 5", "s4 6 3", "s5 7 4", "s6 1 2", "s7 2 1"
    ]  # fmt: skip
    (figure,) = questions.figures
    assert figure == "; ".join(f"{key} expected place {was}, measured {now}" for key, was, now in rows)
    assert sorted(questions.ticks) == sorted(2 * KEYS)


@pytest.mark.parametrize("number", range(7))
def test_a_card_has_its_sizes_phases_and_ranks(sections: dict[str, Section], number: int) -> None:
    """One table for each figure of a card."""
    card, key = sections["scenarios"], KEYS[number]
    header, *rows = card.table(f"{key}: sizes, checks and memory")
    assert header == ["engine", "exact", "extra memory", "weights per rank", "received", "verdict"]
    assert [row[0] for row in rows] == {"s2": [M, D], "s3": [M, D], "s6": [P, D]}.get(key, [D])
    sizes = ["2.6 GB", "20.4 GB", "10.2 GB"]
    assert all(row[2:5] == sizes for row in rows if row[0] != M)
    phases = card.table("Phases of the last refit", number)
    assert [row[:2] for row in phases] == [["engine", "phase"], [D, "copy"], [D, "barrier"]]
    ranks = card.table(f"Time of each rank, {D}", number)
    assert ranks[0] == ["rank", "fastest", "median", "slowest"]
    assert [row[0] for row in ranks[1:]] == [str(rank) for rank in range(8)]


def test_a_cards_figures_are_labelled(sections: dict[str, Section]) -> None:
    figures = sections["scenarios"].figures
    assert figures[:5] == [
        "Source layout: TP8,EP8",
        "Target layout: TP8,EP4",
        f"{D}: median 190 ms, 5 samples from 190 ms to 191 ms; expected 30 to 60 ms; floor 175 ms",
        f"{D}: copy 171 ms, barrier 19 ms",
        f"{D}, time of each rank. Even: the ranks' medians lie within 0.7%, iterations within 0.2%.",
    ]
    assert sum(figure.startswith("Source layout") for figure in figures) == 7
    assert f"{M}: skipped, {REASON}" in figures


def test_a_straggler_stands_out_in_its_table(sections: dict[str, Section]) -> None:
    rows = sections["scenarios"].table(f"Time of each rank, {P}")[1:]
    assert [row[2] for row in rows] == [*["30 ms"] * 5, "36 ms", *["30 ms"] * 2]


def test_history_has_a_line_and_a_table_for_each_case_with_times(sections: dict[str, Section]) -> None:
    history = sections["history"]
    titles = [title for title, _ in history.tables]
    assert titles == [*(f"{key} {D}" for key in KEYS[:5]), f"s6 {P}", f"s6 {D}", f"s7 {D}"]
    assert history.table(f"s1 {D}") == [
        ["run", "began", "commit", "median"],
        ["night-0", "2030-01-01 02:00", "0123456789ab", "190 ms"],
        ["night-1", "2030-01-02 02:00", "0123456789ab", "190 ms"],
    ]
    assert len(history.figures) == len(titles)
    assert all("2 runs, newest" in figure for figure in history.figures)


def test_the_environment_tells_ceilings_and_system(sections: dict[str, Section]) -> None:
    environment = sections["environment"]
    assert environment.table("Measured ceilings of this machine") == [
        ["put", "390 GB/s"],
        ["nccl both ways", "363 GB/s"],
        ["device copy", "4270 GB/s"],
    ]
    facts = dict(map(tuple, environment.table("night-1")))
    assert facts["device"] == "NVIDIA H200"
    assert facts["megatron core"] == "0.19.2"
