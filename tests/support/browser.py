"""A browser for tests: Debian's Chromium, driven by playwright. In CI there must be one."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from toposieve_demo.airflow_home import USER, AirflowHome

__all__ = ["DARK", "LIGHT", "chromium", "expect", "log_in", "new_page"]

TIMEOUT_S = 30
DARK, LIGHT = re.compile(r"\bdark\b"), re.compile(r"^((?!dark).)*$")
"""Classes of a page's root by its theme."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; where there is none, the test is left out."""
    program = shutil.which("chromium")
    if program is None:
        remedy = "left out: install Chromium (Debian: apt-get install chromium), which this test drives"
        pytest.fail(remedy, pytrace=False) if os.environ.get("CI") else pytest.skip(remedy)
    expect.set_options(timeout=1000 * TIMEOUT_S)
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that a container's root lacks.
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


@contextmanager
def new_page(browser: Browser, theme: str) -> Iterator[Page]:
    """A page without a session, in Airflow's theme of this name; no script of our pages may fail.

    Airflow's own may: it asks for this and that while one leaves for another page.
    """
    context = browser.new_context(color_scheme=theme)
    context.set_default_timeout(1000 * TIMEOUT_S)
    context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"{error.stack}"))
    yield page
    context.close()
    ours = [problem for problem in problems if "/toposieve/" in problem]
    assert not ours, ours


def log_in(page: Page, home: AirflowHome) -> None:
    """Fill in the form of Airflow's login and return to where it was asked for."""
    page.fill("input[name=username]", USER)
    page.fill("input[name=password]", home.password)
    page.click("button[type=submit]")
