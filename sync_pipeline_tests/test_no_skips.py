"""The run for CI: under --no-skips, what would be passed over in silence elsewhere fails by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `source` as a test module under the settings and the hooks of this suite."""
    module = folder / "test_sample.py"
    module.write_text(source, encoding="utf-8")
    # CI hands its own --no-skips down to every pytest; these runs choose for themselves.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    settings = ["-c", str(ROOT / "setup.cfg"), "-p", "sync_pipeline_tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *options, str(module)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_it(): pytest.skip('no server here')",
        "import pytest\n@pytest.mark.skip(reason='no server here')\ndef test_it(): ...",
        "import pytest\npytest.skip('no server here', allow_module_level=True)\ndef test_it(): ...",
        "import pytest\n@pytest.fixture\ndef server(): pytest.skip('no server here')\ndef test_it(server): ...",
    ],
    ids=["call", "mark", "module", "fixture"],
)
def test_a_skip_is_a_failure_that_names_its_reason(tmp_path: Path, source: str) -> None:
    assert run(tmp_path, f"{source}\ndef test_other(): ...").returncode in (0, 5)
    refused = run(tmp_path, source, "--no-skips")
    assert refused.returncode != 0
    assert "no server here" in refused.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it(): assert False"
    done = run(tmp_path, source, "--no-skips")
    assert done.returncode == 0, done.stdout
