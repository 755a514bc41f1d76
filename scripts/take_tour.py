"""Takes the pictures of the README's tour: starts a sandbox company and Dagster, plays some nights, opens the pages.

    .venv/bin/python scripts/take_tour.py

Needs a Chromium (see sync_pipeline_tests/browser.py) and about three minutes; writes docs/tour/*.png anew.
"""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Page

from sync_pipeline.config.settings import sandbox_environment
from sync_pipeline_tests.browser import open_browser
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.dagster_process import Dagster, dagster_dev
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "tour"
SIZE = {"width": 1440, "height": 900}
PATIENCE_MS = 60_000
SETTLE_MS = 1_500
LARGEST_BYTES = 150_000
NIGHTS = 5
NIGHTLY_EDITS = 2
DAY = 86_400
COMPANY = ("--data", "company", "--accounts", "40")
# Rare looks: the edits of the day are left to the night, so that its certificate has something to tell.
RARELY = {"SYNC_POLL_SECONDS": "86400", "SYNC_LINGER_SECONDS": "1"}
PALETTE = """async ([png, most]) => {
  const picture = await createImageBitmap(await (await fetch("data:image/png;base64," + png)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const drawing = canvas.getContext("2d");
  drawing.drawImage(picture, 0, 0);
  const data = drawing.getImageData(0, 0, picture.width, picture.height).data;
  const pixels = new Uint32Array(data.length / 4), counts = new Map();
  for (let i = 0; i < pixels.length; i++) {
    const color = (data[4 * i] << 16) | (data[4 * i + 1] << 8) | data[4 * i + 2];
    pixels[i] = color;
    counts.set(color, (counts.get(color) || 0) + 1);
  }
  const palette = [...counts.entries()].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, most).map(each => each[0]);
  const nearest = new Map(palette.map((color, place) => [color, place]));
  for (const color of counts.keys()) {
    if (nearest.has(color)) continue;
    let best = 0, least = Infinity;
    palette.forEach((other, place) => {
      const [r, g, b] = [16, 8, 0].map(shift => ((color >> shift) & 255) - ((other >> shift) & 255));
      const apart = 2 * r * r + 4 * g * g + 3 * b * b;
      if (apart < least) [best, least] = [place, apart];
    });
    nearest.set(color, best);
  }
  let indices = "";
  for (let i = 0; i < pixels.length; i++) indices += String.fromCharCode(nearest.get(pixels[i]));
  return {width: picture.width, height: picture.height, palette, indices: btoa(indices)};
}"""


@dataclass(frozen=True)
class Picture:
    """A page of Dagster, the texts that must stand on it, and what is clicked before it is taken."""

    name: str
    path: str
    shows: tuple[str, ...]
    prepare: Callable[[Page], None] = lambda page: None


def pictures(explained: str) -> Iterator[Picture]:
    """The tour in its order. `explained` is a run of explain_value."""
    yield Picture("lineage", "/asset-groups", ("salesforce", "stripe", "snapshot", "mapping", "derived", "sync"))
    yield Picture("revenue", "/assets/derived/mrr_rollforward?view=events", ("months",), _open_the_plots)
    yield Picture("certificate", "/assets/sync/certificate?view=events", ("agreement", "summary"))
    yield Picture(
        "checks", "/assets/derived/account_ltv?view=checks", ("every_row_fits_its_schema",), _the_ledgers_check
    )
    yield Picture("launchpad", "/locations/sync_pipeline/jobs/resync_accounts/playground", ("Launch Run", "accounts"))
    yield Picture("explain", f"/runs/{explained}", ("answer_why",), _read_the_explanation)
    yield Picture("automation", "/automation", ("failed_runs_sensor", "freshness_sensor", "stuck_work_sensor"))


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, start_sandbox(*COMPANY) as sandbox:
        settings = {**sandbox_environment(sandbox.ready), "SYNC_HOME": str(Path(folder) / "sync"), **RARELY}
        with dagster_dev(Path(folder), settings) as dagster, open_browser() as browser:
            run = live(sandbox, dagster)
            with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
                page = context.new_page()
                for picture in pictures(run):
                    print(f"{picture.name}: {take(page, dagster.url, picture):,} bytes")
    return 0


def live(sandbox: SandboxHandle, dagster: Dagster) -> str:
    """Some days with edits in Salesforce, each with its night; then a value is explained, whose run is returned."""
    _night(sandbox, dagster)
    # Those that are billed now, so that what is put back is no zero.
    accounts = [each["Id"] for each in people.records(sandbox, "Account") if each.get("MRR__c")]
    for night in range(1, NIGHTS):
        for account in accounts[night * NIGHTLY_EDITS : (night + 1) * NIGHTLY_EDITS]:
            people.edit(sandbox, "Account", account, MRR__c=1 + night)
        _night(sandbox, dagster)
    return dagster.launch("explain_value", record=accounts[NIGHTLY_EDITS], field="MRR__c")


def _night(sandbox: SandboxHandle, dagster: Dagster) -> None:
    sandbox.control("POST", "/clock", {"advance_seconds": DAY})
    dagster.launch("reconcile")


def take(page: Page, url: str, picture: Picture) -> int:
    """Opens the page, waits for what it must show, and writes the picture with a palette; its size in bytes."""
    page.goto(url + picture.path)
    for text in picture.shows:
        page.get_by_text(text, exact=True).first.wait_for(timeout=PATIENCE_MS)
    picture.prepare(page)
    page.wait_for_timeout(SETTLE_MS)
    taken = base64.b64encode(page.screenshot()).decode()
    content = png(page.evaluate(PALETTE, [taken, 256]))
    assert len(content) <= LARGEST_BYTES, f"{picture.name} has {len(content):,} bytes"
    (FOLDER / f"{picture.name}.png").write_bytes(content)
    return len(content)


def png(image: Mapping[str, Any]) -> bytes:
    """An indexed PNG (w3.org/TR/png): one byte per pixel, the colours in PLTE."""
    width, height = image["width"], image["height"]
    indices = base64.b64decode(image["indices"])
    rows = b"".join(b"\0" + indices[at : at + width] for at in range(0, len(indices), width))
    colours = b"".join(color.to_bytes(3, "big") for color in image["palette"])
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _open_the_plots(page: Page) -> None:
    page.get_by_text("[Show Markdown]").first.click()
    plot = page.get_by_role("img", name="Recurring revenue")
    plot.wait_for(timeout=PATIENCE_MS)
    # The table below it is long, and the window opens at its end, where the button is.
    plot.evaluate("image => image.scrollIntoView({block: 'center'})")


def _the_ledgers_check(page: Page) -> None:
    page.get_by_text("ledger_and_lis", exact=False).first.click()
    page.get_by_text("Passed", exact=True).first.wait_for(timeout=PATIENCE_MS)


def _read_the_explanation(page: Page) -> None:
    page.get_by_text("[Show Markdown]").first.click()
    page.get_by_text("both systems agree", exact=False).first.wait_for(timeout=PATIENCE_MS)


if __name__ == "__main__":
    sys.exit(main())
