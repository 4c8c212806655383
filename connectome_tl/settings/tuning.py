"""Settings of the search space of `tune`, and of the results of a search."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Field, model_validator

from connectome_tl.settings.base import Record, Settings, given_of
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import Confounds, EdgeSettings, HarmoniseSettings
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.records.scores import Number
from connectome_tl.settings.training import Stages
from connectome_tl.wording import models_in

# Settings of fits. Cohorts, splits, seeds and results cannot be tuned.
_SECTIONS: dict[str, type[BaseModel]] = {
    "model": ModelSettings,
    "core": CoreSettings,
    "stages": Stages,
    "confounds": Confounds,
    "harmonise": HarmoniseSettings,
    "edges": EdgeSettings,
    "image": ImageSettings,
}
TUNABLE = tuple(_SECTIONS)
# Whole stages determine the models of a study; transductive results must be marked as such.
_IMAGE = ("image.augment", "image.flip_test")
_LEAK = "stages.finetune.ensemble.choose_on"
_FIXED = ("stages", "stages.pretrain", "stages.adapt", "stages.adapt.transductive", _LEAK, "model.others")


def tunable_keys() -> tuple[str, ...]:
    """Dotted keys of `study.yaml` that a search space may name, registered extensions included."""
    return tuple(key for key in _every_key() if not _is_fixed(key))


def _every_key() -> dict[str, None]:
    return {key: None for name, section in _SECTIONS.items() for key in (name, *_below(section, (name,)))}


def _is_fixed(key: str) -> bool:
    # Grids are computed once, when the cohorts are read; augmentation in training may differ between trials.
    return key in _FIXED or (key.split(".")[0] == "image" and not key.startswith(_IMAGE))


def _below(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[str]:
    for field in model.model_fields:
        if field != "kind":
            yield from _keys(model, field, above)


def _keys(model: type[BaseModel], name: str, above: tuple[str, ...]) -> Iterator[str]:
    here = (*above, name)
    yield ".".join(here)
    annotation = model.model_fields[name].annotation
    if _is_mapping(annotation):
        yield ".".join((*here, "*"))
    for below in models_in(annotation):
        yield from _below(below, here)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(_is_mapping(inner) for inner in get_args(annotation))


def _known_key(key: str) -> str:
    known = tunable_keys()
    if key in known or f"{key.rpartition('.')[0]}.*" in known:
        return key
    if key.split(".")[0] == "image" and key in _every_key():
        raise ValueError(f"cannot be tuned: it decides how the volumes are read; {', '.join(_IMAGE)} can")
    if key in _FIXED:
        raise ValueError("cannot be tuned: it decides which models the study has, or what its scores mean")
    block, _, last = key.rpartition(".")
    if last == "kind" and block in known:
        raise ValueError(f"give whole blocks as choices: {block}: {{choices: [{{kind: ...}}, {{kind: ...}}]}}")
    near = _nearest(key, known)
    meant = f". Did you mean {near}?" if near else ""
    if key.split(".")[0] not in TUNABLE:
        raise ValueError(f"cannot be tuned; keys below {', '.join(TUNABLE)} can{meant}")
    raise ValueError(f"unknown key of study.yaml{meant}")


def _nearest(key: str, known: Collection[str]) -> str | None:
    """The complete key that one in other letters, with a part left out or with initials (`lr`) probably stands for."""
    plain = re.sub(r"[\s/]+", ".", key.strip().lower())
    *_, last = plain.split(".")
    ends = [one for one in known if last in (own := one.rpartition(".")[2], "".join(w[:1] for w in own.split("_")))]
    return next(iter(difflib.get_close_matches(plain, ends or known, n=1, cutoff=0.0 if ends else 0.6)), None)


SpaceKey = Annotated[str, AfterValidator(_known_key)]
Scalar = bool | int | float | str | None


class Dimension(Settings):
    """One dimension of the search space: a range of numbers, or a list of values.

    A range between two integers contains integers. `log` samples on the logarithmic scale. A choice may be any YAML
    value, for example a block: `{kind: flat, widths: [64, 16]}`.
    """

    @model_validator(mode="before")
    @classmethod
    def _asks_for_a_block(cls, value: Any) -> Any:
        if isinstance(value, list):
            raise ValueError(f"write choices: {json_text(value)} or low and high below the key")
        if isinstance(value, dict) and any(isinstance(value.get(key), dict) for key in value.keys() - cls.model_fields):
            raise ValueError("write the complete key with points, as stages.finetune.training.learning_rate: {low: ...")
        return value

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _one_form(self) -> Dimension:
        if (self.low is None) != (self.high is None) or (self.low is None) == (not self.choices):
            raise ValueError("give low and high, or choices")
        if self.choices:
            if self.log:
                raise ValueError("log goes with low and high")
            labels = self.labels
            if len(labels) < 2 or any(a == b for i, a in enumerate(labels) for b in labels[:i]):
                raise ValueError("choices are at least two different values; a single one is set in the study itself")
        elif self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ValueError("low must be below high")
            if self.log and self.low <= 0:
                raise ValueError("a logarithmic range starts above 0")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether the range consists of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def labels(self) -> tuple[Scalar, ...]:
        """The choices as stored in the database of trials: a block or a list as JSON text."""
        plain = (bool, int, float, str, type(None))
        return tuple(choice if isinstance(choice, plain) else json_text(choice) for choice in self.choices)

    @property
    def tested(self) -> tuple[Any, ...]:
        """All choices, or both ends of a range and, in a range of fractions, a fraction between them."""
        if self.low is None or self.high is None:
            return self.choices
        ends = (self.low, self.high)
        return ends if self.is_integer else (*ends, self.low + (self.high - self.low) / math.pi)

    def value(self, label: Any) -> Any:
        """The setting of a value in the database of trials."""
        return self.choices[self.labels.index(label)] if self.choices else label


def json_text(value: Any) -> str:
    """A setting as one line of JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


