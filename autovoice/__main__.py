"""`python -m autovoice`."""

from autovoice.start import main

if __name__ == "__main__":
    main()
