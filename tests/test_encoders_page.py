"""`docs/encoders.md` lists every accepted kind, and its YAML is accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import yaml

from connectome_tl.settings.encoders import AnyEncoder
from connectome_tl.settings.objectives import AnyObjective
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.training import Training

PAGE = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text("utf-8")


def rows_below(heading: str) -> set[str]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)`", section, flags=re.M))


def kinds(union: Any) -> set[str]:
    return {kind.model_fields["kind"].default for kind in get_args(get_args(union)[0])}


def test_every_kind_has_its_row() -> None:
    assert rows_below("Encoders") == kinds(AnyEncoder)
    assert rows_below("Objectives of stage 2") == kinds(AnyObjective)


def test_every_setting_that_is_named_exists() -> None:
    section = PAGE.split("\n## Training\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)(?:: \w+)?`", " ".join(re.findall(r"^\| (`[^|]*)\|", section, flags=re.M))))
    assert named
    assert named <= set(Training.model_fields)


def test_its_yaml_is_accepted() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.S)
    assert len(blocks) == 2
    for block in blocks:
        StudySettings.model_validate({"target": {"cohort": "t"}, **yaml.safe_load(block)})
    free = StudySettings.model_validate({"target": {"cohort": "t"}, **yaml.safe_load(blocks[0])})
    assert not free.model.encoder.is_atlas_bound
