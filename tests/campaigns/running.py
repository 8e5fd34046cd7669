"""A few rounds of a campaign, as a test: in a process of its own, because campaigns fork."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def held(campaign: str, *arguments: str) -> str:
    """The report of a campaign in which nothing failed."""
    command = [sys.executable, "-m", f"tests.campaigns.{campaign}", *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout
