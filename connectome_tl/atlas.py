"""Atlases: names, labels, centroids and lobes of the regions in the rows of a matrix.

An atlas is a table of names, hemispheres, lobes and centroids with source and licence, without an image.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.arguments import checked_arguments
from connectome_tl.errors import DataError, MissingInputError, Problem, UsageError, raise_all
from connectome_tl.files import is_there, variable

_PACKAGE = Path(__file__).parent
TABLE_COLUMNS = ("index", "name", "hemisphere", "lobe", "x", "y", "z")
CENTROIDS = "centroids.tsv"  # centroids of the user's image, if the table has none
_HEAD_KEYS = ("title", "space", "node_set", "source", "licence", "image")
_PARTS = re.compile(r"([._\- ])")
_SIDES = {"L": "R", "LH": "RH", "lh": "rh", "Left": "Right", "left": "right"}
_SIDES |= {right: left for left, right in _SIDES.items()}
_SEPARATORS = str.maketrans(dict.fromkeys(".-: ", "_"))


@dataclass(frozen=True)
class Region:
    """One region. `index` is its label in the atlas image; x, y, z is its centroid in mm (RAS+), NaN where unknown.

    `aliases` are alternative names of the region (`Precentral_L` for `PreCG.L`).
    """

    index: int
    name: str
    hemisphere: str  # L, R or M (midline)
    lobe: str
    x: float
    y: float
    z: float
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Atlas:
    """An ordered set of regions.

    Attributes:
        name: name in lower case, as printed by `atlas list`.
        space: the coordinate space of the centroids.
        node_set: atlases of one node set have the same region names, in any order (for example, an adult and a neonatal
            AAL-90), so that their connectomes can be aligned by name.
        order: description of the row order, if it is not that of the labels.
        homotopic: whether regions have a counterpart of the same name in the other hemisphere.
        templateflow: pattern of the label image below TemplateFlow's home, or "".
    """

    name: str
    title: str
    space: str
    node_set: str
    source: str
    licence: str
    image: str
    regions: tuple[Region, ...]
    order: str = ""
    templateflow: str = ""
    homotopic: bool = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the regions, in row order."""
        return tuple(region.name for region in self.regions)

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.regions)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Centroids in mm, (n_regions, 3); NaN in an atlas without centroids."""
        return np.array([(r.x, r.y, r.z) for r in self.regions], dtype=float)

    @cached_property
    def has_centroids(self) -> bool:
        """Whether every region has a centroid, as needed for distances and glass brains."""
        return bool(np.isfinite(self.coordinates).all())

    def table(self) -> pd.DataFrame:
        """One row per region, with the columns `TABLE_COLUMNS`; coordinates in mm."""
        return pd.DataFrame([vars(region) for region in self.regions], columns=list(TABLE_COLUMNS))

    @cached_property
    def label_order(self) -> np.ndarray:
        """Row numbers sorted by label, (n_regions,), the usual order of unnamed matrices."""
        return np.argsort([region.index for region in self.regions], kind="stable")

    @cached_property
    def partners(self) -> np.ndarray:
        """Row of the counterpart in the other hemisphere, (n_regions,); its own row if there is none."""
        return counterparts(self.names) if self.homotopic else np.arange(self.n_regions)

    @cached_property
    def _known(self) -> dict[str, str]:
        """Region name by normalised name or alias."""
        found = {_alike(alias): region.name for region in self.regions for alias in region.aliases}
        return found | {_alike(name): name for name in self.names}

    def resolved(self, names: Sequence[str]) -> tuple[str, ...]:
        """Convert names or aliases to this atlas's names; unknown names are unchanged."""
        return tuple(self._known.get(_alike(name), name) for name in names)

    def order_of(self, names: Sequence[str]) -> np.ndarray:
        """Positions in this atlas of the given region names or aliases, (len(names),).

        Raises:
            DataError: an unknown or duplicate name; the message lists similar names.
        """
        return order_of(self.resolved(names), self.names, where=f"atlas {self.name}")


def counterparts(names: Sequence[str]) -> np.ndarray:
    """Position of the region of the same name in the other hemisphere, (n_names,); its own if there is none."""
    row = {name: i for i, name in enumerate(names)}
    found = np.arange(len(names))
    for i, name in enumerate(names):
        parts = _PARTS.split(name)
        others = ["".join([*parts[:k], _SIDES[p], *parts[k + 1 :]]) for k, p in enumerate(parts) if p in _SIDES]
        found[i] = next((row[other] for other in others if other in row), i)
    return found


def _alike(name: str) -> str:
    return name.strip().translate(_SEPARATORS).casefold()


