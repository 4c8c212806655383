"""Mutations of a label image, its table and the weights whose outcome is known: the scene's table, or a refusal."""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Callable
from dataclasses import replace

import nibabel as nib
import numpy as np

from tests.properties.stream_scene import (
    AFFINE,
    SHAPE,
    Files,
    Must,
    Mutation,
    Rng,
    flipped,
    nifti,
    packed,
    scaled,
    table_of,
)


def _image(make: Callable[[Files, Rng], bytes], name: str = "l.nii") -> Mutation:
    return lambda f, rng: replace(f, image=(name, make(f, rng)))


def _patched(at: int, code: str, *values: float) -> Mutation:
    return _image(lambda f, _: packed(nifti(f.scene.labels, f.scene.affine), at, code, *values))


def _times(scale: float) -> Mutation:
    return _image(lambda f, _: nifti(f.scene.labels, np.diag([scale] * 3 + [1]) @ f.scene.affine))


def _typed(kind: str) -> Mutation:
    return _image(lambda f, _: nifti(f.scene.labels.astype(kind), f.scene.affine))


def _on_a_scale(f: Files, rng: Rng) -> bytes:
    slope = float(np.float32(rng.choice([0.001, 0.004, 0.1, 0.2, 1 / 255, 249 / 65535])))
    return scaled(f.scene.labels, f.scene.affine, slope, 0.0 if rng.random() < 0.5 else -3.0, "u4")


def _oriented(f: Files, rng: Rng) -> bytes:
    """The same labels in the same places, stored along other axes."""
    order = rng.permutation(3)
    data, change = f.scene.labels.transpose(order), np.zeros((4, 4))
    change[order, range(3)], change[3, 3] = 1, 1
    for axis in range(3):
        if rng.random() < 0.5:
            data = np.flip(data, axis)
            flip = np.eye(4)
            flip[axis, axis], flip[axis, 3] = -1, data.shape[axis] - 1
            change = change @ flip
    return nifti(np.ascontiguousarray(data), f.scene.affine @ change)


def _mgz(f: Files, _: Rng) -> bytes:
    return gzip.compress(nib.MGHImage(f.scene.labels, f.scene.affine).to_bytes(), mtime=0)


def _mgz_shape(by: int) -> Mutation:
    def made(f: Files, rng: Rng) -> bytes:
        shape = np.array(SHAPE)
        shape[int(rng.integers(3))] += by
        return gzip.compress(packed(gzip.decompress(_mgz(f, rng)), 4, ">3i", *shape), mtime=0)

    return _image(made, "l.mgz")


def _blurred(f: Files, _: Rng) -> bytes:
    data = f.scene.labels.astype(np.float32)
    return nifti((data + np.roll(data, 1, axis=0)) / 2 + np.float32(0.01) * (data > 0), f.scene.affine)


def _shrunk(by: int) -> Mutation:
    def made(f: Files, rng: Rng) -> bytes:
        shape = np.array(SHAPE)
        shape[int(rng.integers(3))] += by
        return packed(nifti(f.scene.labels, f.scene.affine), 40, "<8h", 3, *shape, 1, 1, 1, 1)

    return _image(made)


def _damaged(f: Files, rng: Rng) -> Files:
    """Some bytes are changed: if nibabel can read them, its result is the scene."""
    data = flipped(nifti(f.scene.labels.astype("u1"), f.scene.affine), rng, 352 if rng.random() < 0.7 else None)
    labels, affine = np.zeros((1, 1, 1), dtype=np.int32), f.scene.affine
    with contextlib.suppress(Exception):
        image = nib.Nifti1Image.from_bytes(data)
        values = np.squeeze(np.asarray(image.dataobj))
        whole = np.abs(values - np.rint(values)).max() < 1e-3 and np.abs(values).max() < 1e9
        if np.isfinite(image.affine).all() and whole:
            labels, affine = np.rint(values).astype(np.int32), image.affine
    return replace(f.with_scene(labels=labels, affine=affine), image=("l.nii", data))


