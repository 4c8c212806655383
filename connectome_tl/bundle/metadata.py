"""`configs/metadata.json`: keys of a MONAI bundle, and those of this package under `connectome_tl`."""

from __future__ import annotations

from typing import Any

from connectome_tl.errors import DataError
from connectome_tl.settings.records.bundles import RESEARCH_ONLY, BundleFacts, Span
from connectome_tl.tasks import Task

BUNDLE_VERSION = "1.0.0"


def metadata_of(facts: BundleFacts) -> dict[str, Any]:
    """A superset of MONAI's bundle metadata; this package reads only the key `connectome_tl`."""
    outcomes = ", ".join(one.task.label for one in facts.tasks)
    versions = facts.versions
    return {
        "version": BUNDLE_VERSION,
        "changelog": {BUNDLE_VERSION: "first release of this model"},
        "monai_version": versions.get("monai", "not needed"),
        "pytorch_version": versions.get("torch", "not installed"),
        "numpy_version": versions.get("numpy", ""),
        "required_packages_version": {
            name: value for name, value in versions.items() if name not in ("numpy", "torch", "monai")
        },
        "name": facts.title,
        "task": f"prediction of {outcomes}",
        "description": f"{facts.model_label} of a study of {facts.n_subjects} {facts.noun}: "
        f"{'the mean over ' + str(facts.n_fits) + ' fits' if facts.fit == 'mean' else 'one refit on all'}. "
        f"{RESEARCH_ONLY.capitalize()}.",
        "authors": facts.authors or "not stated",
        "copyright": facts.licence or "not stated",
        "intended_use": RESEARCH_ONLY,
        "data_type": _data_type(facts),
        "network_data_format": {"inputs": _inputs(facts), "outputs": _outputs(facts)},
        "connectome_tl": facts,
    }


def facts_of(metadata: dict[str, Any]) -> BundleFacts:
    """The facts of a bundle's metadata.

    Raises:
        DataError: the metadata have other keys than those of a bundle.
    """
    facts = BundleFacts.model_validate(metadata["connectome_tl"])
    if strange := sorted(metadata.keys() ^ metadata_of(facts).keys()):
        raise DataError("the metadata have other keys than those of a bundle", got=strange[0][:100])
    return facts


def _data_type(facts: BundleFacts) -> str:
    kinds = {"connectomes": facts.inputs.regions, "volumes": facts.inputs.image, "covariates": True}
    words = [name for name, there in kinds.items() if there]
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def _inputs(facts: BundleFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if facts.inputs.regions:
        n_regions, spans = len(facts.inputs.regions), facts.limits.mean_weight
        found["connectome"] = {
            "type": "matrix",
            "format": ", ".join(facts.inputs.measures),
            "num_channels": len(facts.inputs.measures),
            "spatial_shape": [n_regions, n_regions],
            "dtype": "float32",
            "value_range": [],
            "mean_range": [[span.low, span.high] for span in spans],
            "is_patch_data": False,
            "channel_def": {str(i): measure for i, measure in enumerate(facts.inputs.measures)},
        }
    image = facts.inputs.image
    if image is not None:
        found["image"] = {
            "type": "image",
            "format": image.contrast or "not stated",
            "modality": "MR",
            "num_channels": 1,
            "spatial_shape": list(image.grid.shape3),
            "dtype": "float32",
            "value_range": [],
            "is_patch_data": False,
            "channel_def": {"0": image.contrast or "volume"},
        }
    if "clinical" in facts.inputs.modalities:
        needed = [one for one in facts.limits.covariates if one.needed]
        found["clinical"] = {
            "type": "table",
            "format": "covariates",
            "num_channels": len(needed),
            "spatial_shape": [len(needed)],
            "dtype": "float32",
            "value_range": [_range(one.span) for one in needed],
            "is_patch_data": False,
            "channel_def": {
                str(i): f"{one.column}{f' ({one.unit})' if one.unit else ''}" for i, one in enumerate(needed)
            },
        }
    return found


def _range(span: Span | None) -> list[float]:
    return [] if span is None else [span.low, span.high]


def _outputs(facts: BundleFacts) -> dict[str, Any]:
    tasks = [one.task for one in facts.tasks]
    names = [name for task in tasks for name in _columns(task)]
    return {
        "pred": {
            "type": "probabilities" if all(task.n_levels for task in tasks) else "probabilities and values",
            "format": "one column per outcome, or per level of it",
            "num_channels": len(names),
            "spatial_shape": [len(names)],
            "dtype": "float64",
            "value_range": [0, 1] if all(task.n_levels for task in tasks) else [],
            "is_patch_data": False,
            "channel_def": {str(i): name for i, name in enumerate(names)},
        }
    }


def _columns(task: Task) -> list[str]:
    return [f"{task.name}: {level}" for level in task.levels] if task.spec.by_level else [task.label]
