"""Write a connectome as a BIDS-style table with sidecar, or in formats of other tools.

Names follow the BIDS draft for connectivity matrices (BEP017).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.errors import ConnectomeTLError, UsageError
from connectome_tl.files import read_json_object
from connectome_tl.provenance import MISSING, sidecar_path, write_bytes, write_sidecar, write_text

_MAX_BYTES = 50_000_000
_UNSAFE = str.maketrans(dict.fromkeys("\t\n\r", " "))


def write_connectome(
    connectome: Connectome,
    path: str | Path,
    *,
    atlas: str = "",
    inputs: Mapping[str, str] | None = None,
    settings: Any = None,
    units: Mapping[str, str] | str | None = None,
    seed: int | None = None,
    libraries: Iterable[str] = (),
    notes: tuple[str, ...] = (),
    fields: Mapping[str, Any] | None = None,
    always_measure: bool = False,
) -> tuple[Path, ...]:
    """Write a connectome with its sidecar; the file extension selects the format.

    `.tsv` and `.csv` hold one measure each: several become `STEM_meas-NAME.tsv`. `.npz`, `.mat` and
    `.graphml` hold all. `.npy` holds the present regions of one measure, with their names in `STEM_labels.txt`.
    All formats keep float64 values exactly and mark missing regions (`n/a`, a mask, or left out).

    Args:
        atlas: name for the sidecar.
        inputs, settings, units, seed, libraries: as `provenance.write_sidecar`.
        notes: decisions made during reading and processing.
        fields: further keys of the sidecar.
        always_measure: name the measure (`meas-`) also where there is only one.

    Returns:
        The files written, without their sidecars.

    Raises:
        UsageError: no such ending. OutputError: the file cannot be written.
    """
    target = Path(path)
    writer, _ = _writer(target)
    files = files_written(target, connectome.measures, always_measure=always_measure)
    parts = {files[0]: connectome}
    if len(files) > 1:
        weights, names = connectome.weights, connectome.measures
        parts = {
            file: replace(connectome, weights=weights[m : m + 1], measures=(names[m],)) for m, file in enumerate(files)
        }
    for file, part in parts.items():
        writer(part, file)
        write_sidecar(
            file,
            inputs=inputs,
            settings=settings,
            units=units,
            seed=seed,
            libraries=libraries,
            **{**bids_keys(part, atlas), "Notes": list(notes), **(fields or {})},
        )
    return tuple(parts)


def files_written(path: str | Path, measures: Sequence[str], *, always_measure: bool = False) -> tuple[Path, ...]:
    """Paths that `write_connectome` writes for these measures, without sidecars.

    Raises:
        UsageError: no such ending.
    """
    target = Path(path)
    if _writer(target)[1] or (len(measures) == 1 and not always_measure):
        return (target,)
    return tuple(target.with_name(_with_measure(target.name, name)) for name in measures)


def all_written(files: Sequence[Path]) -> tuple[Path, ...]:
    """Files with their sidecars and, for `.npy`, the lists of labels."""
    lists = [file.with_name(f"{file.stem}_labels.txt") for file in files if file.suffix == ".npy"]
    return (*files, *(sidecar_path(file) for file in files), *lists)


def refuse_overwriting(files: Sequence[Path], inputs: Sequence[str | Path]) -> None:
    """Refuse to overwrite an input, or a JSON file or label list that this package did not write.

    Args:
        files: result of `files_written`; sidecars and lists of labels are checked too.
        inputs: all files that are read.

    Raises:
        UsageError: a file would be overwritten; the message names it.
    """
    read = [Path(one) for one in inputs if Path(one).exists()]
    for file in all_written(files):
        if any(_same(file, one) for one in read):
            raise UsageError("would overwrite an input", file=file, remedy="Choose another name for --out.")
        is_list = file.name.endswith("_labels.txt")
        if file.exists() and (file.suffix == ".json" or is_list):
            said = sidecar_path(file.with_name(file.name.replace("_labels.txt", ".npy"))) if is_list else file
            if not _is_ours(said):
                what = "a list of labels" if is_list else "a JSON"
                raise UsageError(
                    f"would overwrite {what} that connectome-tl did not write",
                    file=file,
                    remedy="Choose another name for --out, or move that file away.",
                )


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other) or (one.exists() and one.samefile(other))


def _is_ours(sidecar: Path) -> bool:
    try:
        return read_json_object(sidecar, limit=_MAX_BYTES).get("Software") == "connectome_tl"
    except ConnectomeTLError:
        return False


def _writer(target: Path) -> tuple[Callable[[Connectome, Path], None], bool]:
    if target.suffix not in WRITERS:
        raise UsageError("no output format has this extension", file=target, expected=", ".join(WRITERS))
    return WRITERS[target.suffix]


def bids_keys(connectome: Connectome, atlas: str = "") -> dict[str, Any]:
    """Keys that BEP017 requires in a relmat sidecar, and the missing regions."""
    weights = connectome.weights
    missing = [name for name, there in zip(connectome.regions, connectome.node_mask, strict=True) if not there]
    return {
        "Directed": False,
        "Weighted": bool(((weights != 0) & (weights != 1)).any()),
        "ValidDiagonal": bool(np.diagonal(weights, axis1=1, axis2=2).any()),
        "NonNegative": bool((weights >= 0).all()),
        "RelationshipMeasure": ", ".join(connectome.measures),
        "Software": "connectome_tl",
        "Axes": "region names, the same for rows and columns",
        "Atlas": atlas or None,
        "MissingRegions": missing,
    }


def _with_measure(name: str, measure: str) -> str:
    """`x_relmat.tsv` to `x_meas-COUNT_relmat.tsv`, `x.tsv` to `x_meas-COUNT.tsv`; letters and digits only."""
    label = "".join(character for character in measure if character.isalnum() and character.isascii()) or "measure"
    stem, _, ending = name.rpartition(".")
    if stem.endswith("_relmat"):
        return f"{stem.removesuffix('_relmat')}_meas-{label}_relmat.{ending}"
    return f"{stem}_meas-{label}.{ending}"


def _write_text(connectome: Connectome, path: Path, mark: str, *, named_rows: bool) -> None:
    names = [_cell(name, mark) for name in connectome.regions]
    there = connectome.node_mask
    lines = [mark.join(["", *names] if named_rows else names)]
    for i, row in enumerate(connectome.weights[0]):
        cells = [repr(float(value)) if there[i] and there[j] else MISSING for j, value in enumerate(row)]
        lines.append(mark.join([names[i], *cells] if named_rows else cells))
    write_text(path, "\n".join(lines) + "\n")


def _cell(name: str, mark: str) -> str:
    name = name.translate(_UNSAFE)
    return '"' + name.replace('"', '""') + '"' if mark in name or '"' in name else name


def _write_tsv(connectome: Connectome, path: Path) -> None:
    _write_text(connectome, path, "\t", named_rows=False)


def _write_csv(connectome: Connectome, path: Path) -> None:
    _write_text(connectome, path, ",", named_rows=True)


def _write_npy(connectome: Connectome, path: Path) -> None:
    there = np.flatnonzero(connectome.node_mask)
    buffer = io.BytesIO()
    np.save(buffer, connectome.weights[0][np.ix_(there, there)], allow_pickle=False)
    write_bytes(path, buffer.getvalue())
    names = [connectome.regions[i].translate(_UNSAFE) for i in there]
    write_text(path.with_name(f"{path.stem}_labels.txt"), "\n".join(names) + "\n")


def _write_npz(connectome: Connectome, path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        weights=connectome.weights,
        regions=np.array(connectome.regions, dtype=np.str_),
        measures=np.array(connectome.measures, dtype=np.str_),
        node_mask=connectome.node_mask,
    )
    write_bytes(path, buffer.getvalue())


def _write_mat(connectome: Connectome, path: Path) -> None:
    from scipy.io import savemat

    there = np.flatnonzero(connectome.node_mask)
    weights = connectome.weights[:, there[:, None], there[None, :]]
    variables = {
        "connectivity": weights[0] if len(weights) == 1 else weights,
        "regions": np.array([connectome.regions[i] for i in there], dtype=object),
        "measures": np.array(connectome.measures, dtype=object),
    }
    buffer = io.BytesIO()
    savemat(buffer, variables, long_field_names=True)
    data = bytearray(buffer.getvalue())
    # scipy writes the time here, which would make files differ
    data[:116] = b"MATLAB 5.0 MAT-file, written by connectome_tl".ljust(116)
    write_bytes(path, bytes(data))


def _write_graphml(connectome: Connectome, path: Path) -> None:
    import networkx as nx

    from connectome_tl.connectome.formats.graphs import to_networkx

    buffer = io.BytesIO()
    nx.write_graphml_xml(to_networkx(connectome), buffer, encoding="utf-8", prettyprint=True)
    write_bytes(path, buffer.getvalue())


WRITERS: dict[str, tuple[Callable[[Connectome, Path], None], bool]] = {
    ".tsv": (_write_tsv, False),
    ".csv": (_write_csv, False),
    ".npy": (_write_npy, False),
    ".npz": (_write_npz, True),
    ".mat": (_write_mat, True),
    ".graphml": (_write_graphml, True),
}