def _renumbered(f: Files, rng: Rng) -> Files:
    """New numbers in image and table."""
    new = tuple(int(n) for n in rng.choice(np.arange(300, 3000), size=8, replace=False))
    labels = np.zeros_like(f.scene.labels)
    for old, number in zip(f.scene.numbers, new, strict=True):
        labels[f.scene.labels == old] = number
    changed = f.with_scene(labels=labels, numbers=new)
    return replace(changed, image=("l.nii", nifti(labels, AFFINE)), table=table_of(changed.scene))


def _shuffled_rows(f: Files, rng: Rng) -> Files:
    order = rng.permutation(8)
    numbers, names = (tuple(values[i] for i in order) for values in (f.scene.numbers, f.scene.names))
    changed = f.with_scene(numbers=numbers, names=names)
    return replace(changed, table=table_of(changed.scene))


def _fewer_rows(f: Files, _: Rng) -> Files:
    """A table that lacks half of the regions."""
    changed = f.with_scene(numbers=f.scene.numbers[:4], names=f.scene.names[:4])
    return replace(changed, table=table_of(changed.scene))


def _freesurfer(white: bool) -> Mutation:
    """FreeSurfer's numbers, and white matter around the regions or not."""

    def changed(f: Files, rng: Rng) -> Files:
        g = _renumbered(f, rng)
        numbers = tuple(int(n) for n in rng.choice([*range(1001, 1004), *range(2005, 2036)], size=8, replace=False))
        labels = np.full_like(f.scene.labels, 2 if white else 0)
        for old, number in zip(g.scene.numbers, numbers, strict=True):
            labels[g.scene.labels == old] = number
        g = g.with_scene(labels=labels, numbers=numbers, tissue=(2,))
        return replace(g, image=("l.nii", nifti(labels, AFFINE)), table=table_of(g.scene))

    return changed


