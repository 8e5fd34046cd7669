"""`python -m autovoice`."""

from autovoice.cli import main

if __name__ == "__main__":
    main()
