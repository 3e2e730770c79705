"""The challenges of the lessons: an untouched answer is asked for, the folded solution is right, another one gets a hint."""

import contextlib
import io
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# One wrong answer for each challenge, in their order.
WRONG = {
    "04_gradient_flow": [
        *(
            "bias = -1",
            "units = [0, 2]",
            "z = 3",
            'cuts = "ab"',
            'names = ["conv2.weight"]',
            'kinds = {"frozen", "dead_relu"}',
        ),
    ],
    "05_debugging_initialization": [
        *('name = "fc2.weight"', "pairs = [(3, 40), (1, 2)]", "sigma = 0.02", "share = 1.7e-8", 'letter = "a"'),
    ],
}


def said(source, scope):
    """What a cell prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(source, scope)
    return printed.getvalue().strip()


@pytest.mark.parametrize("lesson", WRONG)
def test_a_challenge_asks_knows_the_solution_and_helps_with_another_answer(lesson, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    cells = json.loads((NOTEBOOKS / f"{lesson}.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    scope, wrong, threads = {}, iter(WRONG[lesson]), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for place, (cell, source) in enumerate(zip(cells, sources, strict=True)):
            if cell["cell_type"] != "code":
                continue
            if "challenge" not in cell["metadata"].get("tags", ()):
                said(source, scope)
                continue
            assert said(source, scope).startswith("Not answered yet. ")
            asks = source.partition("\n\n")[2]
            hint = said(f"{next(wrong)}\n\n{asks}", scope)
            assert hint.endswith((".", "?", "`")), hint
            assert not hint.startswith(("Right", "Not answered")), hint
            (solution,) = re.findall(r"```python\n(.*?)```", sources[place + 1], re.DOTALL)
            assert said(f"{solution}\n\n{asks}", scope).startswith("Right"), f"{lesson}: {solution}"
    finally:
        torch.set_num_threads(threads)
    assert next(wrong, None) is None