def order_of(names: Sequence[str], known: Sequence[str], *, where: str) -> np.ndarray:
    """Positions in `known` of each of `names`.

    Raises:
        DataError: an unknown name (the message lists similar ones) or a duplicate.
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
            problems.append(Problem(f"region {name!r} occurs twice"))
        seen.add(name)
    raise_all(f"region names do not fit {where}", problems)
    return np.array([position[name] for name in names], dtype=int)


def atlas_folders() -> tuple[Path, ...]:
    """Folders of the atlas tables: the installed copy, else the repository root."""
    candidates = (_PACKAGE / "_packaged" / "atlases", _PACKAGE.parent / "atlases")
    return tuple(folder for folder in candidates if folder.is_dir())


@lru_cache(maxsize=1)
def atlas_names() -> tuple[str, ...]:
    """Names of the installed atlases, sorted."""
    found = {path.parent.name for folder in atlas_folders() for path in folder.glob("*/atlas.json")}
    return tuple(sorted(found))


@checked_arguments
def load_atlas(name: str) -> Atlas:
    """Read an atlas by name, with the centroids of an image that `atlas install` installed.

    Raises:
        UsageError: no atlas of that name; the message lists similar names.
    """
    for folder in atlas_folders():
        if name in atlas_names() and (folder / name / "atlas.json").is_file():
            return _placed(_read_once(folder / name))
    near = difflib.get_close_matches(name, atlas_names(), n=3, cutoff=0.3)
    raise UsageError(
        f"no atlas is called {name!r}",
        expected=f"one of {', '.join(atlas_names())}",
        remedy=f"Did you mean {near[0]}?" if near else None,
    )


@lru_cache(maxsize=32)
def _read_once(folder: Path) -> Atlas:
    return read_atlas(folder)


@lru_cache(maxsize=32)
def _places(file: Path, _: int) -> dict[int, tuple[float, float, float]]:
    table = pd.read_csv(file, sep="\t", index_col="index")
    return {int(index): (float(x), float(y), float(z)) for index, x, y, z in table.itertuples(name=None)}


def _placed(atlas: Atlas) -> Atlas:
    """Add centroids computed by `atlas install` from the user's image to an atlas without centroids."""
    file = image_folder() / atlas.name / CENTROIDS
    if atlas.has_centroids or not is_there(file):
        return atlas
    places = _places(file, file.stat().st_mtime_ns)
    if sorted(places) != sorted(region.index for region in atlas.regions):
        raise DataError(f"labels are not those of atlas {atlas.name}", file=file, remedy="Install the image again.")
    regions = (replace(r, x=places[r.index][0], y=places[r.index][1], z=places[r.index][2]) for r in atlas.regions)
    return replace(atlas, regions=tuple(regions), space="the installed image's")


def read_atlas(folder: Path) -> Atlas:
    """Read `atlas.json` and `regions.tsv` of one folder; all problems of the table are listed together."""
    head_file, table_file = folder / "atlas.json", folder / "regions.tsv"
    try:
        head = json.loads(head_file.read_text("utf-8"))
        table = pd.read_csv(table_file, sep="\t", dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise MissingInputError("atlas file not found", file=error.filename) from error
    except ValueError as error:
        raise DataError(f"cannot be read: {error}", file=folder) from error
    problems = [
        Problem(f"column {column!r} is missing", file=table_file)
        for column in TABLE_COLUMNS
        if column not in table.columns
    ]
    problems += [Problem(f"key {key!r} is missing", file=head_file) for key in _HEAD_KEYS if key not in head]
    raise_all("the atlas is incomplete", problems)
    if (table[["x", "y", "z"]] == "n/a").all(axis=None):  # no centroids at all is valid, partly missing ones are not
        table[["x", "y", "z"]] = "nan"
    problems = _table_problems(table, table_file)
    raise_all("the atlas table is wrong", problems)
    aliases = table["aliases"] if "aliases" in table.columns else pd.Series("", index=table.index)
    regions = tuple(
        Region(int(index), name, hemisphere, lobe, float(x), float(y), float(z), tuple(filter(None, more.split("|"))))
        for (index, name, hemisphere, lobe, x, y, z), more in zip(
            table[list(TABLE_COLUMNS)].itertuples(index=False, name=None), aliases, strict=True
        )
    )
    return Atlas(
        name=folder.name,
        regions=regions,
        order=head.get("order", ""),
        templateflow=head.get("templateflow", ""),
        homotopic=head.get("homotopic", True),
        **{key: head[key] for key in _HEAD_KEYS},
    )


def image_folder() -> Path:
    """Folder of the label images of `atlas install`: CONNECTOME_TL_ATLASES, else the user's data folder."""
    named = variable("CONNECTOME_TL_ATLASES")
    if named:
        return Path(named)
    home = variable("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "connectome_tl" / "atlases"


def find_image(name: str) -> Path | None:
    """The label image of an atlas: the installed copy, else TemplateFlow's, else None.

    Nothing is downloaded. TemplateFlow's home is TEMPLATEFLOW_HOME, else its cache folder.

    Raises:
        UsageError: no such atlas.
    """
    atlas = load_atlas(name)
    installed = sorted((image_folder() / name).glob("labels.nii*"))
    if installed:
        return installed[0]
    home = Path(variable("TEMPLATEFLOW_HOME") or Path.home() / ".cache" / "templateflow")
    found = sorted(home.glob(atlas.templateflow)) if atlas.templateflow and home.is_dir() else []
    return found[0] if found else None


def _table_problems(table: pd.DataFrame, file: Path) -> list[Problem]:
    problems = [
        Problem(f"{column} {value!r} occurs twice", file=file)
        for column in ("index", "name")
        for value in table[column][table[column].duplicated()]
    ]
    numbers = table[["index", "x", "y", "z"]].apply(pd.to_numeric, errors="coerce")
    if numbers["index"].isna().any() or (numbers["index"] % 1 != 0).any() or (numbers["index"] <= 0).any():
        problems.append(Problem("index is a whole number above 0: the label in the image", file=file))
    without = (table[["x", "y", "z"]] == "nan").all(axis=None)
    if not without and not np.isfinite(numbers[["x", "y", "z"]].to_numpy(dtype=float)).all():
        problems.append(Problem("a centroid is missing or not a number", file=file))
    if not set(table["hemisphere"]) <= {"L", "R", "M"}:
        problems.append(Problem("hemisphere is L, R or M", file=file))
    if (table["name"] == "").any():
        problems.append(Problem("a region has no name", file=file))
    return problems
