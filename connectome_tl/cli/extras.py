"""Map a missing package to the optional extra that installs it."""

from __future__ import annotations

from connectome_tl.errors import MissingInputError

_EXTRAS = {
    "learn": ("torch", "torch_geometric", "safetensors", "optuna", "captum"),
    "voxel": ("monai", "torch_pruning", "lightning_fabric"),
    "cluster": ("dask", "distributed", "psycopg"),
}


def missing_extra(error: ModuleNotFoundError) -> MissingInputError | None:
    """The error for a missing package of an extra; None if it belongs to none."""
    package = (error.name or "").partition(".")[0]
    extra = next((name for name, packages in _EXTRAS.items() if package in packages), None)
    if extra is None:
        return None
    return MissingInputError(
        f"this command needs the package {package}, which is not installed",
        remedy=f"Install the extra: pip install 'connectome-tl[{extra}]'.",
    )
