"""One browser for all tests of the page; they are skipped where Chromium is not installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from report.html.browser import CHROMIUM, DRIVER, Browser, browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    pytest.importorskip("selenium")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
