"""Mutations of a tractogram whose outcome is known: the table of the scene, or a refusal."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import replace

import nibabel as nib
import numpy as np

from tests.properties.stream_scene import (
    Files,
    Must,
    Mutation,
    Rng,
    flipped,
    packed,
    tck,
    trk,
    trk_field,
    trx,
    trx_parts,
)


def _tck(**how: object) -> Mutation:
    return lambda f, _: replace(f, tracks=("t.tck", tck(f.scene.lines, **how)))  # type: ignore[arg-type]


def _bytes(change: Callable[[bytes, Rng], bytes]) -> Mutation:
    """Of an existing .tck file."""
    return lambda f, rng: replace(f, tracks=(f.tracks[0], change(f.tracks[1], rng)))


def _trk(change: Callable[[bytes, Rng], bytes] = lambda data, _: data, **how: bool) -> Mutation:
    return lambda f, rng: replace(f, tracks=("t.trk", change(trk(f.scene.lines, **how), rng)))


def _field(name: str, value: object) -> Mutation:
    return _trk(lambda data, _: trk_field(data, name, value))


def _count(off: int) -> Mutation:
    return lambda f, _: replace(
        f, tracks=("t.trk", trk_field(trk(f.scene.lines), "nb_streamlines", len(f.scene.lines) + off))
    )


def _cut_between(f: Files, rng: Rng) -> Files:
    kept = int(rng.integers(1, len(f.scene.lines)))
    n_bytes = 1000 + sum(4 + 12 * len(line) for line in f.scene.lines[:kept])
    return replace(f, tracks=("t.trk", trk(f.scene.lines)[:n_bytes]))


def _swapped_trk(f: Files, _: Rng) -> Files:
    data = trk(f.scene.lines)
    header = np.frombuffer(data[:1000], nib.streamlines.trk.header_2_dtype)
    swapped = header.astype(nib.streamlines.trk.header_2_dtype.newbyteorder(">")).tobytes()
    return replace(f, tracks=("t.trk", swapped + np.frombuffer(data[1000:], "<i4").astype(">i4").tobytes()))


def _turned_trk(f: Files, _: Rng) -> Files:
    """Another order of axes in the header: the points are elsewhere, at positions given by nibabel."""
    data = trk_field(trk(f.scene.lines), "voxel_order", b"LPS")
    lines = nib.streamlines.TrkFile.load(io.BytesIO(data)).streamlines
    return replace(f.with_scene(lines=tuple(np.asarray(line) for line in lines)), tracks=("t.trk", data))


def _damaged(name: str, make: Callable[[tuple[np.ndarray, ...]], bytes], reader: type) -> Mutation:
    """Some bytes are changed: the scene is nibabel's result, otherwise the original."""

    def changed(f: Files, rng: Rng) -> Files:
        data = flipped(make(f.scene.lines), rng)
        lines = f.scene.lines
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = tuple(np.asarray(line) for line in reader.load(io.BytesIO(data)).streamlines)
            lines = read if all(np.isfinite(line).all() for line in read) else lines
        weights = np.resize(f.scene.weights, len(lines))
        return replace(f.with_scene(lines=lines, weights=weights), tracks=(name, data), weights=None)

    return changed


def _trx(change: Callable[[dict[str, bytes], Rng], dict[str, bytes]] = lambda p, _: p, **how: object) -> Mutation:
    deflated = bool(how.pop("deflated", False))
    return lambda f, rng: replace(
        f,
        tracks=("t.trx", trx(change(trx_parts(f.scene.lines, **how), rng), deflated=deflated)),  # type: ignore[arg-type]
    )


def _trx_header(**change: int) -> Mutation:
    def changed(parts: dict[str, bytes], _: Rng) -> dict[str, bytes]:
        header = json.loads(parts["header.json"])
        header |= {key: header[key] + step for key, step in change.items()}
        return parts | {"header.json": json.dumps(header).encode()}

    return _trx(changed)


def _trx_offsets(change: Callable[[np.ndarray, Rng], np.ndarray]) -> Mutation:
    return _trx(
        lambda parts, rng: parts | {
            "offsets.uint64": change(np.frombuffer(parts["offsets.uint64"], "<u8").copy(), rng).astype("<u8").tobytes()
        }
    )  # fmt: skip


def _lines(change: Callable[[tuple[np.ndarray, ...], Rng], list[np.ndarray]]) -> Mutation:
    """Another tractogram with its table."""

    def changed(f: Files, rng: Rng) -> Files:
        lines = tuple(change(f.scene.lines, rng))
        weights = np.resize(f.scene.weights, len(lines))
        return replace(f.with_scene(lines=lines, weights=weights), tracks=("t.tck", tck(lines)), weights=None)

    return changed


def _insert(rng: Rng, data: bytes, what: bytes) -> bytes:
    at = len(data) - 12 * int(rng.integers(2, 12))
    return data[:at] + what + data[at + len(what) :]


