"""The lessons of notebooks/02_editing_weights.ipynb in a live page: their own lines, some of them done by hand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat

from tests.browser.live import LiveNotebook, Widget

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "02_editing_weights.ipynb"
HEADING = re.compile(r"^##+ (\d+|[A-E])\. ", re.MULTILINE)
# A cell that shows a widget and does nothing else.
SHOWN = "# NBVAL_IGNORE_OUTPUT\n{}"
SHOWS = re.compile(SHOWN.format(r"\w+"))
# NaN and -0.0 count: bytes.
READ = "{{name: tensor.reshape(-1).view(torch.uint8).numpy().tobytes() for name, tensor in {}.state_dict().items()}}"


def _cells() -> list[tuple[str, str, str]]:
    """Lesson, kind and source of each cell."""
    found, lesson = [], "setup"
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "markdown" and (heading := HEADING.search(cell.source)):
            lesson = heading[1]
        found.append((lesson, cell.cell_type, cell.source))
    return found


CELLS = _cells()
CODE = [source for _, kind, source in CELLS if kind == "code"]
LESSON_OF_CODE = [lesson for lesson, kind, _ in CELLS if kind == "code"]


def said(lesson: str) -> str:
    """What the lesson says under "With the mouse"."""
    texts = [source for number, kind, source in CELLS if number == lesson and kind == "markdown"]
    return "\n".join(text.partition("**With the mouse:**")[2] for text in texts).replace("\n", " ").strip()


def lines(lesson: str) -> list[str]:
    """The statements of a lesson, but for those that show its widget."""
    found = []
    for source, number in zip(CODE, LESSON_OF_CODE, strict=True):
        if number != lesson or SHOWS.fullmatch(source):
            continue
        rows = source.splitlines()
        for line in ast.parse(source).body:
            decorated = [each.lineno for each in getattr(line, "decorator_list", [])]
            found.append("\n".join(rows[min([line.lineno, *decorated]) - 1 : line.end_lineno]))
    return found


class Lesson:
    """A lesson whose Python runs in the kernel, but for the lines that are done by hand.

    Args:
        live: a notebook of the cells `CODE`.
        number: of the lesson.
        after: lessons whose names it uses.
        model: name of the model that it changes.
        lab: name of the Lab over it.
    """

    def __init__(self, live: LiveNotebook, number: str, *after: str, model: str = "net", lab: str = "lab") -> None:
        self.live, self.model = live, model
        before = [line for lesson in ("setup", *after) for line in lines(lesson)]
        self.left = lines(number)
        last = max(at for at, lesson in enumerate(LESSON_OF_CODE) if lesson == number)
        self.shown_by = max(at for at in range(last + 1) if CODE[at] == SHOWN.format(lab))
        # The same lines, all by Python, under other names: what is done by hand must come to the same bytes.
        live.kernel(f"twin = {{'__name__': 'twin'}}\nexec({chr(10).join([*before, *self.left])!r}, twin)")
        live.kernel("\n".join(before))

    def by_hand(self, line: str) -> None:
        """Run the lines before the one that begins so, and leave that one to the mouse."""
        at = next(at for at, each in enumerate(self.left) if each.startswith(line))
        self.live.kernel("\n".join(self.left[:at]))
        self.left = self.left[at + 1 :]

    def rest(self) -> None:
        """Run the lines that are left, with what they assert."""
        self.live.kernel("\n".join(self.left))
        self.left = []

    def widget(self) -> Widget:
        """The widget that the lesson shows."""
        self.live.run_cell(self.shown_by)
        return self.live.widget()

    def as_by_python(self) -> bool:
        """Whether the model has the bytes that the lesson's Python gives."""
        mine = READ.format(self.model)
        theirs = READ.format(f"twin[{self.model!r}]")
        return bool(self.live.value(f"{mine} == {theirs}"))
