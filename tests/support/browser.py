"""A real browser without a window, and what it finds on a page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here: apt-get install chromium"
)
_PROBE = """
<script>
addEventListener("load", () => {
  const probe = {
    figures: [...document.querySelectorAll("figure")].map(figure => {
      const image = figure.querySelector("img"), box = image.getBoundingClientRect();
      const caption = figure.querySelector("figcaption").textContent;
      return [figure.id, image.complete, image.naturalWidth, box.width, box.height, caption];
    }),
    heading: document.querySelector("h1").textContent,
    text: document.body.innerText,
    bold: document.querySelectorAll("h1 b").length,
    asked: performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 5)),
    overflow: document.documentElement.scrollWidth - innerWidth,
    MORE
  };
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(probe);
  document.body.append(out);
});
</script>
"""


def open_page(page: str, folder: Path, more: str = "") -> dict[str, Any]:
    """Open a page in a browser; return what it shows, once it is known to need nothing else.

    Parameters
    ----------
    page : str
        Its HTML.
    folder : Path
        For the browser's files.
    more : str
        Further fields of what is returned, in JavaScript.
    """
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
    probed = folder / "probed.html"
    probed.write_text(page.replace("</body>", _PROBE.replace("MORE", more) + "</body>"))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    command += ["--window-size=1280,1000", probed.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = re.search(r'<pre id="probe">(.*?)</pre>', result.stdout, re.S)
    assert found, result.stderr[-2000:]
    probe = json.loads(unescape(found[1]))
    for name, complete, natural, width, height, caption in probe["figures"]:
        assert complete, name
        assert natural > 400, name
        assert width > 400, name
        assert height > 100, name
        assert len(caption) > 40, name
    assert set(probe["asked"]) <= {"data:"}
    assert probe["overflow"] <= 0
    return probe
