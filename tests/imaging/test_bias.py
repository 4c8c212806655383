"""A planted bias field is detected and removed by either method; a missing package is reported."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from connectome_tl.errors import MissingInputError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register import bias
from connectome_tl.imaging.register.bias import Method, correct_bias

from .heads import brain, gain, head


def left_of(method: Method, ratio: float, lesion: np.ndarray | None = None) -> tuple[float, bias.BiasField]:
    """The remaining part of a planted field, relative to the correction of the image without a field."""
    image, _ = head()
    inside = image > 0 if lesion is None else (image > 0) & ~lesion
    sick = image if lesion is None else np.where(lesion & (image > 0), 5000.0, image)
    without, _ = correct_bias(brain(sick), method, lesion)
    with_it, found = correct_bias(brain(sick * gain(ratio)), method, lesion)
    rest = np.log(with_it.data[inside] / without.data[inside])
    low, high = np.percentile(rest, [2, 98])
    return float(np.exp(high - low)), found


@pytest.mark.parametrize("method", ["smooth", pytest.param("n4", marks=pytest.mark.slow)])
def test_a_field_of_nine_is_taken_out(method: Method) -> None:
    if method == "n4":
        pytest.importorskip("ants")
    left, found = left_of(method, 9.0)
    assert left < 1.5
    assert 6.5 < found.ratio < 12
    assert found.method == {"smooth": "smooth", "n4": "N4 (antspyx)"}[method]


def test_an_even_image_stays_nearly_even() -> None:
    image, _ = head()
    out, found = correct_bias(brain(image), "smooth")
    assert found.ratio < 1.3
    assert np.abs(np.log(out.data[image > 0] / image[image > 0])).max() < 0.3
    assert (out.data[image == 0] == 0).all()


def test_auto_leaves_a_weak_field_in_and_says_how_strong_it_is() -> None:
    image = brain(head()[0] * gain(1.6))
    out, found = correct_bias(image, "auto")
    assert out is image
    assert found.method == "none"
    assert 1.3 < found.ratio < bias.STRONG


def test_none_leaves_the_image_and_says_how_strong_its_field_is() -> None:
    image = brain(head()[0] * gain(5.0))
    out, found = correct_bias(image, "none")
    assert out is image
    assert found.method == "none"
    assert found.ratio > 3


def test_a_lesion_teaches_nothing_of_the_field() -> None:
    lesion = np.zeros(head()[0].shape, dtype=bool)
    lesion[10:22, 20:36, 12:30] = True
    assert left_of("smooth", 4.0, lesion)[0] < 1.3


def test_a_brain_of_few_voxels_is_left_as_it_is() -> None:
    tiny = np.zeros((8, 8, 8))
    tiny[2:6, 2:6, 2:6] = 5
    out, found = correct_bias(brain(tiny), "smooth")
    np.testing.assert_array_equal(out.data, tiny)
    assert found.record() == {"Method": "none", "Ratio": 1.0}


def test_without_n4_auto_takes_the_smooth_fit_and_n4_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bias, "find_spec", lambda _: None)
    assert correct_bias(brain(head()[0] * gain(6.0)), "auto")[1].method == "smooth"
    with pytest.raises(MissingInputError, match=r"registration\.bias_field: smooth"):
        correct_bias(brain(head()[0]), "n4")


def test_simpleitk_is_asked_where_antspyx_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a replacement with the same calls; the real one gives antspyx's fields (docs/decisions/0016-gate.md)."""
    asked: dict[str, object] = {}

    class Picture:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def SetSpacing(self, spacing: list[float]) -> None:
            asked["spacing"] = spacing

    class N4:
        def SetNumberOfThreads(self, n: int) -> None:
            asked["threads"] = n

        def SetMaximumNumberOfIterations(self, steps: list[int]) -> None:
            asked["steps"] = steps

        def SetConvergenceThreshold(self, value: float) -> None:
            asked["converged"] = value

        def Execute(self, image: Picture, mask: Picture) -> None:
            assert image.array.shape == mask.array.shape

        def GetLogBiasFieldAsImage(self, image: Picture) -> Picture:
            steps = np.linspace(-0.5, 0.5, image.array.shape[2])
            return Picture(np.broadcast_to(steps, image.array.shape))

    fake = ModuleType("SimpleITK")
    vars(fake).update(
        GetImageFromArray=Picture, GetArrayFromImage=lambda p: p.array, N4BiasFieldCorrectionImageFilter=N4
    )
    monkeypatch.setitem(sys.modules, "SimpleITK", fake)
    monkeypatch.setattr(bias, "find_spec", lambda name: object() if name == "SimpleITK" else None)
    image = brain(head()[0] * gain(6.0))
    out, found = correct_bias(image, "auto")
    assert found.method == "N4 (SimpleITK)"
    assert asked["threads"] == 1
    ratio = (image.data / np.where(out.data > 0, out.data, 1))[:, 28, 22]
    assert (np.diff(ratio[ratio > 0]) >= 0).all()  # the field increases along the first axis, as returned


def test_a_template_of_the_same_contrast_takes_anatomy_out_of_the_estimate() -> None:
    """Smooth differences between tissues, which both heads have, are neither counted nor corrected."""
    image, _ = head()
    place = np.indices(image.shape)[2] / image.shape[2]
    anatomy = image * np.exp(1.2 * (place - 0.5))
    template = Volume(anatomy.astype(np.float32), np.diag([-0.8, 0.8, 0.8, 1.0]))
    template.affine[:3, 3] = [30.0, -10.0, 5.0]
    assert correct_bias(brain(anatomy), "none")[1].ratio > 1.7
    even, found = correct_bias(brain(anatomy), "auto", like=template)
    assert found.method == "none"
    assert found.ratio < 1.1
    out, found = correct_bias(brain(anatomy * gain(4.0)), "auto", like=template)
    assert found.method == "smooth"
    rest = np.log(out.data[image > 0] / even.data[image > 0])
    low, high = np.percentile(rest, [2, 98])
    assert np.exp(high - low) < 1.3