class TuneSettings(Settings):
    """Settings of `tune`. There is a separate search for each outer fold, on its inner folds.

    Args:
        space: search space by dotted key of study.yaml.
        trials: number of completed trials per outer fold.
        model: model whose score is optimised.
        task: outcome whose score is optimised; null for the first binary one, else the first.
        objectives: metrics; the trial with the best mean rank is chosen. Empty for the task's primary metric.
        sampler: `tpe` uses earlier trials, `random` does not.
        startup: number of random trials before `tpe` uses earlier trials.
        prune: stop a trial after an inner fold (from the second of three or more) if it is worse than the median of
            the completed trials; `inside` also stops it during a fit, at a checkpoint of its first network, if it is
            in the worst quarter, and fits networks one after another (only with a single objective).
    """

    space: dict[SpaceKey, Dimension] = Field(min_length=1)
    trials: Annotated[int, Field(ge=1, le=100_000)] = 30
    model: Literal["full", "core", "network"] = "full"
    task: str | None = None
    objectives: tuple[str, ...] = Field(default=(), max_length=3)
    sampler: Literal["tpe", "random"] = "tpe"
    startup: Annotated[int, Field(ge=1)] = 10
    prune: bool | Literal["inside"] = True

    @model_validator(mode="after")
    def _one_key_one_place(self) -> TuneSettings:
        for key in self.space:
            below = [other for other in self.space if other.startswith(f"{key}.")]
            if below:
                raise ValueError(f"space names both {key} and {below[0]}, which is part of it; give one of them")
        return self

    @model_validator(mode="after")
    def _metrics_have_a_direction(self) -> TuneSettings:
        directed = [name for name, metric in METRICS.items() if metric.sign]
        wrong = [name for name in self.objectives if name not in directed]
        if wrong:
            raise ValueError(f"objectives: no metric {wrong[0]!r} to be tuned; metrics are {', '.join(directed)}")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives: a metric occurs twice")
        return self

    @model_validator(mode="after")
    def _all_act(self) -> TuneSettings:
        if self.sampler == "random" and given_of(self, ("startup",)):
            raise ValueError("startup has no effect with sampler: random; remove one of them")
        if self.prune == "inside" and (self.model == "core" or len(self.objectives) > 1):
            why = "several objectives" if len(self.objectives) > 1 else "model: core, which has no checkpoints"
            raise ValueError(f"prune: inside has no effect with {why}; write prune: true")
        return self


class FoldChoice(Settings):
    """Result of the search for one outer fold: the best trial, its inner scores and its settings by dotted key."""

    repeat: Annotated[int, Field(ge=0)]
    fold: Annotated[int, Field(ge=0)]
    trial: Annotated[int, Field(ge=0)]
    values: tuple[float, ...]
    settings: dict[SpaceKey, Any]


class Tuned(Settings):
    """Tuned settings per outer fold, with hashes of the study they belong to; other studies refuse them.

    Attributes:
        study, split_plan, data, code: hashes of the tuned study's settings, splits, cohorts and code.
        model, task, objectives: definition of the optimised score.
        trials: completed trials per fold, at least. sampler: name of the sampler.
        folds: one record per outer fold.
    """

    study: str
    split_plan: str
    data: str
    code: str = ""
    model: str
    task: str
    objectives: tuple[str, ...]
    trials: int
    sampler: str
    folds: tuple[FoldChoice, ...]

    def settings_of(self, repeat: int, fold: int) -> dict[str, Any] | None:
        """Tuned settings of one outer fold by dotted key, or None."""
        return next((dict(one.settings) for one in self.folds if (one.repeat, one.fold) == (repeat, fold)), None)


class TrialRecord(Record):
    """One trial: its settings, as stored in the database, and its inner scores.

    `values` is empty for a stopped trial; `reached` is then its score after the last completed inner fold.
    """

    repeat: int
    fold: int
    trial: int
    state: Literal["complete", "stopped"]
    params: dict[str, Scalar]
    values: tuple[Number, ...] = ()
    reached: Number = math.nan
    why: str = ""


class SearchRecord(Record):
    """Contents of the page of a search."""

    title: str
    outcome: str
    noun: str
    space: dict[str, Dimension]
    tuned: Tuned
    trials: tuple[TrialRecord, ...]
    simulated: bool = False
    transductive: bool = False
    exploratory: bool = False


class Optimism(Record):
    """Inner scores of the best trials and score on the outer test folds, for one model, task and metric.

    `inner` is the mean over outer folds; `difference` is positive if the inner scores are optimistic.
    """

    task: str
    model: str
    metric: str
    inner: Number
    outer: Number
    low: Number
    high: Number
    difference: Number
