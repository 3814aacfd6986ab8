"""Figures as SVG and PNG files, and within pages; no display is needed, and the same figure has the same bytes."""

import io
import re
from pathlib import Path

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fxnorm.io.files import whole_file

WIDTH_INCHES, DOTS_PER_INCH = 6.4, 156.25
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999")
"""Okabe and Ito's (2008), which colour-blind readers can tell apart."""

_GRID = "#e0e0e0"
_LONGEST_LABEL = 28  # characters, of which three fit side by side


def prepare_axes(axes: Axes) -> None:
    """A light grid behind the lines, and no frame above and on the right."""
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def write(figure: Figure, path: Path, legend_of: Axes | None = None) -> None:
    """A PNG file, or an SVG file whose ink is ``currentColor``: black by itself, the text's colour within a page."""
    if legend_of is not None:
        handles, labels = legend_of.get_legend_handles_labels()
        columns = min(3 if max(map(len, labels)) <= _LONGEST_LABEL else 2, len(labels))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize="small")
    FigureCanvasAgg(figure)
    with whole_file(path) as temporary:
        if path.suffix.lower() == ".svg":
            temporary.write_text(svg(figure), encoding="utf-8")
        else:
            # without the version of matplotlib, which would change the bytes
            figure.savefig(temporary, format="png", metadata={"Software": None})


def svg(figure: Figure) -> str:
    """A figure as the text of an SVG file, whose ink is ``currentColor``; the same bytes for the same figure."""
    buffer = io.StringIO()
    # text stays text, in the page's font; the salt makes the names within the file the same each time
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fxnorm"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text.replace("<svg ", '<svg fill="currentColor" ', 1).replace("#000000", "currentColor")
    text = text.replace(f"stroke: {_GRID}", "stroke: currentColor; stroke-opacity: 0.15")
    return re.sub(r"(\d\.\d\d)\d+", r"\1", text)  # a hundredth of a point is finer than any screen


def inline(text: str, prefix: str) -> Markup:
    """The SVG element of a file that :func:`write` or :func:`svg` made, its names made unique in the page."""
    text = text[text.index("<svg ") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)  # a style would hold for the whole page
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", text)
    return Markup(text)
