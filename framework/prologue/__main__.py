"""``python -m prologue`` is the command ``prologue``."""

from prologue.cli import main

main()
