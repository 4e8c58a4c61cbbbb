"""What a reader of the page gets, section by section: headings, tables, labels of figures, ticks of axes."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = ("meta", "link", "br")
TEXTS = ("h1", "h2", "h3", "h4", "caption", "th", "td", "text", "summary", "dt", "dd", "a")


@dataclass
class Section:
    """A `section` of the page; `tables`: caption and rows of cells, the header first."""

    headings: list[str] = field(default_factory=list)
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    ticks: list[str] = field(default_factory=list)

    def table(self, caption: str, nth: int = 0) -> list[list[str]]:
        """The rows of the nth table with a caption."""
        return [rows for title, rows in self.tables if title == caption][nth]


class PageReader(HTMLParser):
    """Reads a page into `sections` by id; what stands before the first is in `sections[""]`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[str, Section] = {"": Section()}
        self._here = self.sections[""]
        self._words: list[list[str]] = []
        self._rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a section, a table, a row or a text."""
        attributes = {name: value or "" for name, value in attrs}
        if tag == "section":
            self._here = self.sections[attributes["id"]] = Section()
        if tag == "svg" and (label := attributes.get("aria-label")):
            self._here.figures.append(label)
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in TEXTS:
            self._words.append([])

    def handle_data(self, data: str) -> None:
        """Add to every text that is open."""
        for words in self._words:
            words += data.split()

    def handle_endtag(self, tag: str) -> None:
        """Keep the text that ends here."""
        if tag not in TEXTS:
            return
        text = " ".join(self._words.pop())
        if tag in ("h1", "h2", "h3", "h4"):
            self._here.headings.append(text)
        elif tag == "caption":
            self._here.tables.append((text, self._rows))
        elif tag in ("th", "td"):
            self._rows[-1].append(text)
        elif tag == "text":
            self._here.ticks.append(text)
