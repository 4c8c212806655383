"""Read what a report page says of each quantity.

Only the page is read, as a reader would: sentences, tables, printed numbers, tables saved from it. A quantity is, for
example, the score of the full model against chance, or its difference to the clinical covariates. All claims on it must
have a common meaning, and all its printed values and intervals must be equal (`page_checks.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from page_reader import Node, cells_of, rows_of, saved, section

from connectome_tl.settings.model_table import MODELS, words_of
from connectome_tl.tasks import Form

BETTER, WORSE, NOTHING, UNCLEAR, UNUSED = "better", "worse", "no benefit", "cannot tell", "not applicable"
NOT_BETTER = frozenset({WORSE, NOTHING, UNCLEAR, UNUSED})
WORDS = {
    "helps": BETTER, "better": BETTER, "harms": WORSE, "worse": WORSE, "harms (negative transfer)": WORSE,
    "no benefit": NOTHING, "cannot tell": UNCLEAR, "not applicable": UNUSED,
}  # fmt: skip
NUMBER = r"[−+-]?\d*\.?\d+"
LEVEL = re.compile(
    "could not be scored|not distinguishable from|some signal|predicted better than|predicted worse than", re.I
)
LEVELS = {"could": "not scored", "not": UNCLEAR, "some": UNCLEAR, "predicted better than": BETTER}
HALF = 0.0051  # of the last printed digit


@dataclass(frozen=True)
class Claim:
    """What one place says of a quantity.

    Attributes:
        about: outcome and quantity, for example (delay, clinical_only).
        words: meanings that the words allow; empty where the place prints numbers only.
        value, interval: as printed; None where the place has none.
    """

    about: tuple[str, str]
    where: str
    words: frozenset[str] = frozenset()
    value: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Outcome:
    """One outcome of the study, as the page names it."""

    title: str  # in tables and headings
    label: str  # in sentences
    metric: str  # label of the primary metric
    chance: float


def claims_of(page: Node, outcomes: Sequence[Outcome]) -> list[Claim]:
    """Every claim of a page."""
    return [claim for one in outcomes for claim in _of_outcome(page, one)]


def _of_outcome(page: Node, one: Outcome) -> Iterator[Claim]:
    verdict = section(page, "verdict")
    glance = rows_of(next(verdict.all("table", "glance")))
    titles = cells_of(next(verdict.all("thead")))
    cells = next(row for row in glance if row[0].startswith(one.title))
    yield Claim((one.title, ""), "at a glance", frozenset(), *numbers(cells[1].removeprefix(one.metric)))
    for title, cell in zip(titles[3:], cells[3:], strict=True):
        if cell != "n/a":
            word = next(word for word in sorted(WORDS, key=len, reverse=True) if cell.startswith(word))
            yield Claim((one.title, _QUESTIONS[title]), "at a glance", frozenset({WORDS[word]}),
                        *numbers(cell.removeprefix(word)))  # fmt: skip
    yield from of_headline(headline_of(page, one), one, "headline")
    yield from _of_cautions(verdict, one)
    yield from _of_evidence(page, one)
    yield from _of_scores(page, one)


def headline_of(page: Node, one: Outcome) -> str:
    """The verdict of an outcome in words."""
    said = next(page.all("dl", "verdicts"))
    pairs = zip(said.all("dt"), said.all("dd"), strict=True)
    return next(next(text.all("span", "line")).text for name, text in pairs if name.text == one.title)


_QUESTIONS = {
    "Beyond nuisance": "nuisance_only", "Beyond site": "site_only", "Beyond clinical": "clinical_only",
    "Transfer": "scratch", "Stage 1": "no_pretrain", "Stage 2": "no_adapt",
}  # fmt: skip
_ALONE = {"clinical covariates": "clinical_only", "nuisance variables": "nuisance_only", "the site": "site_only"}
_TRANSFER = {
    "transfer helps": BETTER, "transfer harms": WORSE, "transfer brings no benefit": NOTHING,
    "it remains unclear whether transfer helps": UNCLEAR, "transfer does not affect the result": UNUSED,
}  # fmt: skip


def of_headline(line: str, one: Outcome, where: str) -> Iterator[Claim]:
    """Clauses of a headline."""
    for clause in line.rstrip(".").split("; "):
        clause = clause[:1].lower() + clause[1:]
        if LEVEL.match(clause):
            yield Claim((one.title, ""), where, _level(clause))
        elif clause.startswith("transfer ") or "whether transfer" in clause:
            yield Claim((one.title, "scratch"), where, _transfer(clause))
        elif "better than" in clause:
            words = NOT_BETTER if clause.startswith("not shown") else frozenset({BETTER})
            for name, control in _ALONE.items():
                if re.search(rf"(than|,|and|or) {name}\b", clause):
                    yield Claim((one.title, control), where, words)
        elif clause.startswith(("worse than ", "a lower score than ")):
            yield from _of_rival(clause, one, where)


def _of_rival(clause: str, one: Outcome, where: str) -> Iterator[Claim]:
    """`worse than ridge (AUC 0.60 against 0.70)`, `a lower score than ridge (...), possibly by chance`."""
    rest = clause.partition(" than ")[2]
    forms: tuple[Form, ...] = ("risk", "value")
    names = {words_of(name, form): name for name in MODELS for form in forms}
    found = [words for words in names if words and rest.startswith(words)]
    if not found:
        raise ValueError(f"no model is named in {clause!r}")
    name = names[max(found, key=len)]
    words = frozenset({WORSE}) if clause.startswith("worse") else NOT_BETTER - {WORSE}
    yield Claim((one.title, name), where, words)
    values = re.search(rf" ({NUMBER}) against ({NUMBER})\)", rest)
    if values:
        yield Claim((one.title, f"score of {name}"), where, value=number(values[2]))
        yield Claim((one.title, ""), where, value=number(values[1]))
        if values[1] == values[2]:
            yield Claim((one.title, "a baseline is ahead"), where, frozenset({"by an invisible difference"}))


def _level(clause: str) -> frozenset[str]:
    match = LEVEL.match(clause)
    assert match is not None
    found = match[0]
    return frozenset({LEVELS.get(found, LEVELS.get(found.split()[0], WORSE))})


def _transfer(clause: str) -> frozenset[str]:
    return frozenset({next(word for start, word in _TRANSFER.items() if clause.startswith(start))})


def _of_cautions(verdict: Node, one: Outcome) -> Iterator[Claim]:
    """Sentences below the verdict table."""
    items = (li for li in next(verdict.all("ul", "cautions")).all("li") if li.text.startswith(f"{one.title}."))
    for caution in (span for item in items for span in item.all("span")):
        if caution.text.endswith("may explain the prediction."):
            control = "site_only" if caution.text.startswith("The site") else "nuisance_only"
            yield Claim((one.title, control), "caution", NOT_BETTER)
            yield Claim((one.title, ""), "caution", frozenset({BETTER}))
        elif caution.text.endswith("the data are inconclusive."):
            yield Claim((one.title, ""), "caution", frozenset({UNCLEAR}))
        elif caution.text.startswith("Negative transfer."):
            yield Claim((one.title, named(caution.text.split('"')[1])), "caution", frozenset({WORSE}))


def _of_evidence(page: Node, one: Outcome) -> Iterator[Claim]:
    article = next(a for a in page.all("article", "task") if next(a.all("h3")).text.startswith(one.title))
    for table in article.all("table"):
        if table.names.get("class") == "forest":
            yield from _of_models(table, one)
        elif next(table.all("caption")).text.startswith("Learning curve"):
            for cells in rows_of(table):
                yield _score(one, cells[0], "learning curve", cells[-1])


def _of_models(table: Node, one: Outcome) -> Iterator[Claim]:
    """The figure of all models: printed values and verdicts, and the table saved from it with intervals."""
    for row in next(table.all("tbody")).all("tr"):
        label, _, value, _, verdict = row.all_of("th", "td")
        name = own_text(label)
        if value.text:
            yield _score(one, name, "all models", value.text)
        said = verdict.first("span")
        others = any("(" in small.text for small in verdict.all("small"))
        if said is not None and not others:
            yield Claim((one.title, str(named(name))), "differences", frozenset({WORDS[said.text]}))
    for name, value, interval, _, _, compared, difference, its_interval, word, _ in saved(table)[1:]:
        if value:
            yield _score(one, name, "saved scores", f"{value} {interval}")
        if compared == MODELS["full"].label:
            yield Claim((one.title, str(named(name))), "saved differences", frozenset({WORDS[word]}),
                        *numbers(f"{difference} {its_interval}"))  # fmt: skip


def own_text(cell: Node) -> str:
    """The text of a cell without that of the elements in it."""
    return " ".join(" ".join(one for one in cell.inside if isinstance(one, str)).split())


def _of_scores(page: Node, one: Outcome) -> Iterator[Claim]:
    for item in next(section(page, "scores").all("ul", "offered")).all("li"):
        title, note = next(item.all("b")).text, item.text
        if title.startswith(f"{one.title}: all scores") and "fitted model" not in note:
            header, *rows = saved(item)
            for cells in rows:
                yield _score(one, cells[0], "all scores", cells[header.index(one.metric)])
        elif title == "Paired differences":
            for task, model, against, _, metric, value, interval, _, word, *_ in saved(item)[1:]:
                if task == one.label and model == MODELS["full"].label and metric == one.metric:
                    yield Claim((one.title, str(named(against))), "paired differences", frozenset({WORDS[word]}),
                                *numbers(f"{value} {interval}"))  # fmt: skip


def _score(one: Outcome, label: str, where: str, cell: str) -> Claim:
    name = named(label)
    value, interval = numbers(cell)
    return Claim((one.title, "" if name == "full" else f"score of {name}"), where, frozenset(), value, interval)


def named(label: str, *, strict: bool = True) -> str | None:
    """The model with this label."""
    name = next((name for name, spec in MODELS.items() if spec.label == label), None)
    if name is None and strict:
        raise ValueError(f"no model is called {label!r}")
    return name


def number(text: str) -> float:
    """A printed number."""
    return float(text.replace("−", "-"))


def numbers(text: str) -> tuple[float | None, tuple[float, float] | None]:
    """The first number of a cell or sentence, and its interval, `[a, b]` or `a to b`."""
    interval = re.search(rf"\[({NUMBER}), ({NUMBER})\]", text) or re.search(rf"interval ({NUMBER}) to ({NUMBER})", text)
    before = text[: interval.start()] if interval else text
    value = re.search(rf"(?<![\w.])({NUMBER})(?!\d| ?%)", before.partition("n = ")[0])
    ends = None if interval is None else (number(interval[1]), number(interval[2]))
    return (None if value is None else number(value[1])), ends
