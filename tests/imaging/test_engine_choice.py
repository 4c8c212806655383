"""`engine: auto` uses ANTs only where measurements support it, and reports why; explicit settings are obeyed."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register import choice
from connectome_tl.imaging.register.bias import BiasField
from connectome_tl.imaging.register.choice import choose_engine
from connectome_tl.settings.imaging import RegistrationSettings

EVEN, UNEVEN = BiasField("smooth", 5.0), BiasField("none", 5.0)
IMAGE = Volume(np.ones((4, 4, 4)), np.eye(4))
SHEARED = Volume(np.ones((4, 4, 4)), np.eye(4) + np.eye(4, k=1) * [[0.2], [0], [0], [0]])


@pytest.mark.parametrize(
    ("contrasts", "bias", "image", "engine", "why"),
    [
        (("T2w", "T2w"), EVEN, IMAGE, "ants", "both images are T2w"),
        (("T1w", "T2w"), EVEN, IMAGE, "dipy", "T1w and the template T2w"),
        ((None, "T2w"), EVEN, IMAGE, "dipy", "not known"),
        (("T1w", "T1w"), UNEVEN, IMAGE, "dipy", "bias field of 5.0"),
        (("T1w", "T1w"), EVEN, SHEARED, "dipy", "right angles"),
    ],
)
def test_auto_goes_by_contrast_and_bias(
    contrasts: tuple[str | None, str | None],
    bias: BiasField,
    image: Volume,
    engine: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "ants_is_installed", lambda: True)
    found = choose_engine(RegistrationSettings(), contrasts, bias, (image, IMAGE))
    assert found.name == engine
    assert why in found.why
    assert found.record() == {"Name": engine, "Why": found.why}


def test_without_antspyx_auto_takes_the_own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ants_is_installed", lambda: False)
    found = choose_engine(RegistrationSettings(), ("T2w", "T2w"), EVEN, (IMAGE, IMAGE))
    assert found.name == "dipy"
    assert "antspyx is not installed" in found.why


def test_an_engine_that_is_named_is_taken() -> None:
    settings = RegistrationSettings(engine="ants")
    assert choose_engine(settings, ("T1w", "T2w"), UNEVEN, (SHEARED, IMAGE)).name == "ants"


def test_with_a_lesion_auto_takes_the_own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole command: tests/workflows/test_lesion_in_connectomes.py."""
    monkeypatch.setattr(choice, "ants_is_installed", lambda: True)
    found = choose_engine(RegistrationSettings(), ("T2w", "T2w"), EVEN, (IMAGE, IMAGE), lesion=True)
    assert (found.name, "lesion" in found.why) == ("dipy", True)
