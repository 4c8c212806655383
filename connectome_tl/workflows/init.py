"""`connectome-tl init`: a study.yaml and a cohort.yaml to start from, with a word on every key."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.errors import OutputError
from connectome_tl.provenance import write_text

_PACKAGE = Path(__file__).parents[1]
EXAMPLES = ("study.yaml", "cohort.yaml")


def examples_folder() -> Path:
    """Where the commented examples lie: the installed copy, else the repository's configs."""
    packaged = _PACKAGE / "_packaged" / "configs" / "example"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "configs" / "example"


def write_examples(folder: Path) -> list[Path]:
    """Write the examples, never over a file that is there.

    Raises:
        OutputError: a file of that name exists.
    """
    for name in EXAMPLES:
        if (folder / name).exists():
            raise OutputError("this file exists already", file=folder / name, remedy="Give an empty folder.")
    return [write_text(folder / name, (examples_folder() / name).read_text("utf-8")) for name in EXAMPLES]
