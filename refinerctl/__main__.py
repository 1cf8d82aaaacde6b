"""`python -m refinerctl`."""

from refinerctl.cli import main

if __name__ == "__main__":
    main()
