"""What stands under and beside the picture is whole at every width, and says no more than is known."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import Open

MODEL = """
import torch, weightlab
from torch import nn
torch.manual_seed(0)
model = nn.Module()
model.register_parameter("big", nn.Parameter(torch.randn(1500, 1100)))
with torch.no_grad():
    model.big[3, 3] = 1e6
lab = weightlab.Lab(model)
"""

CUT = """foot => [...foot.querySelectorAll('.wl-read, .wl-read > *')]
    .filter(each => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline')
    .map(each => each.className)"""


def test_the_read_out_is_whole_and_the_count_outside_the_range_is_exact(open_notebook: Open) -> None:
    live = open_notebook(MODEL, "lab")
    live.run_all()
    widget = live.widget()
    widget.open("big")
    for width in (480, 620, 900):
        widget.root.evaluate("(root, width) => { root.style.width = `${width}px`; }", width)
        widget.painted("big")
        widget.page.mouse.move(0, 0)
        widget.page.mouse.move(*widget.point_of("big", (200, 300)))
        expect(widget.root.locator(".wl-read")).to_contain_text("cells,")  # of the bin, and its range
        assert widget.root.locator(".wl-foot").evaluate(CUT) == [], width
        # It stands where the last rows are, unless they are pointed at.
        x, y = widget.point_of("big", (1490, 300))
        widget.page.mouse.move(x, y)
        expect(widget.readout).to_contain_text("[149")
        box = widget.root.locator(".wl-read").bounding_box()
        assert box is not None
        assert not box["y"] - 2 < y < box["y"] + box["height"] + 2, width
    # 99 % of the cells are inside; the histogram's bins are 15,000 wide, so that the kernel counts for the range.
    widget.root.get_by_label("Colour range").select_option("robust")
    expect(widget.root.locator(".wl-scale-bar")).to_have_attribute("data-high", re.compile(r"^\d\."))
    high = widget.root.locator(".wl-scale-bar").get_attribute("data-high")
    above = live.value(f"int((model.big > {high}).sum())")
    assert above > 1000
    expect(widget.root.locator(".wl-scale")).to_contain_text(re.compile(rf"(?<![\d,]){above:,} above"))
    expect(widget.root.locator(".wl-scale")).not_to_contain_text("at least")
