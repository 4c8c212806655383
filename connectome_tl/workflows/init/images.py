"""Inspect a participants table and a folder of images."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.images import read_volume
from connectome_tl.imaging.volumes.checks import CONTRASTS, named_contrast
from connectome_tl.workflows.init.look import Choose, Seen, files_of
from connectome_tl.workflows.init.matched import matched_rows

_NO_IMAGES = ("dseg", "probseg", "mask", "aseg", "label")  # words in names of files that are not grey levels
_TRIED = 5  # files of a pattern, until one can be read


def look_at_images(tables: Sequence[Path], images: Path, folder: Path, choose: Choose) -> Seen:
    """Find the id column and the names of the images, and read the first readable one of each pattern.

    Args:
        images: folder of the images. choose: chooses among several patterns of files.

    Raises:
        MissingInputError: no table, no folder, or an empty folder. DataError: no column has ids that occur in file
            names, or no file is a three-dimensional image.
    """
    rows = matched_rows(images, tables)
    cells, ids, patterns = rows.cells, rows.ids, rows.patterns
    problems = {one: _problem([*itertools.islice(files_of(images, cells, ids, one), _TRIED)]) for one, _ in patterns}
    n_rows = {one: n for one, n in patterns if problems[one] is None}
    if not n_rows:
        raise next(problem for problem in problems.values() if problem is not None)
    ranked = sorted(n_rows, key=_rank)
    chosen = choose("pattern", tuple(ranked)) if len(ranked) > 1 else ranked[0]
    if chosen not in n_rows:
        raise DataError("no images have this pattern", expected=f"one of {', '.join(ranked)}", got=chosen, file=images)
    place = Path(os.path.relpath(images, folder))
    return Seen(
        tables[0],
        cells,
        ids,
        (place / chosen).as_posix(),
        n_rows[chosen],
        len(cells),
        tuple((place / one).as_posix() for one in ranked if one != chosen),
        "auto",
        named_contrast([chosen]),
        0,
        (),
        True,
        "none",
        rows.columns,
        images=True,
        events=rows.events,
        scan_ids=rows.scan_ids,
        joined=rows.joined,
    )


def _problem(files: list[Path]) -> DataError | None:
    """What is wrong with the first file; None if one can be read as a volume."""
    first: DataError | None = None
    for file in files:
        try:
            read_volume(file)
        except (DataError, MissingInputError) as error:
            problem = error.problems[0]
            first = first or DataError(
                f"the files of the subjects cannot be read as volumes: {problem.what}",
                expected=problem.expected,
                got=problem.got,
                file=problem.file,
                remedy=problem.remedy,
            )
        else:
            return None
    return first


def _rank(pattern: str) -> tuple[bool, int, str]:
    """Images before label maps and masks, and in the order of the known contrasts."""
    name = pattern.rsplit("/", 1)[-1].casefold()
    contrast = named_contrast([pattern])
    return (
        any(word in name for word in _NO_IMAGES),
        CONTRASTS.index(contrast) if contrast in CONTRASTS else len(CONTRASTS),
        pattern,
    )