IMAGES: dict[str, tuple[Must, Mutation]] = {
    **{f"as {kind}": (Must.READ, _typed(kind)) for kind in ("u1", "i2", "u2", "i8", "f4", "f8")},
    "on a scale": (Must.READ, _image(_on_a_scale)),
    "along other axes": (Must.READ, _image(_oriented)),
    "mgz": (Must.READ, _image(_mgz, "l.mgz")),
    "gz": (Must.READ, _image(lambda f, _: gzip.compress(nifti(f.scene.labels, f.scene.affine)), "l.nii.gz")),
    "qform alone": (Must.READ, _image(lambda f, _: nifti(f.scene.labels, f.scene.affine, (0, 1)))),
    "sform alone": (Must.READ, _image(lambda f, _: nifti(f.scene.labels, f.scene.affine, (2, 0)))),
    "sform of zeros": (Must.READ, _patched(280, "<12f", *[0.0] * 12)),
    "one volume": (Must.READ, _image(lambda f, _: nifti(f.scene.labels[..., None], f.scene.affine))),
    "renumbered": (Must.READ, _renumbered),
    "rows shuffled": (Must.READ, _shuffled_rows),
    "FreeSurfer": (Must.READ, _freesurfer(white=False)),
    "FreeSurfer, white matter": (Must.READ, _freesurfer(white=True)),
    "half the rows": (Must.REFUSE, _fewer_rows),
    "two volumes": (Must.REFUSE, _image(lambda f, _: nifti(np.stack([f.scene.labels] * 2, -1), f.scene.affine))),
    "no orientation": (Must.REFUSE, _image(lambda f, _: nifti(f.scene.labels, f.scene.affine, (0, 0)))),
    "mirrored qform": (Must.REFUSE, _patched(76, "<f", -1.0)),
    "in metres": (Must.REFUSE, _patched(123, "<B", 1)),
    "interpolated": (Must.REFUSE, _image(_blurred)),
    "too coarse a scale": (
        Must.REFUSE,
        _image(lambda f, _: packed(nifti(f.scene.labels, AFFINE), 112, "<2f", 0.37, 0)),
    ),
    "scale of nan": (Must.REFUSE, _patched(112, "<2f", float("nan"), 0)),
    "fewer voxels": (Must.REFUSE, _shrunk(-1)),
    "more voxels": (Must.REFUSE, _shrunk(1)),
    "mgz fewer voxels": (Must.REFUSE, _mgz_shape(-1)),
    "mgz more voxels": (Must.REFUSE, _mgz_shape(1)),
    "voxels beyond all": (Must.REFUSE, _patched(40, "<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)),
    "another type": (Must.REFUSE, _patched(70, "<2h", 4, 16)),
    "another offset": (Must.REFUSE, _patched(108, "<f", 360)),
    "cut": (Must.REFUSE, _image(lambda f, rng: nifti(f.scene.labels, AFFINE)[: int(rng.integers(1, 9000))])),
    "negative": (Must.REFUSE, _image(lambda f, _: nifti(-f.scene.labels, AFFINE))),
    "all background": (Must.REFUSE, _image(lambda f, _: nifti(f.scene.labels * 0, AFFINE))),
    "affine in metres": (Must.REFUSE, _times(0.001)),
    "affine in micrometres": (Must.REFUSE, _times(1000.0)),
    "damaged": (Must.EITHER, _damaged),
    "elsewhere": (Must.REFUSE, _image(lambda f, _: nifti(f.scene.labels, AFFINE + np.eye(4, k=3) * 400))),
}


def _text(form: Callable[[np.ndarray], str]) -> Mutation:
    encoding = "utf-8-sig" if form is _marked else "utf-8"
    return lambda f, _: replace(f, weights=("w.txt", form(f.scene.weights).encode(encoding)))


def _marked(w: np.ndarray) -> str:
    return "\r\n".join(map(str, w))


def _npy(change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    def made(f: Files, _: Rng) -> Files:
        stream = io.BytesIO()
        np.save(stream, change(f.scene.weights))
        return replace(f, weights=("w.npy", stream.getvalue()))

    return made


def _one_is(word: str) -> Mutation:
    return _text(lambda w: "\n".join([*map(str, w[:-1]), word]))


WEIGHTS: dict[str, tuple[Must, Mutation]] = {
    "none": (Must.READ, lambda f, _: f),
    "lines": (Must.READ, _text(lambda w: "\n".join(map(str, w)) + "\n")),
    "one row, comment": (Must.READ, _text(lambda w: "# command_history: tcksift2\n" + " ".join(map(str, w)))),
    "commas": (Must.READ, _text(lambda w: ",".join(f"{x:.4e}" for x in w))),
    "mark and CRLF": (Must.READ, _text(_marked)),
    "npy": (Must.READ, _npy(lambda w: w)),
    "npy column": (Must.READ, _npy(lambda w: w[:, None])),
    "one too few": (Must.REFUSE, _text(lambda w: "\n".join(map(str, w[1:])))),
    "one too many": (Must.REFUSE, _text(lambda w: "\n".join(map(str, [*w, 1])))),
    "decimal commas": (Must.REFUSE, _text(lambda w: "\n".join(str(x).replace(".", ",") for x in w))),
    "nothing": (Must.REFUSE, _text(lambda _: "")),
    **{f"one is {word}": (Must.REFUSE, _one_is(word)) for word in ("nan", "-1", "inf", "1_0", "0x1", "one", "1,065")},
    "npy of complex": (Must.REFUSE, _npy(lambda w: w + 1j)),
    "npy in two rows": (Must.REFUSE, _npy(lambda w: np.stack([w, w]))),
    "npy of text": (Must.REFUSE, _npy(lambda w: w.astype(str))),
}
