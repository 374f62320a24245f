"""The report of a sweep, as a browser shows it on light and dark screens."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from handbook.pictures.curve import RUNS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCHEMES = {"light": "1", "dark": "0"}
"""Preferred colour scheme, as Chromium numbers it."""


def shoot(folder: Path) -> None:
    """Take `report_light.png` and `report_dark.png` of the report that `curve` leaves.

    Raises:
        SystemExit: If there is no report, or no Chromium.
    """
    page = RUNS / "picture_curve" / "report.html"
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not page.exists():
        raise SystemExit("report: there is none yet; draw the picture `curve` first")
    if browser is None:
        raise SystemExit(f"report: needs one of {', '.join(BROWSERS)}")
    for scheme, number in SCHEMES.items():
        target = folder / f"report_{scheme}.png"
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--window-size=1100,900", f"--blink-settings=preferredColorScheme={number}",
            f"--screenshot={target}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
