"""The README's tour: its pictures are there, small, and those that the script takes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_BYTES = 150_000
MOST_PICTURES = 8


def test_the_readme_shows_what_the_script_takes_and_the_pictures_are_small() -> None:
    shown = re.findall(r"\(docs/tour/(\w+)\.png\)", (ROOT / "README.md").read_text("utf-8"))
    taken = re.findall(r'Picture\(\s*"(\w+)"', (ROOT / "scripts" / "take_tour.py").read_text("utf-8"))
    there = {path.stem: path.stat().st_size for path in (ROOT / "docs" / "tour").iterdir()}
    assert shown == taken, "in the order of the tour"
    assert set(there) == set(shown)
    assert len(there) < MOST_PICTURES
    assert max(there.values()) <= LARGEST_BYTES
