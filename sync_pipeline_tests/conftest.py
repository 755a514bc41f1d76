"""What holds for every test: no settings from outside, a browser page, Stripe's contract, the run without skips."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, Page

from sync_pipeline_tests.browser import ChromiumMissingError, open_browser

CONTRACT = Path(__file__).resolve().parents[2] / "shared" / "contract"


# What could point a test at a real account, or at another installation of this one.
SETTINGS = ("SYNC_", "SALESFORCE_", "STRIPE_", "DAGSTER_")


def pytest_configure() -> None:
    """Tests see no setting of the person who runs them, reach nothing but loopback, and race no clock."""
    for name in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
    # How fast a busy machine runs one example is no property of the product.
    settings.register_profile("no-clocks", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
    settings.load_profile("no-clocks")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--no-skips` is for CI, where everything that a test could miss is installed."""
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a skipped test is a failed test, except where Stripe's contract files are absent (marker `contract`)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under `--no-skips`, turn the skip of a test into its failure."""
    report = yield
    excused = hasattr(report, "wasxfail") or (item.get_closest_marker("contract") and not CONTRACT.is_dir())
    if not excused:
        _refuse_skip(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Under `--no-skips`, turn the skip of a whole module into an error."""
    report = yield
    _refuse_skip(collector.config, report)
    return report


def _refuse_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and config.getoption("--no-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: this run allows no skips. {reason}"


@pytest.fixture(autouse=True)
def _contract_is_there(request: pytest.FixtureRequest) -> None:
    """Skip a test marked `contract` where the contract is absent, before it does anything."""
    if request.node.get_closest_marker("contract") and not CONTRACT.is_dir():
        pytest.skip(f"Stripe's contract files are not at {CONTRACT}; they are not part of this repository")


@pytest.fixture(scope="session")
def contract() -> Path:
    """The folder with Stripe's OpenAPI document. Tests that take it carry `@pytest.mark.contract`."""
    return CONTRACT


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Its driver leaves an event loop running, which other modules' tests must not meet."""
    try:
        with open_browser() as chromium:
            yield chromium
    except ChromiumMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page with no cookies. A script error on it fails the test."""
    with browser.new_context(viewport={"width": 1600, "height": 1000}) as context:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        assert not errors, f"script errors on {page.url}: {errors}"
