"""Pages of voxel maps and of pruned networks."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from connectome_tl.report.figures.drawing import to_url
from connectome_tl.report.figures.label_maps import labelled_slices
from connectome_tl.report.figures.voxels import MapImages, overlays
from connectome_tl.report.volume_pages import render_maps, render_pruning, render_segmentation
from connectome_tl.settings.records.segmentation import SegmentationRecord
from connectome_tl.settings.records.volume_maps import VolumeMap, VolumeMapsRecord
from connectome_tl.settings.records.volume_pruning import PrunedNetwork, VolumePruningRecord

FILE = "0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e.safetensors"


@dataclass
class Study:
    title: str = "newborns"
    simulated: bool = False
    transductive: bool = False
    exploratory: bool = False


def mean_map(kind: str = "noise", **changed: object) -> VolumeMap:
    values = {"n_subjects": 20, "deletion": 0.314, "insertion": 0.526, "random_deletion": 0.22, "random_insertion": 0.4}
    more = {"agreement": 0.61, "randomised": 0.12, "file": f"injury_{kind}.nii.gz"}
    return VolumeMap.model_validate({"task": "injury", "kind": kind, **values, **more, **changed})


def maps_page(*maps: VolumeMap, withheld: dict[str, str] | None = None, seed: int = 0) -> str:
    inside = np.zeros((12, 14, 10), dtype=bool)
    inside[2:-2, 2:-2, 2:-2] = True
    images = {one.file: np.random.default_rng(seed).normal(size=inside.shape) for one in maps}
    record = VolumeMapsRecord(model="network", maps=maps, withheld=withheld or {})
    volume = np.where(inside, np.random.default_rng(1).random(inside.shape), 0.0)
    grid = {
        "backgrounds": {"injury": volume},
        "inside": {"injury": inside},
        "affines": {"injury": np.diag([8, 8, 8, 1])},
    }
    return render_maps(MapImages(record, images, **grid), Study(simulated=True), {"injury": "Injury on MRI"})


def network(**changed: object) -> PrunedNetwork:
    values = {"fold": 0, "network": 1, "macs": (2e6, 1e6), "parameters": (3000, 1200), "seconds": (0.004, 0.002)}
    values["memory"] = (3 << 20, 1 << 20)
    losses = {"loss": 0.71, "tuned_loss": 0.65, "pruned_loss": 0.68}
    more = {
        "removed": {},
        "left_alone": {"head": "an output"},
        "steps": 100,
        "file": FILE,
    }
    return PrunedNetwork.model_validate({**values, **losses, **more, **changed})


def pruning_page(*networks: PrunedNetwork, low: float = -0.1, high: float = 0.2) -> str:
    record = VolumePruningRecord(task="injury", target=0.4, networks=networks, relative_loss=0.05, low=low, high=high)
    return render_pruning(record, Study(), "Injury on MRI")


def visible(page: str) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.S).split())


def test_a_map_is_drawn_with_its_checks_beside_those_of_random_maps() -> None:
    page = maps_page(mean_map("noise"), mean_map("occlusion"))
    (picture,) = re.findall(r'<img class="cuts" src="data:image/png;base64,([^"]+)"', page)
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50
    text = visible(page)
    assert "Injury on MRI" in text
    assert "learned noise 20 0.31 (0.22) 0.53 (0.40) 0.61 0.12 injury_noise.nii.gz" in text
    assert "Simulated data" in text


def test_heads_without_a_common_voxel_have_a_sentence_instead_of_a_black_picture() -> None:
    nowhere, values = np.zeros((12, 14, 10), dtype=bool), np.ones((12, 14, 10))
    figure = overlays([("noise", values)], values, nowhere, np.eye(4))
    assert [text.get_text() for text in figure.texts] == [
        "The heads of the subjects have no voxel in common: no mean map."
    ]
    assert not figure.axes


@pytest.mark.filterwarnings("ignore:empty mask")  # of nilearn, where the whole map is 0
@pytest.mark.parametrize("level", [0.0, 0.018, 0.5, 1.0])
def test_a_map_of_nearly_one_value_is_drawn(level: float) -> None:
    values = level * (1 + 1e-4 * np.random.default_rng(0).random((12, 12, 12)))
    figure = overlays([("noise", values)], values, np.ones((12, 12, 12), dtype=bool), np.eye(4))
    assert len(figure.axes) > 3


def test_another_map_gives_another_picture_and_equal_maps_equal_bytes() -> None:
    assert maps_page(mean_map()) == maps_page(mean_map()) != maps_page(mean_map(), seed=1)


def test_withheld_outcomes_are_named_with_their_reason_and_have_no_picture() -> None:
    page = maps_page(withheld={"injury": "AUC 0.38: not above <chance>"})
    assert "Injury on MRI: AUC 0.38: not above" in visible(page)
    assert "&lt;chance&gt;" in page
    assert "<img" not in page


def test_pruned_networks_are_compared_with_those_trained_as_long() -> None:
    text = visible(pruning_page(network()))
    assert "1 2 2.00 → 1.00 (−50 %) 3,000 → 1,200 3.0 → 1.0 0.71 0.65 0.68 " + FILE in text
    assert "+5 % [−10 %, +20 %]" in text
    assert "50 % of the multiply-accumulates removed" in text
    assert "head: an output" in text


def test_memory_below_a_mebibyte_is_not_rounded_to_zero() -> None:
    assert " 0.25 → 0.016 " in visible(pruning_page(network(memory=(1 << 18, 17_000))))


def test_one_fold_has_no_interval() -> None:
    text = visible(pruning_page(network(), low=float("nan"), high=float("nan")))
    assert "+5 %" in text
    assert "t interval" not in text


def segmentation_page(**changed: object) -> str:
    values = {"image": {"size": 16}, "settings": {}, "seed": 0, "labels": (10, 20), "contrast": "T1w", "fit": "a"}
    more = {"training": ("a", "b"), "images": ("x", "y"), "segmented": ("a", "b", "c"), "folds": 2}
    scores = [
        {"arm": arm, "label": label, "dice": 0.81, "low": 0.7, "high": 0.92, "n": 2}
        for arm in ("across", "none")
        for label in (None, 10, 20)
    ]
    differences = [{"arm": "across", "control": "none", "difference": -0.013, "low": -0.03, "high": 0.004}]
    record = {**values, **more, "scores": scores, "differences": differences, **changed}
    volume = np.random.default_rng(0).random((12, 14, 10))
    classes = np.zeros(volume.shape, dtype=int)
    classes[3:6, 3:9, 2:8], classes[6:9, 3:9, 2:8] = 1, 2
    figure = labelled_slices(volume, [("segmentation", classes), ("label map", classes)], (10, 20))
    return render_segmentation(
        SegmentationRecord.model_validate(record), Study(), [("a <b>: lowest Dice", to_url(figure))]
    )


def test_a_segmentation_is_shown_with_its_overlap_and_both_label_maps() -> None:
    page = segmentation_page()
    (picture,) = re.findall(r'<img class="cuts" src="data:image/png;base64,([^"]+)"', page)
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")).astype(int)
    coloured = np.ptp(drawn, axis=2) > 40
    assert len(np.unique(drawn[coloured], axis=0)) > 20
    left, right = np.array_split(coloured, 2, axis=0)
    assert left.any()
    assert right.any()
    text = visible(page)
    assert "across volumes mean of the labels 0.81 [0.70, 0.92] 2" in text
    assert "across volumes − none −0.013 [−0.030, +0.004]" in text
    assert "a &lt;b&gt;: lowest Dice" in page
    assert page == segmentation_page()


def test_a_segmentation_without_label_maps_has_slices_only() -> None:
    text = visible(segmentation_page(scores=(), differences=(), folds=0))
    assert "Overlap" not in text
    assert "Labels are drawn over the volume" in text
