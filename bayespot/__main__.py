"""``python -m bayespot`` is the command line."""

from bayespot.cli import main

main()
