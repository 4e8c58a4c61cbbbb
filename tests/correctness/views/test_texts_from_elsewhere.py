"""Records come from elsewhere: no text in them makes markup, script, links, rows or colours of its own."""

import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from fixtures.gates.comparison import compare
from fixtures.records.fields import Field, fields_of
from fixtures.records.plain import HIDDEN
from fixtures.records.reader import Run, read_run
from fixtures.records.schema import FACTS, LINES
from fixtures.views.comparison import comparison_markdown, print_comparison
from fixtures.views.markdown import literal
from fixtures.views.report.markdown import markdown
from fixtures.views.report.page import page
from fixtures.views.table import render
from tests.correctness.made_up_runs import CALIBRATION, case_line, environment

HOSTILE = (
    "<script>alert(1)</script>",
    "</td></tr></table></style></title><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "{{ 7*7 }}{% for x in y %}",
    "a | b | c",
    "back\\| slash",
    "`code` ``` fence",
    "[link](javascript:alert(1)) ![image](http://x/y.png)",
    "<http://x.example> http://x.example www.x.example",
    "**bold** _em_ ~~struck~~ &lt;b&gt; &#60;",
    "- item",
    "# head",
    "1. one",
    "> quote",
    "line\n\n# head\n\n- item\n<b>\n| a | b |\n|---|---|",
    "[bold red]x[/bold red] [/b] [link=file:///etc/passwd]y[/link] :bomb:",
    "\x1b[2J\x1b[31mred\x1b]8;;http://x\x1b\\\\link\x1b]0;title\x07",
    "\u202egnp.exe\u2066 \x9b31m \ud800",
)
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def texts_set(line: dict[str, Any], fields: Iterator[Field] | tuple[Field, ...], text: str) -> dict[str, Any]:
    """A line with every field that holds free text set to one."""
    kinds = {"text": text, "texts": [text], "texts by name": {text: text}}
    kept = ("schema", "started", "scenario")
    changed = {f.name: kinds[f.kind.name] for f in fields if f.kind.name in kinds and not f.choices}
    numbers = {"phases_ms": {text: 1.0}, "engine_facts": {text: text}} if line["type"] == "case" else {}
    return {**line, **{name: value for name, value in changed.items() if name not in kept}, **numbers}


def run_with(text: str, folder: Path) -> Run:
    """A run of a passed, a failed and a skipped case whose texts are all one text."""
    start = environment()
    for part, cls in FACTS.items():
        facts = {**start[part], "type": part}
        start[part] = {k: v for k, v in texts_set(facts, fields_of(cls), text).items() if k != "type"}
        start[part] |= {"settings": {}} if part == "identity" else {}
    lines = [texts_set(start, fields_of(LINES["environment"]), text)]
    lines.append(
        texts_set(
            {"type": "calibration", "schema": "2.0", **CALIBRATION}, fields_of(LINES["calibration"]), text
        )
    )
    for key, status in (
        ("s6", "passed"),
        ("s1", "failed"),
        ("own-collocated-tp1ep1-to-tp1ep1-gloo", "skipped"),
    ):
        line = (
            case_line(status=status, warm_ms=(30.0, 31.0))
            if status == "passed"
            else case_line(status=status, warm_ms=())
        )
        line["scenario"] = line["scenario"] if key == "s6" else key
        lines.append(texts_set(line, fields_of(LINES["case"]), text))
    path = folder / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(path)


class Structure(HTMLParser):
    """Tags with the names of their attributes; `values` has the attributes' values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.values: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}",))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_has_the_same_elements_whatever_the_texts_say(text: str, tmp_path: Path) -> None:
    found, wanted = (Structure(page([run_with(said, tmp_path)])) for said in (text, "plain"))
    assert found.tags == wanted.tags
    assert not [
        value for value in found.values if value.strip().lower().startswith(("javascript:", "data:text"))
    ]
    assert not HIDDEN.search(page([run_with(text, tmp_path)]))


def tokens(text: str) -> list[str]:
    """Types of the tokens of a Markdown text, inline ones too."""

    def flat(found: list[Token] | None) -> Iterator[str]:
        for token in found or ():
            yield token.type
            yield from (kind for kind in flat(token.children) if kind != "text_special")

    kinds = list(flat(READER.parse(text)))
    return [
        kind for kind, after in zip(kinds, [*kinds[1:], ""], strict=True) if (kind, after) != ("text", "text")
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_has_the_same_structure_whatever_the_texts_say(text: str, tmp_path: Path) -> None:
    runs = [run_with(text, tmp_path), run_with("plain", tmp_path)]
    pages = [markdown([run]) for run in runs]
    assert tokens(pages[0]) == tokens(pages[1])
    compared = [comparison_markdown(compare([run], [run])) for run in runs]
    assert tokens(compared[0]) == tokens(compared[1])
    assert not re.search(r"(?<!\\)://|www\.", pages[0] + compared[0])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_literal_shows_as_it_is(text: str) -> None:
    inline = READER.parse(literal(text))[1]
    assert "".join(token.content for token in inline.children or ()) == " ".join(text.split())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_shows_texts_and_obeys_none(text: str, tmp_path: Path) -> None:
    run = run_with(text, tmp_path)
    out = io.StringIO()
    console = Console(file=out, force_terminal=False, width=200)
    render(run.cases, console)
    print_comparison(compare([run], [run]), console)
    assert not HIDDEN.search(out.getvalue())
    if "[/b]" in text:
        assert "[/b]" in out.getvalue()
        assert ":bomb:" in out.getvalue()
