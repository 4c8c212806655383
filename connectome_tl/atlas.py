"""Atlas and Region: which row of a matrix is which part of the brain.

A table of names, hemispheres, lobes and centroids with source and licence; never an image.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError, MissingInputError, Problem, UsageError, raise_all

_PACKAGE = Path(__file__).parent
TABLE_COLUMNS = ("index", "name", "hemisphere", "lobe", "x", "y", "z")


@dataclass(frozen=True)
class Region:
    """One region. `index` is its label in the atlas image; x, y, z is its centroid in mm (RAS+)."""

    index: int
    name: str
    hemisphere: str  # L, R or M (midline)
    lobe: str
    x: float
    y: float
    z: float


@dataclass(frozen=True)
class Atlas:
    """An ordered set of regions.

    Attributes:
        name: lower case, as `atlas list` prints it.
        space: the coordinate space of the centroids.
        node_set: atlases of one node set have the same region names, in any order
            (an adult and a neonatal AAL-90, for example), so their connectomes can be lined up by name.
    """

    name: str
    title: str
    space: str
    node_set: str
    source: str
    licence: str
    image: str
    regions: tuple[Region, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(region.name for region in self.regions)

    @property
    def n_regions(self) -> int:
        return len(self.regions)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Centroids in mm, (n_regions, 3)."""
        return np.array([(r.x, r.y, r.z) for r in self.regions], dtype=float)

    def table(self) -> pd.DataFrame:
        return pd.DataFrame([vars(region) for region in self.regions], columns=list(TABLE_COLUMNS))

    def order_of(self, names: Sequence[str]) -> np.ndarray:
        """Positions in this atlas of the given region names, (len(names),).

        Raises:
            DataError: an unknown or doubled name, with the nearest known ones.
        """
        return order_of(names, self.names, where=f"atlas {self.name}")


def order_of(names: Sequence[str], known: Sequence[str], *, where: str) -> np.ndarray:
    """Positions in `known` of each of `names`: rows are matched by name, never by position.

    Raises:
        DataError: an unknown name (with the nearest known ones) or one that stands twice.
    """
    position = {name: i for i, name in enumerate(known)}
    problems: list[Problem] = []
    seen: set[str] = set()
    for name in names:
        if name not in position:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            problems.append(
                Problem(
                    f"region {name!r} is not in {where}", remedy=f"Nearest names: {', '.join(near)}." if near else None
                )
            )
        elif name in seen:
            problems.append(Problem(f"region {name!r} stands twice"))
        seen.add(name)
    raise_all(f"region names do not fit {where}", problems)
    return np.array([position[name] for name in names], dtype=int)


def atlas_folders() -> tuple[Path, ...]:
    """Where atlas tables lie: the installed copy, else the repository root."""
    candidates = (_PACKAGE / "_packaged" / "atlases", _PACKAGE.parent / "atlases")
    return tuple(folder for folder in candidates if folder.is_dir())


@lru_cache(maxsize=1)
def atlas_names() -> tuple[str, ...]:
    found = {path.parent.name for folder in atlas_folders() for path in folder.glob("*/atlas.json")}
    return tuple(sorted(found))


@lru_cache(maxsize=32)
def load_atlas(name: str) -> Atlas:
    """Read an atlas by name.

    Raises:
        UsageError: no atlas of that name, with the nearest ones.
    """
    for folder in atlas_folders():
        if name in atlas_names() and (folder / name / "atlas.json").is_file():
            return read_atlas(folder / name)
    near = difflib.get_close_matches(name, atlas_names(), n=3, cutoff=0.3)
    raise UsageError(
        f"no atlas is called {name!r}",
        expected=f"one of {', '.join(atlas_names())}",
        remedy=f"Did you mean {near[0]}?" if near else None,
    )


def read_atlas(folder: Path) -> Atlas:
    """Read `atlas.json` and `regions.tsv` of one folder; every fault of the table is listed at once."""
    head_file, table_file = folder / "atlas.json", folder / "regions.tsv"
    try:
        head = json.loads(head_file.read_text("utf-8"))
        table = pd.read_csv(table_file, sep="\t", dtype={"name": str, "hemisphere": str, "lobe": str})
    except FileNotFoundError as error:
        raise MissingInputError("atlas file not found", file=error.filename) from error
    except ValueError as error:
        raise DataError(f"cannot be read: {error}", file=folder) from error
    problems = [
        Problem(f"column {column!r} is missing", file=table_file)
        for column in TABLE_COLUMNS
        if column not in table.columns
    ]
    raise_all("the atlas table is incomplete", problems)
    for column in ("index", "name"):
        problems += [
            Problem(f"{column} {value!r} stands twice", file=table_file)
            for value in table[column][table[column].duplicated()]
        ]
    if table[["x", "y", "z"]].isna().any().any():
        problems.append(Problem("a centroid is missing", file=table_file))
    if not set(table["hemisphere"]) <= {"L", "R", "M"}:
        problems.append(Problem("hemisphere is L, R or M", file=table_file))
    raise_all("the atlas table is wrong", problems)
    regions = tuple(
        Region(int(index), name, hemisphere, lobe, float(x), float(y), float(z))
        for index, name, hemisphere, lobe, x, y, z in table[list(TABLE_COLUMNS)].itertuples(index=False, name=None)
    )
    return Atlas(
        name=folder.name,
        title=head["title"],
        space=head["space"],
        node_set=head["node_set"],
        source=head["source"],
        licence=head["licence"],
        image=head["image"],
        regions=regions,
    )
