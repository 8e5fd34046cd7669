"""Builds that are killed: nothing is lost, the next run completes, the published folder loads at every moment.

    python -m tests.campaigns.kills --count 1000 --seed 0          kills at random moments
    python -m tests.campaigns.kills --operations all               a kill at every file operation, for each scenario
    python -m tests.campaigns.kills --operations 40 --seed 0       at some of them

Every round changes the project, so that the build has something to do and to publish over what was published before.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from tests.campaigns.kill_moments import random_kills
from tests.campaigns.kill_operations import SCENARIOS, operation_kills
from tests.campaigns.tally import Tally, held, parser


def main() -> int:
    options = _parser().parse_args()
    return held(lambda root: _campaigns(root, options))


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__, 0)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--operations", help="strike at so many file operations, or at all")
    made.add_argument("--last", type=int, help="only of the last so many operations: publishing comes at the end")
    made.add_argument("--scenario", choices=SCENARIOS)
    made.add_argument("--whom", choices=("self", "group"))
    return made


def _campaigns(root: Path, options: argparse.Namespace) -> Iterator[Tally]:
    if options.count:
        yield random_kills(root, options)
    if options.operations is None:
        return
    for scenario in [options.scenario] if options.scenario else SCENARIOS:
        for whom in [options.whom] if options.whom else ("group", "self"):
            yield operation_kills(root, scenario, whom, options)


if __name__ == "__main__":
    raise SystemExit(main())
