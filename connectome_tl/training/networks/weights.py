"""Read pretrained weight files of encoders.

A `.pth` file is read only here, by torch's weights-only reader, then checked and written as safetensors, which is used
afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.nn.encoders.volumes import VolumeBranch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.provenance import write_bytes
from connectome_tl.settings.images.volumes import ImageEncoder

LARGEST = 2 << 30  # largest size of a weight file in bytes
LEAST_SHARE = 0.95  # smallest fraction of the encoder's entries that a file must contain
_LEVELS = 4  # most dictionaries around the weights
_KINDS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "net.", "branches.image.net.")
_OBJECT = re.compile(r"(?:GLOBAL|class) ([\w.]+)")  # what torch's reader refuses to build
_BIAS = "downsample.0.bias"  # of the convolution of a shortcut
_HEADS = ("fc.", "conv_seg.", "classifier.", "head.")


@dataclass(frozen=True)
class Loaded:
    """Result of loading a file into a network: names of entries.

    Attributes:
        loaded: loaded entries. missing: entries of the network that are not in the file. refused: entries of the
            file that were not loaded (different shape, unknown, or a head).
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the network's entries that were loaded."""
        return len(self.loaded) / max(1, len(self.loaded) + len(self.missing))


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file by name, unwrapped, without prefixes that wrappers add.

    Raises:
        MissingInputError: no such file.
        DataError: too large, not a file of weights, or one that would run code on load; tensors that are not plain
            arrays of real numbers, or two different ones of one name.
    """
    path = Path(file)
    if not path.is_file():
        raise MissingInputError("weight file not found", file=path)
    if path.stat().st_size > LARGEST:
        raise DataError("the weight file is too large", expected=f"at most {LARGEST >> 20} MiB", file=path)
    content: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises many kinds of errors for other files
        raise DataError(
            f"not a file of weights only: {_reason(error)}",
            expected=".safetensors, or what torch.save writes of a state_dict",
            file=path,
            remedy="Only tensors are read: a file of a whole model or other objects can run code when it is loaded.",
        ) from error
    for _ in range(_LEVELS):
        if not isinstance(content, dict) or any(isinstance(value, Tensor) for value in content.values()):
            break
        content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), dict)), None)
    tensors = content.items() if isinstance(content, dict) else ()
    return _plain({str(name): value for name, value in tensors if isinstance(value, Tensor)}, path)


def _plain(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Tensors by their bare names, all of them dense arrays of real numbers that fit into memory."""
    if not tensors:
        raise DataError("the file has no named tensors", expected="a state_dict", file=file)
    odd = [
        name
        for name, value in tensors.items()
        if value.layout != torch.strided or value.is_nested or value.device.type != "cpu" or value.dtype not in _KINDS
    ]
    if odd:
        raise DataError(
            f"tensors are not dense arrays of real numbers: {_some(odd)}",
            file=file,
            remedy="Save the weights in single precision: not sparse, nested, quantised or complex, nor on the device "
            "`meta`.",
        )
    # A view may be much larger than its file.
    if sum(value.numel() * value.element_size() for value in tensors.values()) > LARGEST:
        raise DataError("the weights are too large", expected=f"at most {LARGEST >> 20} MiB", file=file)
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        bare = _bare(name)
        if bare in found and not torch.equal(found[bare], value):
            raise DataError(f"different weights are named {bare} without prefixes", got=name, file=file)
        found[bare] = value
    return found


def _reason(error: Exception) -> str:
    """What is wrong with a file, without torch's advice on loading it in spite of that."""
    if named := _OBJECT.search(str(error)):
        return f"it contains objects of {named[1]}"
    return "it is damaged, cut off or of another format"


