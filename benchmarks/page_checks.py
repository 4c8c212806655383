"""Find statements of a report page that exclude each other. Used by `contradictions.py`."""

from __future__ import annotations

import re
from collections import Counter
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
    headline_of,
    named,
    number,
    numbers,
    of_headline,
    own_text,
)
from page_reader import Node, read_page, rows_of, section

from connectome_tl.settings.model_table import MODELS


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
    found += _answer(page, outcomes, claims)
    read = sum(claim.where == "headline" and claim.about[1] == "" and bool(claim.words) for claim in claims)
    read += len(LEVEL.findall(next(page.all("p", "answer")).text))
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
    for row in next(next(article.all("table", "forest")).all("tbody")).all("tr"):
        label, _, shown, *_ = row.all_of("th", "td")
        name, (value, _) = str(named(own_text(label))), numbers(shown.text)
        if value is not None and (name == "full" or MODELS[name].role == "baseline"):
            values[name] = value
    full = values.pop("full", None)
    if full is None:
        return []
    ahead = {name for name, value in values.items() if value > full}
    starts = [name for name in values if cells[2].startswith(MODELS[name].label)]
    told_ahead = max(starts, key=lambda name: len(MODELS[name].label), default=None)
    found = []
    if (told_ahead is None and ahead) or (told_ahead is not None and values[told_ahead] < max(values.values())):
        found.append(f"{one.title}: better baseline: {told_ahead}, but printed scores are {values}, full {full}")
    return found


# What the answer says, and how many outcomes it says it of; `any of` is none of them.
_ANSWERS = {
    "better": r"predicts? (any|\d+|[A-Z]\w+)(?: of \d+ outcomes)? better than",
    "worse": r"(?:predicts| and) ([A-Z]\w+|\d+) worse",
    "signal": r"some signal for ([A-Z]\w+|\d+)",
    "helps": r"(?<!whether )transfer helps(?: for (\d+))?",
    "harms": r"transfer (?:helps(?: for \d+)?, )?harms(?: for (\d+))?",
}


def _answer(page: Node, outcomes: Sequence[Outcome], claims: Sequence[Claim]) -> list[str]:
    """The answer counts outcomes: as many as the headlines and the verdict table have, and names a better baseline."""
    text = next(page.all("p", "answer")).text
    lines = [LEVEL.search(headline_of(page, one)) for one in outcomes]
    words = Counter(line[0].lower() for line in lines if line)
    rivals = [row[2] for row in rows_of(next(page.all("table", "glance"))) if row[2] != "none"]
    transfer = Counter(word for c in claims if c.where == "at a glance" and c.about[1] == "scratch" for word in c.words)
    expected = {
        "better": words["predicted better than"], "worse": words["predicted worse than"],
        "signal": words["some signal"], "helps": transfer[BETTER], "harms": transfer[WORSE],
    }  # fmt: skip
    found = []
    for what, n in expected.items():
        match = re.search(_ANSWERS[what], text)
        group = match[1] if match else "any"
        said = 0 if group == "any" or ("is not shown" in text and what == "better") else 1
        said = int(group) if group and group.isdigit() else said
        if said != n and not (match is None and what in ("signal", "worse")):
            found.append(f"answer: {what} for {said}, but for {n} in the verdicts: {text!r}")
    lower = re.search("scores lower than (.*?)(?:;|[.]$)", text)
    counts = [int(n) for n in re.findall(r" for (\d+)", lower[1])] if lower else []
    if (sum(counts) or bool(lower)) != len(rivals):
        found.append(f"answer: {text!r}, but better baselines are {rivals}")
    if lower:
        ahead = [spec for spec in MODELS.values() if any(rival.startswith(spec.label) for rival in rivals)]
        known = {name for spec in ahead for name in (spec.label, spec.words.partition(" (")[0], "the mean alone")}
        if not any(name in lower[1] for name in known):
            found.append(f"answer: names {lower[1]!r}, but better baselines are {rivals}")
    return found


def _tests(page: Node, one: Outcome) -> list[str]:
    """The permutation test of the full model in the table, against the headline."""
    line, found = headline_of(page, one), []
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
