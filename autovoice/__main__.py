"""The console script: signals are caught before anything heavy is imported."""

from __future__ import annotations

from autovoice.execution import interrupts


def main() -> None:
    """See `autovoice.cli.main`."""
    interrupts.end_at_once()
    from autovoice import cli

    cli.main()


if __name__ == "__main__":
    main()
