"""`auto` uses ANTs, and its local correlation, only where measurements support it; explicit settings are obeyed."""

from __future__ import annotations

from typing import Literal

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
    ("contrasts", "asked", "metric"),
    [
        (("T2w", "T2w"), "auto", "local"),
        (("T1w", "T2w"), "auto", "mutual"),
        ((None, None), "auto", "mutual"),
        (("T2w", "T2w"), "mutual", "mutual"),
        (("T1w", "T2w"), "local", "local"),
    ],
)
def test_the_metric_goes_by_contrast_unless_it_is_set(
    contrasts: tuple[str | None, str | None], asked: Literal["auto", "mutual", "local"], metric: str
) -> None:
    settings = RegistrationSettings(engine="ants", ants_metric=asked)
    assert choose_engine(settings, contrasts, EVEN, (IMAGE, IMAGE)).metric == metric


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
    found = choose_engine(RegistrationSettings(ants_metric="auto"), contrasts, bias, (image, IMAGE))
    assert found.name == engine
    assert why in found.why
    metric = {"Metric": "local correlation"} if engine == "ants" else {}
    assert found.record() == {"Name": engine, "Why": found.why, **metric}
    assert found.told() == f"Registered by {'ANTs with local correlation' if metric else 'dipy'} ({found.why})."


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
