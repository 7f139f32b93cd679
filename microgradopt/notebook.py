"""HTML for notebooks: tables, text and folded code.

It has no colours of its own, so it can be read in light and in dark themes. All text is escaped: names are the user's.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

_MOST = 100  # rows that are shown


def shown(*parts: str) -> str:
    """All parts of what a notebook shows."""
    # Notebooks read "$" as mathematics, except inside of these two classes.
    return '<div class="tex2jax_ignore mathjax_ignore">' + "".join(parts) + "</div>"


def table(caption: str, rows: Iterable[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """A table. The first cell of a row is its heading. Of more than 100 rows the first are shown, and their number."""
    listed = list(rows)
    title = f'<caption style="text-align: left"><b>{html.escape(caption)}</b></caption>'
    lines = [_row(cells) for cells in listed[:_MOST]]
    if columns:
        lines.insert(0, "<tr>" + "".join(_cell("th", column) for column in columns) + "</tr>")
    if len(listed) > _MOST:
        lines.append(_row([f"and {len(listed) - _MOST:,} more"]))
    return f"<table>{title}{''.join(lines)}</table>"


def _row(cells: Sequence[object]) -> str:
    return "<tr>" + _cell("th", cells[0]) + "".join(_cell("td", cell) for cell in cells[1:]) + "</tr>"


def _cell(tag: str, content: object) -> str:
    return f'<{tag} style="text-align: left">{html.escape(str(content))}</{tag}>'


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(text)}</p>"


def folded(summary: str, code: str) -> str:
    """Code that is seen after a click on the summary."""
    return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(code)}</pre></details>"


def image(figure: Any, description: str) -> str:
    """A matplotlib figure, as a small picture inside of the page. The figure is closed."""
    data = io.BytesIO()
    figure.set_size_inches(4.5, 3)
    figure.savefig(data, format="png", dpi=90, bbox_inches="tight")
    figure.clear()
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'