def load_into(net: nn.Module, weights: Mapping[str, Tensor], file: str | Path = "") -> Loaded:
    """Load every entry with the same name and shape.

    Raises:
        DataError: less than 95 % of the network's entries were found, a convolution is missing, the file has further
            ones or biases of shortcuts, an entry has another shape or no floating-point numbers, or a value is not
            finite; the network is then not changed.
    """
    own = net.state_dict()
    weights = _absorbed(weights, own)
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    taken = {n: t.to(own[n].dtype) for n, t in weights.items() if n in own and _fits(t, own[n])}
    missing = tuple(sorted(wanted - set(taken)))
    refused = tuple(sorted(set(weights) - set(taken)))
    found = Loaded(tuple(sorted(set(taken) & wanted)), missing, refused)
    body = [name for name in missing if not name.startswith(_HEADS)]
    # A single convolution that remains random, or one of the file that is left out, makes those behind it useless.
    needed = [name for name in body if name in weights or own[name].ndim > 2]
    parts = {name.split(".")[0] for name in own}
    strange = [n for n in refused if n not in own and n.split(".")[0] in parts]
    further = [n for n in strange if weights[n].ndim > 2 or n.endswith(_BIAS)]
    if further and found.share >= LEAST_SHARE:
        raise DataError(
            f"the file has weights of convolutions that the encoder has not: {_some(further)}",
            file=file or None,
            remedy="Give the encoder the kind, depth, shortcut and norm that the file was made with.",
        )
    if found.share < LEAST_SHARE or needed:
        differ = [f"{n} is {_kind(weights[n])}, not {_kind(own[n])}" for n in missing if n in weights]
        unknown = [n for n in refused if not n.startswith(_HEADS) and n not in own]
        raise DataError(
            f"only {len(found.loaded)} of {len(wanted)} of the encoder's weights are in the file",
            expected=f"at least {LEAST_SHARE:.0%}, and all convolutions",
            got="; ".join(
                part
                for part in (
                    f"missing: {_some(missing)}",
                    f"other shapes: {_some(differ)}" if differ else "",
                    f"unknown: {_some(unknown)}" if unknown else "",
                )
                if part
            ),
            file=file or None,
            remedy="Give the encoder the depth, width, shortcut and norm (batch, for MedicalNet) that the file was "
            "made with.",
        )
    if not all(bool(t.isfinite().all()) for t in taken.values()):
        raise DataError("weights are not finite", file=file or None, remedy="The file is damaged; fetch it again.")
    net.load_state_dict({**own, **taken})
    return found


def _absorbed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with biases of shortcuts, which MONAI has by default, subtracted from the means of the batch
    normalisation behind them: the network computes the same function."""
    found = dict(weights)
    for name in [one for one in found if one.endswith(_BIAS) and one not in own]:
        mean = f"{name.removesuffix(_BIAS)}downsample.1.running_mean"
        if mean in own and mean in found and found[mean].shape == found[name].shape:
            found[mean] = found[mean] - found.pop(name)
    return found


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and given.is_floating_point() == own.is_floating_point()


def _kind(tensor: Tensor) -> str:
    whole = "" if tensor.is_floating_point() else " of whole numbers"
    return f"{tuple(tensor.shape)}{whole}"


def keep_as_safetensors(source: str | Path, file: Path) -> Path:
    """Write the tensors of a weight file as safetensors, once."""
    if not file.is_file():
        from safetensors.torch import save

        tensors = {name: value.contiguous().clone() for name, value in sorted(read_weights(source).items())}
        write_bytes(file, save(tensors))
    return file


def start_from_files(model: OutcomeModel, branches: Mapping[str, object]) -> None:
    """Load the weight files of the encoder settings into the branches of a new model."""
    for name, branch in model.branches.items():
        start_branch(branch, branches.get(name))


def start_branch(branch: nn.Module, settings: object) -> None:
    """Load the weight file of its settings, if any, into a branch on volumes."""
    if isinstance(settings, ImageEncoder) and settings.weights and isinstance(branch, VolumeBranch):
        load_into(branch.net, read_weights(settings.weights), settings.weights)


def _bare(name: str) -> str:
    while True:
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return name
        name = name.removeprefix(prefix)


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
