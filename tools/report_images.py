"""Makes the README's pictures of the HTML report, from the page of a build; needs Chromium.

edgecnn report artifacts/mnist_lenet5_int8 --html
python tools/report_images.py artifacts/mnist_lenet5_int8/report.html
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from report.html.browser import Browser, browser

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
# Pixels of the page, and of the picture.
PAGE_WIDTH, WIDTH = 1100, 820


def main(page: Path) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as opened:
        opened.open(page, width=PAGE_WIDTH, height=835)
        save(opened, "report-verdict.png", n_colors=40)
        opened.open(page, width=PAGE_WIDTH, height=880, scheme="dark")
        opened.run("scrollTo(0, document.querySelector('#quantization').offsetTop - 14)")
        save(opened, "report-quantization.png", n_colors=128)


def save(opened: Browser, name: str, n_colors: int) -> None:
    """What is seen, as a small PNG of few colours; those that are rare stay."""
    seen = Image.open(io.BytesIO(opened.picture())).convert("RGB")
    small = seen.resize((WIDTH, round(seen.height * WIDTH / seen.width)), Image.Resampling.LANCZOS)
    few = small.quantize(n_colors, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(IMAGES / name, optimize=True)
    print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
