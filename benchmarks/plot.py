"""Horizontal bars, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bar_chart"]

_LABEL, _WIDTH, _ROW, _TITLE = 240, 460, 20, 34
_OURS, _THEIRS = "#1f77b4", "#9aa5b1"


def bar_chart(charts: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """One picture with a block for each chart: its title, and a bar for each name, longest first.

    What belongs to this project (names with ``feed``) has a colour of its own.
    """
    parts: list[str] = []
    y = 0
    for title, values in charts:
        parts.append(f'<text x="0" y="{y + 20}" font-weight="bold">{escape(title)}</text>')
        y += _TITLE
        longest = max(values.values()) or 1
        for name, value in sorted(values.items(), key=lambda item: -item[1]):
            width = max(1, round(_WIDTH * value / longest))
            colour = _OURS if "feed" in name else _THEIRS
            parts += [
                f'<text x="{_LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{_LABEL}" y="{y + 2}" width="{width}" height="15" fill="{colour}"/>',
                f'<text x="{_LABEL + width + 6}" y="{y + 14}">{value:,.0f}</text>',
            ]
            y += _ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="{y + 10}"'
            ' font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )
