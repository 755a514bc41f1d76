"""How much longer `import sync_pipeline.definitions` takes than `import dagster`, which every run has to pay anyway.

Each of the fresh interpreters imports Dagster first and then the definitions, so that both see the same machine.

    .venv/bin/python benchmarks/definitions_import.py [PROCESSES]

Exit code 1 when the median ratio is above the bar.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

BAR = 1.3
PROCESSES = 9
PROGRAM = """
import time
began = time.perf_counter()
import dagster
dagster_loaded = time.perf_counter()
import sync_pipeline.definitions
sync_pipeline.definitions.defs()
print(dagster_loaded - began, time.perf_counter() - began)
"""


def measure() -> tuple[float, float]:
    """Seconds for Dagster alone, and for Dagster with the definitions, in one fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    alone, together = map(float, done.stdout.split())
    return alone, together


def main() -> int:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else PROCESSES
    measure()
    found = [measure() for _ in range(processes)]
    ratio = statistics.median(together / alone for alone, together in found)
    alone, together = (statistics.median(times) for times in zip(*found, strict=True))
    print(f"import dagster                    {alone:.3f} s (median of {processes})")
    print(f"with sync_pipeline.definitions    {together:.3f} s")
    print(f"ratio                             {ratio:.2f} (bar {BAR})")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
