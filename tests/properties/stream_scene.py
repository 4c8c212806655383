"""A small tractogram, label image, table and weights, their files in every format, and the expected result.

The expected table is computed by brute force; files are written by nibabel, zipfile and numpy's `tobytes`, not by the
package.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import nibabel as nib
import numpy as np

RADIUS = 4.0
AFFINE = np.array([[2.0, 0, 0, -14], [0, 2.0, 0, -10], [0, 0, 2.0, -12], [0, 0, 0, 1]])
SHAPE = (15, 13, 14)


@dataclass(frozen=True)
class Scene:
    """Streamlines in mm (multiples of 1/8, exact in half precision), labels, rows, weights."""

    lines: tuple[np.ndarray, ...]
    labels: np.ndarray
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    weights: np.ndarray
    affine: np.ndarray = field(default_factory=AFFINE.copy)
    tissue: tuple[int, ...] = ()


def scene(rng: np.random.Generator) -> Scene:
    """Blocks of eight labels and thirty streamlines that end in or near them, or nowhere."""
    numbers = tuple(int(n) for n in rng.choice(np.arange(1, 250), size=8, replace=False))
    labels = np.zeros(SHAPE, dtype=np.int32)
    corners = rng.permutation([(x, y, z) for x in (1, 6, 11) for y in (1, 5, 9) for z in (1, 6, 10)])[:8]
    for number, (x, y, z) in zip(numbers, corners, strict=True):
        labels[x : x + 3, y : y + 3, z : z + 3] = number
    lines = []
    while len(lines) < 30:
        a, b = rng.choice(8, size=2, replace=rng.random() < 0.1)
        ends = corners[[a, b]] + rng.uniform(-1.2, 3.2, (2, 3))
        world = ends @ AFFINE[:3, :3].T + AFFINE[:3, 3]
        steps = np.linspace(world[0], world[1], int(rng.integers(2, 12)))
        line = (np.round(steps * 8) / 8).astype(np.float32)
        if not any(_between(end, labels) for end in line[[0, -1]]):
            lines.append(line)
    weights = np.round(rng.gamma(2, 1, len(lines)), 4)
    return Scene(tuple(lines), labels, numbers, tuple(f"region_{n}" for n in numbers), weights)


def _between(end: np.ndarray, labels: np.ndarray) -> bool:
    """Whether two labels are equally close: both are correct."""
    voxels = np.argwhere(labels > 0)
    distance = np.linalg.norm(voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3] - end.astype(float), axis=1)
    return len(np.unique(labels[tuple(voxels[distance < distance.min() + 1e-4].T)])) > 1


def expected(of: Scene, *, weighted: bool) -> np.ndarray:
    """Sum of weights between the regions of both ends: the nearest labelled voxel centre below the radius."""
    data = np.where(np.isin(of.labels, of.tissue), 0, of.labels)
    voxels = np.argwhere(data > 0)
    if not len(voxels):
        return np.zeros((len(of.names), len(of.names)))
    centres = voxels @ of.affine[:3, :3].T + of.affine[:3, 3]
    found = np.zeros((len(of.names), len(of.names)))
    row = {number: i for i, number in enumerate(of.numbers)}
    for line, weight in zip(of.lines, of.weights if weighted else np.ones(len(of.lines)), strict=True):
        if len(line) < 2:
            continue
        at = []
        for end in (line[0], line[-1]):
            distance = np.linalg.norm(centres - end.astype(float), axis=1)
            nearest = int(distance.argmin())
            at.append(row.get(int(data[tuple(voxels[nearest])]), -1) if distance[nearest] < RADIUS else -1)
        if min(at) >= 0 and at[0] != at[1]:
            found[at[0], at[1]] += weight
            found[at[1], at[0]] += weight
    return found


def tck(lines: tuple[np.ndarray, ...], kind: str = "<f4", count: int | None = -1, head: str = "") -> bytes:
    """MRtrix tracks; `count` is that of the lines where -1, none where None."""
    rows = [part for line in lines for part in (line, np.full((1, 3), np.nan))]
    body = np.concatenate([*rows, np.full((1, 3), np.inf)]).astype(kind).tobytes()
    name = f"Float{8 * int(kind[-1])}{'LE' if kind[0] == '<' else 'BE'}"
    text = f"mrtrix tracks\n{head}datatype: {name}\n"
    text += "" if count is None else f"count: {len(lines) if count == -1 else count:010d}\n"
    offset = len(text) + len("file: . 0000\nEND\n")
    return f"{text}file: . {offset:04d}\nEND\n".encode() + body


def trk(lines: tuple[np.ndarray, ...], affine: np.ndarray = AFFINE, *, scalars: bool = False) -> bytes:
    """TrackVis by nibabel."""
    header = {
        "voxel_to_rasmm": affine,
        "dimensions": SHAPE,
        "voxel_sizes": np.linalg.norm(affine[:3, :3], axis=0),
        "voxel_order": "".join(nib.aff2axcodes(affine)),
    }
    per_point = {"fa": [np.full((len(line), 1), 0.5, np.float32) for line in lines]} if scalars else None
    per_line = {"w": [np.ones(2, np.float32) for _ in lines]} if scalars else None
    tractogram = nib.streamlines.Tractogram(list(lines), per_line, per_point, affine_to_rasmm=np.eye(4))
    stream = io.BytesIO()
    nib.streamlines.TrkFile(tractogram, header).save(stream)
    return stream.getvalue()


def trk_field(data: bytes, name: str, value: object) -> bytes:
    header = np.frombuffer(data[:1000], nib.streamlines.trk.header_2_dtype).copy()
    header[name] = value
    return header.tobytes() + data[1000:]


def trx_parts(lines: tuple[np.ndarray, ...], kind: str = "<f4", *, closed: bool = True) -> dict[str, bytes]:
    lengths = [len(line) for line in lines]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("<u8")
    header = {"DIMENSIONS": SHAPE, "VOXEL_TO_RASMM": AFFINE.tolist(), "NB_VERTICES": sum(lengths)}
    return {
        "header.json": json.dumps(header | {"NB_STREAMLINES": len(lines)}).encode(),
        f"positions.3.float{8 * int(kind[-1])}": np.concatenate(lines).astype(kind).tobytes(),
        "offsets.uint64": (offsets if closed else offsets[:-1]).tobytes(),
    }


def trx(parts: dict[str, bytes], *, deflated: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return stream.getvalue()


def nifti(data: np.ndarray, affine: np.ndarray, codes: tuple[int, int] = (1, 1)) -> bytes:
    """NIfTI-1 by nibabel; codes of sform and qform."""
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1], strip_shears=True)
    return bytes(image.to_bytes())


def packed(data: bytes, at: int, code: str, *values: float) -> bytes:
    raw = bytearray(data)
    struct.pack_into(code, raw, at, *values)
    return bytes(raw)


def scaled(data: np.ndarray, affine: np.ndarray, slope: float, inter: float = 0.0, kind: str = "u2") -> bytes:
    """Labels as whole numbers of a type on a scale."""
    stored = np.rint((data - inter) / slope)
    limits = np.iinfo(kind)
    assert limits.min <= stored.min()
    assert stored.max() <= limits.max
    return packed(nifti(stored.astype(kind), affine), 112, "<2f", slope, inter)


def flipped(data: bytes, rng: np.random.Generator, within: int | None = None) -> bytes:
    """One to four bytes are changed, half of the time in the first 1,100."""
    raw = bytearray(data)
    end = min(within or (1100 if rng.random() < 0.5 else len(raw)), len(raw))
    for _ in range(int(rng.integers(1, 5))):
        raw[int(rng.integers(end))] = int(rng.integers(256))
    return bytes(raw)


@dataclass(frozen=True)
class Files:
    """One set of input files as bytes, by file name, and their scene."""

    scene: Scene
    tracks: tuple[str, bytes]
    image: tuple[str, bytes]
    table: bytes
    weights: tuple[str, bytes] | None = None

    def write(self, folder: Path) -> dict[str, Path]:
        named = {"tracks": self.tracks, "image": self.image, "table": ("labels.tsv", self.table)}
        if self.weights is not None:
            named["weights"] = self.weights
        for name, data in named.values():
            (folder / name).write_bytes(data)
        return {role: folder / name for role, (name, _) in named.items()}

    def with_scene(self, **change: object) -> Files:
        return replace(self, scene=replace(self.scene, **change))  # type: ignore[arg-type]


def table_of(of: Scene) -> bytes:
    return ("index\tname\n" + "".join(f"{n}\t{s}\n" for n, s in zip(of.numbers, of.names, strict=True))).encode()


def files_of(of: Scene) -> Files:
    return Files(of, ("t.tck", tck(of.lines)), ("l.nii", nifti(of.labels, of.affine)), table_of(of))


class Must(Enum):
    """Allowed results of a mutant: the right table, a refusal, or either."""

    READ = 1
    REFUSE = 2
    EITHER = 3


Rng = np.random.Generator
Mutation = Callable[[Files, Rng], Files]
