"""How the notebooks show figures and tables: on GitHub, in JupyterLab, on the web page and as plain text."""

import io
from collections.abc import Callable
from numbers import Integral

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from ..experiment import PROTOCOLS
from ..files import output_root, replacing
from ..progress import has_page

__all__ = ["Sentences", "Table", "say", "show_figure", "show_slider", "show_table"]

# Without the day and the version of matplotlib: the same figure is the same file each time.
METADATA = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}


def show_figure(figure: Figure, alt: str, name: str | None = None) -> None:
    """Shows a figure, and closes it.

    Args:
        alt: its alternative text, what someone who does not see the figure should know.
        name: to write it as figures/<name>.png (200 dpi) and .svg under the output root; None = it is not written.
    """
    if name is not None:
        for kind, metadata in METADATA.items():
            with replacing(output_root() / "figures" / f"{name}.{kind}") as file:
                figure.savefig(file, format=kind, metadata=metadata)
    plt.close(figure)
    display(figure, metadata={"image/png": {"alt": alt}})


def show_slider(draw: Callable[[float, str], Figure], sparsity: float, schemes: tuple[str, ...], alt: str) -> None:
    """Shows ``draw(sparsity, scheme)`` under a slider and buttons that redraw it; where no page is open on the kernel
    (GitHub, the web page, papermill, nbval), the figure alone.

    Args:
        sparsity, schemes: what it starts with, the first of the schemes; the slider goes from 0 to 0.95.
    """
    if not has_page():
        show_figure(draw(sparsity, schemes[0]), alt)
        return
    slider = widgets.FloatSlider(
        sparsity, min=0, max=0.95, step=0.05, readout_format=".0%", description="missing", continuous_update=False
    )
    buttons = widgets.ToggleButtons(options=schemes, description="scheme")
    picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))

    def redraw(_: object = None) -> None:
        figure, file = draw(slider.value, buttons.value), io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
        plt.close(figure)
        picture.value = file.getvalue()

    slider.observe(redraw, "value")
    buttons.observe(redraw, "value")
    redraw()
    display(widgets.VBox([slider, buttons, picture]))


def say(markdown: str) -> None:
    """Shows sentences whose numbers the code put there, as Markdown."""
    display(Sentences(markdown))


class Sentences:
    """Markdown that is also readable as text."""

    def __init__(self, markdown: str) -> None:
        self.markdown = markdown

    def __repr__(self) -> str:
        return self.markdown

    def _repr_markdown_(self) -> str:
        return self.markdown


def show_table(frame: pd.DataFrame, name: str, caption: str = "", digits: int = 2) -> None:
    """Shows a frame as a :class:`Table`."""
    display(Table(frame, name, caption, digits))


class Table:
    """A frame of words: sparsities as percentages, other numbers rounded, nothing for NaN.

    Its HTML is the same each time, for nbval to compare. ``name`` is the table's id, different from every other on its
    page. An index without names is left out where it only counts the rows.
    """

    def __init__(self, frame: pd.DataFrame, name: str, caption: str = "", digits: int = 2) -> None:
        self.name, self.caption = name, caption
        self.has_index = not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None)
        words = pd.DataFrame(
            {
                number: [_word(value, frame.columns[number], digits) for value in frame.iloc[:, number]]
                for number in range(frame.shape[1])
            },
            index=_header(frame.index, digits),
        )
        words.columns = _header(frame.columns, digits)
        self.words = words

    def __repr__(self) -> str:
        text = self.words.to_string(index=self.has_index) if len(self.words) else "(none)"
        return f"{self.caption}\n{text}" if self.caption else text

    def _repr_html_(self) -> str:
        if not len(self.words):
            return f"<p><b>{self.caption}</b> (none)</p>"
        quoted = [f".row{place}" for place, name in enumerate(self.words.index) if "published" in str(name)]
        quoted += [f".col{place}" for place, name in enumerate(self.words.columns) if "published" in str(name)]
        styles = {
            "caption": "caption-side: top; text-align: left; font-weight: bold",
            "td, th.col_heading": "text-align: right; white-space: nowrap",
            "th.row_heading, th.index_name": "text-align: left; white-space: nowrap",
            **{selector: "font-style: italic; opacity: 0.65" for selector in quoted},  # told apart in light and in dark
        }
        styler = (
            self.words.style.set_uuid(self.name)
            .set_table_attributes('class="dataframe"')  # as pages know frames
            .set_caption(self.caption)
            .set_table_styles([{"selector": selector, "props": props} for selector, props in styles.items()])
        )
        if not self.has_index:
            styler = styler.hide(axis="index")
        return styler.to_html()


def _word(value: object, name: object, digits: int) -> str:
    """``name``: of the column or level that the value stands in."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value != value:
        return ""
    if isinstance(value, Integral):
        return f"{value:,}"
    if isinstance(value, float):
        if name in ("sparsity", "train_sparsity", "test_sparsity"):
            return f"{100 * value:g}%"
        return f"{value:g}" if name in ("learning_rate", "weight_decay") else f"{value:.{digits}f}"
    return str(value)


def _header(index: pd.Index, digits: int) -> pd.Index:
    """The same labels as words, and names with spaces."""

    def label(text: str) -> str:
        return text if text in PROTOCOLS else text.replace("_", " ").replace("ci95", "± (95%)")

    levels = [
        [label(_word(value, name, digits)) for value in index.get_level_values(number)]
        for number, name in enumerate(index.names)
    ]
    names = [None if name is None else label(name) for name in index.names]
    if index.nlevels == 1:
        return pd.Index(levels[0], name=names[0])
    return pd.MultiIndex.from_arrays(levels, names=names)
