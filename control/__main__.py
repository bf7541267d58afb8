"""`python -m control` is the command `opscenter`."""

from control.cli import main

main()
