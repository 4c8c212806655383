"""Find statements of a report page that exclude each other. Used by `contradictions.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from page_claims import (
    BETTER,
    HALF,
    LEVEL,
    NOTHING,
    UNCLEAR,
    WORSE,
    Claim,
    Outcome,
    claims_of,
    named,
    number,
    numbers,
    of_headline,
)
from page_reader import Node, read_page, rows_of, section

from connectome_tl.settings.models import MODELS


def contradictions(html: str, outcomes: Sequence[Outcome], terminal: Sequence[str] = ()) -> list[str]:
    """Statements of a page (and lines of the terminal) that exclude each other, one line each."""
    page = read_page(html)
    claims = claims_of(page, outcomes)
    for one, line in zip(outcomes, terminal, strict=bool(terminal)):
        claims += list(of_headline(line.removeprefix(f"{one.label}: "), one, "terminal"))
    by: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        by.setdefault(claim.about, []).append(claim)
    found = [line for about, some in by.items() for line in _apart(about, some)]
    for one in outcomes:
        found += _against_reference(one, by) + _ahead(page, one) + _tests(page, one)
    read = sum(claim.where == "headline" and claim.about[1] == "" and bool(claim.words) for claim in claims)
    read += sum(bool(LEVEL.search(part)) for part in next(page.all("p", "answer")).text.split("; "))
    unread = len(LEVEL.findall(page.text)) - read
    return found + ([f"{unread} statement(s) about chance in places that are not read"] if unread else [])


def _apart(about: tuple[str, str], claims: Sequence[Claim]) -> list[str]:
    """Claims on one quantity that exclude each other."""
    what = f"{about[0]}, {about[1] or 'score of full'}"
    said = [claim for claim in claims if claim.words]
    found = []
    if about[1] != "score of prevalence" and any(c.interval == (c.value, c.value) for c in claims if c.interval):
        found.append(f"{what}: an interval of no length")
    if said and not frozenset.intersection(*(claim.words for claim in said)):
        found.append(f"{what}: " + ", ".join(f"{c.where}: {' or '.join(sorted(c.words))}" for c in said))
    for name in ("value", "interval"):
        printed = {claim.where: getattr(claim, name) for claim in claims if getattr(claim, name) is not None}
        if len(set(printed.values())) > 1:
            found.append(f"{what}: {name} printed as {printed}")
    return found


def _against_reference(one: Outcome, by: Mapping[tuple[str, str], Sequence[Claim]]) -> list[str]:
    """Words against the printed interval, and the comparison with a constant model against the score's own interval."""
    found = []
    for about, claims in by.items():
        if about[0] != one.title or about[1].startswith(("score of", "a baseline")):
            continue
        interval = next((c.interval for c in claims if c.interval is not None), None)
        words = [c.words for c in claims if c.words]
        said = frozenset.intersection(*words) if words else frozenset()
        if interval is not None and len(said) == 1:
            low, high = (end - (one.chance if about[1] == "" else 0.0) for end in interval)
            fits = {BETTER: low > -HALF, WORSE: high < HALF, UNCLEAR: low < HALF and high > -HALF,
                    NOTHING: low < HALF and high > -HALF}  # fmt: skip
            word = next(iter(said))
            if not fits.get(word, True):
                found.append(f"{one.title}, {about[1] or 'score of full'}: {word}, but the interval is {interval}")
    own = next((c for c in by.get((one.title, ""), ()) if c.interval is not None), None)
    constant = next((c for c in by.get((one.title, "prevalence"), ()) if c.interval is not None), None)
    if own is not None and constant is not None and own.interval is not None and constant.interval is not None:
        apart = [abs(a - one.chance - b) for a, b in zip(own.interval, constant.interval, strict=True)]
        said = [c.words for c in (*by[one.title, ""], *by[one.title, "prevalence"]) if c.words]
        said = [one - {NOTHING} | {UNCLEAR} if NOTHING in one else one for one in said]  # chance has no band
        if max(apart) > 2 * HALF or not frozenset.intersection(*said):
            found.append(f"{one.title}: {own.interval}, but {constant.interval} against the prevalence, {said}")
    return found


def _ahead(page: Node, one: Outcome) -> list[str]:
    """The baseline that is named as better against the printed scores of all baselines."""
    cells = next(row for row in rows_of(next(page.all("table", "glance"))) if row[0].startswith(one.title))
    article = next(a for a in page.all("article", "task") if next(a.all("h3")).text.startswith(one.title))
    values = {}
    for row in rows_of(next(article.all("table", "forest"))):
        name, (value, _) = str(named(row[0])), numbers(row[2])
        if value is not None and (name == "full" or MODELS[name].role == "baseline"):
            values[name] = value
    full, answer = values.pop("full", None), next(page.all("p", "answer")).text
    if full is None:
        return []
    ahead = {name for name, value in values.items() if value > full}
    starts = [name for name in values if cells[2].startswith(MODELS[name].label)]
    told_ahead = max(starts, key=lambda name: len(MODELS[name].label), default=None)
    told = any(one.title in re.split(", | and ", part.partition(": ")[0]) and "scores lower than" in part
               for part in answer.split("; "))  # fmt: skip
    found = []
    if (told_ahead is None and ahead) or (told_ahead is not None and values[told_ahead] < max(values.values())):
        found.append(f"{one.title}: better baseline: {told_ahead}, but printed scores are {values}, full {full}")
    if told != (told_ahead is not None):
        found.append(f"{one.title}: a better baseline stands in one of summary and table only")
    return found


def _tests(page: Node, one: Outcome) -> list[str]:
    """The permutation test of the full model in the table, against the headline."""
    item = next(li for li in next(page.all("ul", "verdicts")).all("li") if li.text.startswith(f"{one.title}."))
    line, found = next(item.all("p")).text, []
    for table in section(page, "scores").all("table", "plain"):
        if not next(table.all("caption")).text.startswith("Permutation tests"):
            continue
        for task, model, question, _, _, _, p, *_ in rows_of(table):
            if task == one.label and model == MODELS["full"].label and "chance" in question and p != "n/a":
                rejected = number(p) <= 0.05
                clash = "ot distinguishable from" in line if rejected else (
                    "redicted better than" in line and "onfirmed by the permutation test" not in line
                )  # fmt: skip
                found += [f"{one.title}: permutation test p = {p}, headline {line!r}"] if clash else []
    return found