_NAN = np.full(1, np.nan, "<f4").tobytes()
TRACKS: dict[str, tuple[Must, Mutation]] = {
    "tck double": (Must.READ, _tck(kind="<f8")),
    "tck big-endian": (Must.READ, _tck(kind=">f4")),
    "tck big-endian double": (Must.READ, _tck(kind=">f8")),
    "tck without count": (Must.READ, _tck(count=None)),
    "tck old count": (Must.READ, _tck(count=3)),
    "tck comments": (Must.READ, _tck(head="command_history: tckgen a b\ncomments: x: y\n")),
    "tck count too high": (Must.EITHER, _tck(count=77)),
    "tck datatype lies": (Must.REFUSE, _bytes(lambda d, _: d.replace(b"Float32LE", b"Float32BE"))),
    "tck width lies": (Must.REFUSE, _bytes(lambda d, _: d.replace(b"Float32LE", b"Float64LE"))),
    "tck offset too high": (Must.REFUSE, _bytes(lambda d, _: d.replace(b"file: . 00", b"file: . 01", 1))),
    "tck cut": (Must.REFUSE, _bytes(lambda d, rng: d[: int(rng.integers(1, len(d) - 12))])),
    "tck cut at a streamline": (Must.REFUSE, _bytes(lambda d, _: d[:-12])),
    "tck goes on": (Must.REFUSE, _bytes(lambda d, rng: d + d[-12 * int(rng.integers(1, 9)) :])),
    "tck half a number lost": (Must.REFUSE, _bytes(lambda d, rng: d[:-40] + d[-40 + int(rng.integers(1, 4)) :])),
    "tck end mark inside": (Must.REFUSE, _bytes(lambda d, rng: _insert(rng, d, np.full(3, np.inf, "<f4").tobytes()))),
    "tck not a number": (Must.REFUSE, _bytes(lambda d, _: d[:-32] + _NAN + d[-28:])),
    "tck empty": (Must.REFUSE, _bytes(lambda *_: b"")),
    "trk": (Must.READ, _trk()),
    "trk with scalars": (Must.READ, _trk(scalars=True)),
    "trk big-endian": (Must.READ, _swapped_trk),
    "trk count not kept": (Must.READ, _field("nb_streamlines", 0)),
    "trk order with a blank": (Must.READ, _field("voxel_order", b"RAS ")),
    "trk other order of axes": (Must.EITHER, _turned_trk),
    "trk count too high": (Must.REFUSE, _count(5)),
    "trk count too low": (Must.REFUSE, _count(-5)),
    "trk cut between": (Must.REFUSE, _cut_between),
    "trk cut": (Must.REFUSE, _trk(lambda d, rng: d[: int(rng.integers(1, len(d) - 4))])),
    "trk goes on": (Must.REFUSE, _trk(lambda d, rng: d + d[-int(rng.integers(1, 60)) :])),
    "trk without affine": (Must.REFUSE, _field("voxel_to_rasmm", 0)),
    "trk version 1": (Must.REFUSE, _field("version", 1)),
    "trk without order": (Must.REFUSE, _field("voxel_order", b"")),
    "trk size of 1 mm": (Must.REFUSE, _field("voxel_sizes", 1)),
    "trk size of 0": (Must.REFUSE, _field("voxel_sizes", 0)),
    "trk one scalar too many": (Must.REFUSE, _field("nb_scalars_per_point", 1)),
    "trk one property too many": (Must.REFUSE, _field("nb_properties_per_streamline", 1)),
    "trk scalars beyond all": (Must.REFUSE, _field("nb_scalars_per_point", 32767)),
    "trk points beyond all": (Must.REFUSE, _trk(lambda d, _: packed(d, 1000, "<i", 2**31 - 1))),
    "trx": (Must.READ, _trx()),
    "trx half": (Must.READ, _trx(kind="<f2")),
    "trx double, deflated": (Must.READ, _trx(kind="<f8", deflated=True)),
    "trx open offsets": (Must.READ, _trx(closed=False)),
    "trx more points": (Must.REFUSE, _trx_header(NB_VERTICES=7)),
    "trx fewer points": (Must.REFUSE, _trx_header(NB_VERTICES=-7)),
    "trx more lines": (Must.REFUSE, _trx_header(NB_STREAMLINES=2)),
    "trx fewer lines": (Must.REFUSE, _trx_header(NB_STREAMLINES=-2)),
    "trx points beyond all": (Must.REFUSE, _trx_header(NB_VERTICES=2**40)),
    "trx lines beyond all": (Must.REFUSE, _trx_header(NB_STREAMLINES=2**40)),
    "trx offsets back": (Must.REFUSE, _trx_offsets(lambda o, _: o[::-1])),
    "trx offsets moved": (Must.REFUSE, _trx_offsets(lambda o, _: o + 1)),
    "trx offset far": (Must.REFUSE, _trx_offsets(lambda o, _: np.where(np.arange(len(o)) == 3, 2**63, o))),
    "trx no positions": (Must.REFUSE, _trx(lambda p, _: {k: v for k, v in p.items() if "positions" not in k})),
    "trx no header": (Must.REFUSE, _trx(lambda p, _: {k: v for k, v in p.items() if k != "header.json"})),
    "other lines": (
        Must.READ,
        _lines(lambda ls, rng: [ls[i][:: int(rng.choice([1, -1]))] for i in rng.permutation(30)]),
    ),
    "some short": (Must.READ, _lines(lambda ls, rng: [*ls[:20], *(line[: int(rng.integers(0, 2))] for line in ls)])),
    "doubled": (Must.READ, _lines(lambda ls, _: [*ls, *ls[::-1]])),
    "none": (Must.REFUSE, _lines(lambda *_: [])),
    "tck damaged": (Must.EITHER, _damaged("t.tck", tck, nib.streamlines.TckFile)),
    "trk damaged": (Must.EITHER, _damaged("t.trk", trk, nib.streamlines.TrkFile)),
    "far away": (Must.REFUSE, _lines(lambda ls, _: [line + np.float32(500) for line in ls])),
}
