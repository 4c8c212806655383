"""`fetch abide` is one call of nilearn's fetcher, and a missing network is one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectome_tl.errors import OutputError
from connectome_tl.workflows.data.fetch import fetch_abide


def test_nilearn_is_asked_for_time_series_in_the_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("nilearn.datasets.fetch_abide_pcp", lambda **given: asked.update(given))
    assert fetch_abide(tmp_path / "abide", n_subjects=3) == tmp_path / "abide"
    assert asked["data_dir"] == tmp_path / "abide"
    assert asked["n_subjects"] == 3
    assert asked["derivatives"] == ["rois_aal"]


def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**given: Any) -> None:
        raise OSError("name resolution failed")

    monkeypatch.setattr("nilearn.datasets.fetch_abide_pcp", broken)
    with pytest.raises(OutputError, match="network") as caught:
        fetch_abide(tmp_path)
    assert caught.value.exit_code == 74
