"""Records of scores with intervals, and of numbers that may be undefined."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator

from connectome_tl.settings.base import Record


def _undefined(value: object) -> object:
    return math.nan if value is None else value


NOT_ESTIMABLE = "not estimable"  # text for an undefined number

# A number that may be undefined: NaN in memory, null in JSON.
Number = Annotated[float, BeforeValidator(_undefined)]


class Score(Record):
    """One score with its intervals, as in `scores.json`. NaN if undefined (for example, with a single class).

    `low` and `high` are the interval for this procedure on a new cohort of this size, `fitted_low` and `fitted_high`
    that for this fitted model on new subjects.
    """

    task: str
    model: str
    metric: str  # a name of `settings.metrics`
    value: Number
    low: Number
    high: Number
    n: int
    n_positive: int | None = None
    per_level: tuple[int, ...] = ()  # subjects of each level, for ordinal and multiclass tasks
    method: str = ""
    reason: str = ""  # reason why it, or its interval, is undefined, or equal predictions
    fitted_low: Number = math.nan
    fitted_high: Number = math.nan
    fitted_method: str = ""
