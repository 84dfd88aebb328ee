"""Style and script of the page: inline, so that it is one file that needs no network."""

from __future__ import annotations

STYLE = """
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
.bar { display: inline-block; height: .7rem; background: var(--blue); border-radius: 2px; }
figure { margin: 1.3rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 85ch; margin-top: .3rem; }
code { font-size: .88em; background: var(--pale); padding: .05rem .25rem; border-radius: 3px;
  overflow-wrap: anywhere; }
@media print { th { position: static; } body { max-width: none; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value;
    const compare = (a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const numbers = [Number(key(a)), Number(key(b))];
      const order = numbers.some(Number.isNaN)
        ? key(a).localeCompare(key(b)) : numbers[0] - numbers[1];
      return down ? -order : order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
"""
