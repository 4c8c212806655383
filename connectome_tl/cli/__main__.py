"""Entry point of `python -m connectome_tl.cli`."""

from connectome_tl.cli import main

main()
