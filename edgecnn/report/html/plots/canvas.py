"""What all plots share: their style, the figure that they are drawn on, and how it becomes SVG."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from edgecnn.errors import MissingExtraError
from edgecnn.report.html.svg import COLOR, TIP, embedded
from edgecnn.report.letters import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# CSS pixels: the width of a narrow screen. Wider ones enlarge the plot with its letters.
WIDTH = 410
# Letters of labels within a plot.
SMALL = 10.5
# So many of them fit beside one another.
ROW_LETTERS = 62
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgecnn",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.parse_math": False,
    "text.color": COLOR["ink"],
    "axes.edgecolor": COLOR["line"],
    "axes.labelcolor": COLOR["muted"],
    "axes.labelsize": 11,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOR["line"],
    "grid.linewidth": 1,
    "xtick.color": COLOR["line"],
    "ytick.color": COLOR["line"],
    "xtick.labelcolor": COLOR["muted"],
    "ytick.labelcolor": COLOR["muted"],
    "xtick.minor.size": 0,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "path.simplify": False,
    "lines.solid_capstyle": "round",
}


def require_library() -> None:
    """Raises MissingExtraError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", extra="report", needed_for="the HTML report")


class Canvas:
    """A figure of WIDTH x `height` pixels with one plot, and the texts of its tips."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        self.axes: Axes = self.figure.subplots()
        self.tips: dict[str, str] = {}

    def tip(self, artist: Any, text: str) -> None:
        """`text` is shown when `artist` is pointed at."""
        gid = f"{TIP}{len(self.tips)}"
        artist.set_gid(gid)
        self.tips[gid] = printable(text)

    def legend(self, handles: Sequence[Any], n_columns: int = 2) -> None:
        """What is what, below the plot."""
        self.figure.legend(
            handles=list(handles),
            loc="outside lower left",
            ncols=n_columns,
            handlelength=1.1,
            columnspacing=1.2,
        )


@contextmanager
def _drawing() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A class name may have letters that the measuring font lacks; the browser's font shows them.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def plot(draw: Callable[..., tuple[Canvas, str]]) -> Callable[..., Markup]:
    """A drawing function as one that gives SVG: its name and title come first, then what it draws."""

    def drawn(name: str, title: str, *arguments: Any, **options: Any) -> Markup:
        require_library()
        with _drawing():
            canvas, description = draw(*arguments, **options)
            return embedded(canvas.figure, name, title, description, canvas.tips)

    return drawn


def row_texts(axes: Axes, y: float, left: str, right: str) -> None:
    """A row's label at the left edge of the plot, its figures at the right one."""
    left, right = printable(left), printable(right)
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": SMALL}
    axes.text(0, y, shortened(left, ROW_LETTERS - len(right)), **place)
    axes.text(1, y, right, ha="right", color=COLOR["muted"], **place)


def patch(label: str, color: str, alpha: float = 1.0) -> Any:
    """A legend's handle for a filled area."""
    from matplotlib.patches import Patch

    return Patch(color=COLOR[color], alpha=alpha, label=label)


def mark(label: str, color: str, **options: Any) -> Any:
    """A legend's handle for a line or a marker."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=COLOR[color], label=label, **options)


def short(text: str) -> str:
    """A figure of an axis without needless zeros: "30.0 kB" -> "30 kB"."""
    return text.replace(".00 ", " ").replace(".0 ", " ")


def log_axis(axes: Axes, told: Callable[[float], str]) -> None:
    """Ticks of a logarithmic x axis at round numbers, as many as its range needs, as `told` says them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 30 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(told(value))))
