"""Bundles damaged in bytes, shapes, JSON, paths and size claims, and the result of opening them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.folder import FILES, MANIFEST, METADATA, STRUCTURE, VALIDATION, WEIGHTS
from connectome_tl.errors import ConnectomeTLError

JSON_FILES = [name for name in FILES if name.endswith(".json")]
TENSOR_FILES = [name for name in FILES if name.endswith(".safetensors")]
VALUES: list[Any] = [
    None, -1, 0, 10**30, -(10**9), 1e308, "", "../../../../tmp/evil", "/etc/passwd", "os.system", "__import__('os')",
    "\ud800", "\x00", [], {}, [[[]]], {"record": "Popen", "fields": {}}, True, 1.5, 10**9, "a" * 100_000,
]  # fmt: skip
Mutation = Callable[[Path, np.random.Generator], None]


def signed(folder: Path) -> None:
    """Write a manifest that matches the present files, as a person who knows the format could."""
    files = {}
    for name in FILES:
        data = (folder / name).read_bytes()
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest = {"format": "connectome-tl bundle", "format_version": 1, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _pick(rng: np.random.Generator, items: list[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def flipped_bytes(folder: Path, rng: np.random.Generator) -> None:
    file = folder / _pick(rng, [*FILES, MANIFEST])
    data = bytearray(file.read_bytes())
    for place in rng.integers(len(data), size=int(rng.integers(1, 9))):
        data[place] ^= int(rng.integers(1, 256))
    file.write_bytes(data)


def cut_or_longer(folder: Path, rng: np.random.Generator) -> None:
    file = folder / _pick(rng, [*FILES, MANIFEST])
    data = file.read_bytes()
    file.write_bytes(data[: int(rng.integers(len(data)))] if rng.random() < 0.6 else data + rng.bytes(1000))


def file_gone(folder: Path, rng: np.random.Generator) -> None:
    (folder / _pick(rng, [*FILES, MANIFEST])).unlink()


def files_swapped(folder: Path, rng: np.random.Generator) -> None:
    one, two = rng.choice(len(FILES), 2, replace=False)
    first, second = folder / FILES[one], folder / FILES[two]
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    if rng.random() < 0.7:
        signed(folder)


def strange_file(folder: Path, rng: np.random.Generator) -> None:
    name = _pick(rng, ["model.pkl", "models/weights.pt", "configs/__init__.py", ".hidden", "docs/x/y", "setup.py"])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/executed'\ntR.")


def path_trick(folder: Path, rng: np.random.Generator) -> None:
    """Links, pipes and folders where files should be, and names that lead outside."""
    file, kind = folder / _pick(rng, list(FILES)), int(rng.integers(6))
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    if kind == 0:
        shutil.move(file, outside / file.name)
        file.symlink_to(outside / file.name)
    elif kind == 1:
        file.unlink()
        file.symlink_to("/dev/zero")
    elif kind == 2:
        file.unlink()
        os.mkfifo(file)
    elif kind == 3:
        file.unlink()
        file.mkdir()
    elif kind == 4:
        shutil.move(folder / "models", outside / "models")
        (folder / "models").symlink_to(outside / "models", target_is_directory=True)
    else:
        _edit(folder / MANIFEST, lambda it: it["files"].update({"../../outside/x.json": it["files"].pop(FILES[0])}))


def size_claim(folder: Path, rng: np.random.Generator) -> None:
    claim = _pick(rng, [0, 1, 10**15, -5, 1.5, "1", None, 2**63])
    name = _pick(rng, list(FILES))
    _edit(folder / MANIFEST, lambda it: it["files"][name].update(bytes=claim))


def manifest_value(folder: Path, rng: np.random.Generator) -> None:
    _change_json(folder / MANIFEST, rng)


def tensor_header(folder: Path, rng: np.random.Generator) -> None:
    """Lengths, offsets and shapes in the header of a safetensors file, signed."""
    file = folder / _pick(rng, TENSOR_FILES)
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header, kind = json.loads(data[8 : 8 + size]), int(rng.integers(7))
    name = _pick(rng, [key for key in header if key != "__metadata__"])
    if kind == 0:
        file.write_bytes(struct.pack("<Q", int(_pick(rng, [2**63, 10**12, 0, size + 9, size - 3]))) + data[8:])
        return signed(folder)
    if kind == 1:
        header[name]["shape"] = _pick(rng, [[2**40], [2**32, 2**32], [-1], [0], [1, 1], [10**30], "x"])
    elif kind == 2:
        header[name]["data_offsets"] = _pick(rng, [[0, 10**15], [5, 1], [-8, 8], [0], [0, 2**64]])
    elif kind == 3:
        header[name]["dtype"] = _pick(rng, ["F16", "U8", "I8", "BF16", "C64", "PICKLE", 7])
    elif kind == 4:
        header[_pick(rng, ["../../x", "fits/0/evil", "x" * 10_000])] = header.pop(name)
    elif kind == 5:
        header["__metadata__"] = _pick(rng, [{"a": 1}, [], {"run": "os.system('true')"}, "x"])
    else:
        del header[name]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return signed(folder)


def tensor_shape(folder: Path, rng: np.random.Generator) -> None:
    """A valid safetensors file with tensors of other shapes, types or numbers, signed."""
    file = folder / _pick(rng, TENSOR_FILES)
    tensors = load(file.read_bytes())
    name = _pick(rng, sorted(tensors))
    array, kind = tensors[name], int(rng.integers(8))
    if kind == 0:
        tensors[name] = array[None]
    elif kind == 1:
        tensors[name] = array.ravel()[:-1] if array.size > 1 else np.zeros(7, dtype=array.dtype)
    elif kind == 2:
        tensors[name] = np.broadcast_to(array.ravel()[:1], (50, *[1] * max(array.ndim - 1, 0))).copy()
    elif kind == 3:
        tensors[name] = array.astype(_pick(rng, ["float16", "int8", "uint8", "int32", "float64"]))
    elif kind == 4:
        tensors[name] = np.full_like(array, _pick(rng, [np.nan, np.inf, -np.inf, 1e300]) if array.dtype != bool else 1)
    elif kind == 5:
        tensors[name] = np.zeros((0, *array.shape[1:]), dtype=array.dtype)
    elif kind == 6:
        del tensors[name]
    else:
        tensors["fits/0/evil"] = array
    file.write_bytes(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}))
    signed(folder)


def other_weights(folder: Path, rng: np.random.Generator) -> None:
    """Bytes of weights changed and signed: the self-test has to detect it."""
    file = folder / WEIGHTS
    data = bytearray(file.read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    for place in rng.integers(start, len(data), size=200):
        data[place] ^= int(rng.integers(1, 256))
    file.write_bytes(data)
    signed(folder)


def json_value(folder: Path, rng: np.random.Generator) -> None:
    """One value or key of a JSON file changed and signed."""
    _change_json(folder / _pick(rng, JSON_FILES), rng)
    signed(folder)


def model_json(folder: Path, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        _change_json(folder / STRUCTURE, rng)
    signed(folder)


def json_text(folder: Path, rng: np.random.Generator) -> None:
    """Invalid JSON, too deep JSON, or JSON of another type, signed."""
    text = _pick(
        rng,
        ["[" * 100_000, "{" * 5000, '{"a":' * 3000 + "1" + "}" * 3000, "", "null", "[]", "NaN", '{"a":1,"a":2}',
         '{"connectome_tl": Infinity}', "\ufeff{}", '"' + "a" * 1_000_000 + '"', "1" * 5000, "\x00", "true"],
    )  # fmt: skip
    (folder / _pick(rng, JSON_FILES)).write_text(text)
    signed(folder)


def long_text(folder: Path, rng: np.random.Generator) -> None:
    """A long text or key in a JSON file, narrow or as wide as one character makes it, raw or as an escape, signed."""
    last = _pick(rng, ["", "\u00e9", "\u2019", "\U0001f600"])
    text = "a" * int(_pick(rng, [10_000, 60_000, 120_000, 1_000_000])) + last
    place = _pick(rng, ["a new key", "title", "name"])
    name = METADATA if place == "title" else _pick(rng, JSON_FILES)
    content = json.loads((folder / name).read_text())
    owner = content["connectome_tl"] if place == "title" else content
    owner.update({text: 1} if place == "a new key" else {place: text})
    (folder / name).write_text(json.dumps(content, ensure_ascii=bool(rng.random() < 0.5)))
    signed(folder)


def large_network(folder: Path, rng: np.random.Generator) -> None:
    """Settings or sizes that require a network far larger than its weights, signed."""
    wanted = ("width", "embedding", "fused_width", "n_layers", "n_regions", "n_measures", "n_columns", "n_features")
    key = _pick(rng, list(wanted))
    found = 0

    def enlarge(value: Any) -> None:
        nonlocal found
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            enlarge(one)
        if isinstance(value, dict) and key in value:
            value[key], found = int(_pick(rng, [8, 10**6, 10**9, 10**12])), found + 1

    _edit(folder / STRUCTURE, enlarge)
    if not found:
        _change_json(folder / STRUCTURE, rng)
    signed(folder)


def false_validation(folder: Path, rng: np.random.Generator) -> None:
    text = _pick(rng, ["{}", "[]", "x", json.dumps({"bundle": "0" * 64}), "[" * 10_000, "a" * 2_000_000])
    (folder / VALIDATION).write_text(text)


UNSIGNED: tuple[Mutation, ...] = (
    flipped_bytes, cut_or_longer, file_gone, strange_file, path_trick, size_claim, manifest_value, false_validation,
)  # fmt: skip
SIGNED: tuple[Mutation, ...] = (
    tensor_header, tensor_shape, other_weights, json_value, model_json, json_text, long_text, large_network,
    files_swapped,
)  # fmt: skip
MUTATIONS = (*UNSIGNED, *SIGNED)


def _edit(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def _change_json(file: Path, rng: np.random.Generator) -> None:
    content = json.loads(file.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            if isinstance(item, (dict, list)):
                walk(item)

    walk(content)
    owner, key = _pick(rng, places)
    kind = int(rng.integers(4))
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, dict):
        owner[_pick(rng, ["__class__", "__reduce__", "x", ""])] = owner.pop(key)
    elif kind == 2 and isinstance(owner[key], (int, float)) and not isinstance(owner[key], bool):
        owner[key] = owner[key] * 3 + 1
    else:
        owner[key] = _pick(rng, VALUES)
    file.write_text(json.dumps(content))


@dataclass(frozen=True)
class Outcome:
    """`word` is refused, consistent (signed, with the stated predictions), or a failure."""

    word: str
    mutation: str
    detail: str = ""
    memory: int = 0  # peak of Python's and numpy's memory while it was opened, bytes
    size: int = 0  # of the mutant, bytes


WATCHED = (
    "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class", "marshal.loads",
    "socket.connect", "os.remove", "os.rename", "os.mkdir", "shutil.rmtree", "ctypes.dlopen",
)  # fmt: skip


class _Watch:
    """Events in this process that opening a bundle must not cause; hooks cannot be removed."""

    def __init__(self) -> None:
        self.on, self.seen = False, []  # type: ignore[var-annotated]
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in WATCHED:
            self.seen.append(f"{event} {arguments!r}"[:200])
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.seen.append(f"written: {arguments[0]!r}"[:200])
        if event == "exec" and "site-packages" not in str(arguments[0]) and "connectome_tl" not in str(arguments[0]):
            code = getattr(arguments[0], "co_filename", "")
            if not code.startswith((sys.base_prefix, "<frozen")):
                self.seen.append(f"exec {arguments[0]!r}"[:200])


_WATCH: list[_Watch] = []


def judged(bundle: Path, seed: int, folder: Path, *, memory: bool = False) -> Outcome:
    """Damage a copy of the bundle, open it, and return the result."""
    if not _WATCH:
        _WATCH.append(_Watch())
    watch, rng = _WATCH[0], np.random.default_rng([seed, 7])
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy = folder / "bundle"
    shutil.copytree(bundle, copy)
    mutation(copy, rng)
    size = sum(path.lstat().st_size for path in copy.rglob("*") if path.is_file() and not path.is_symlink())
    before = _listing(folder)
    if memory:
        tracemalloc.start()
    watch.seen.clear()
    watch.on = True
    try:
        open_bundle(copy)
        word, detail = ("consistent" if mutation in SIGNED else "accepted although not signed"), ""
    except ConnectomeTLError as error:
        word, detail = "refused", str(error)
        if error.exit_code != 65:
            word = f"exit code {error.exit_code}"
    except BaseException as error:  # the tested property is that there is none
        word, detail = "traceback", f"{type(error).__name__}: {error}"
    finally:
        watch.on = False
    peak = 0
    if memory:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if watch.seen:
        word, detail = "executed or written", watch.seen[0]
    elif _listing(folder) != before:
        word, detail = "executed or written", "files changed"
    return Outcome(word, mutation.__name__, detail, peak, size)


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))
