"""A self-contained HTML page: one file that needs no network, to be opened anywhere and sent on."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 130
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Picture:
    """A figure as it is written: its file's name, its PNG, and what it shows."""

    name: str
    png: bytes
    caption: str

    @classmethod
    def of(cls, name: str, figure: Figure, caption: str) -> Picture:
        """Draw a figure; `name` has no ending."""
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=_DPI)
        return cls(f"{name}.png", stream.getvalue(), caption)

    def html(self) -> str:
        """Return it as part of a page, its caption below it."""
        data = base64.b64encode(self.png).decode()
        name, caption = escape(self.name.removesuffix(".png")), escape(self.caption)
        return (
            f'<figure id="{name}"><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )


def whole_page(title: str, lead: str, body: Iterable[str], script: str = "") -> str:
    """Return a page.

    Parameters
    ----------
    title : str
        As text.
    lead : str
        HTML below the title.
    body : iterable of str
        HTML of the page's sections.
    script : str
        What the page does when it is used.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<header><h1>{escape(title)}</h1>{lead}</header>",
            *body,
            *([f"<script>{script}</script>"] if script else []),
            "</body></html>",
        ]
    )


_STYLE = """
:root { --ink: #1d2733; --soft: #5b6875; --line: #dfe5ea; --blue: #0b5fa5; --pale: #f4f7fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.4rem 4rem; max-width: 1400px; color: var(--ink);
  background: #fff; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.6rem 0 .6rem; font-size: 1.25rem; border-bottom: 2px solid var(--line);
  padding-bottom: .3rem; overflow-wrap: anywhere; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1.02rem; }
p { margin: .5rem 0; max-width: 75ch; }
.soft { color: var(--soft); }
.lead { font-size: 1.08rem; }
ul.notes { margin: 1.2rem 0; padding: .7rem 1rem .7rem 2rem; background: #fff8e6;
  border-left: 4px solid #e0a800; border-radius: 3px; }
ul.notes li { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .6rem; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { position: sticky; top: 0; background: var(--pale); }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:hover, th button:focus-visible { color: var(--blue); text-decoration: underline; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
td.number, th.number { text-align: right; }
td.cause { white-space: normal; min-width: 16rem; }
tbody tr:hover { background: var(--pale); }
tr.best td { font-weight: 600; background: #eef6ec; }
tr.unranked td { color: var(--soft); }
figure { margin: 1.3rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 85ch; margin-top: .3rem; }
code { font-size: .88em; background: var(--pale); padding: .05rem .25rem; border-radius: 3px;
  overflow-wrap: anywhere; }
@media print { th { position: static; } body { max-width: none; } }
"""
