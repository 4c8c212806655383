"""`connectome-tl init`: commented settings of every command to start from."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.errors import OutputError
from connectome_tl.provenance import write_text

_PACKAGE = Path(__file__).parents[2]
EXAMPLES = (
    "example/study.yaml",
    "example/cohort.yaml",
    "example/older.yaml",
    "example/neonates.yaml",
    "connectomes.yaml",
    "morphometry.yaml",
)


def configs_folder() -> Path:
    """Folder of the commented examples: the installed copy, else the repository's configs."""
    packaged = _PACKAGE / "_packaged" / "configs"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "configs"


def write_examples(folder: Path) -> list[Path]:
    """Write the examples without overwriting files.

    Raises:
        OutputError: a file of that name exists.
    """
    wanted = {folder / Path(name).name: configs_folder() / name for name in EXAMPLES}
    for target in wanted:
        if target.exists():
            raise OutputError("this file exists already", file=target, remedy="Give an empty folder.")
    return [write_text(target, source.read_text("utf-8")) for target, source in wanted.items()]
