"""Read an SPSS file with pyreadstat in a separate process: a damaged file may crash this library."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_MOST_SECONDS = 600


def read_spss(path: Path, most_cells: int) -> dict[str, Any]:
    """Cells of an SPSS file as text.

    Returns:
        `size`, (n_rows, n_columns); unless the table is too large, `names` of the columns, the `rows`, and the columns
        that are `labelled`.

    Raises:
        ModuleNotFoundError: pyreadstat is not installed. ValueError: the file cannot be read.
    """
    if find_spec("pyreadstat") is None:
        raise ModuleNotFoundError("pyreadstat", name="pyreadstat")
    command = [sys.executable, "-P", "-m", __name__, str(path), str(most_cells)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_MOST_SECONDS)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ValueError(said[-1] if done.returncode > 0 and said else "damaged")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _answer(path: str, most_cells: int) -> dict[str, Any]:
    import pyreadstat  # type: ignore[import-not-found,import-untyped,unused-ignore]

    from connectome_tl.cohort.tables.frames import cells_of

    _, about = pyreadstat.read_sav(path, metadataonly=True)
    size = (about.number_rows or 0, about.number_columns or 0)
    if size[0] * size[1] > most_cells:
        return {"size": size}
    table, about = pyreadstat.read_sav(path, apply_value_formats=True, formats_as_category=False)
    labelled = [name for name in table if name in about.variable_value_labels]
    return {"size": size, "names": list(table), "rows": list(cells_of(table)), "labelled": labelled}


if __name__ == "__main__":
    try:
        json.dump(_answer(sys.argv[1], int(sys.argv[2])), sys.stdout)
    except Exception as error:  # the reader raises many types for a damaged file
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
