"""Reporting checklists, filled in from a run; items that a run cannot answer stay open.

The topics are paraphrased from TRIPOD+AI (Collins et al. 2024, doi:10.1136/bmj-2023-078378, CC BY 4.0,
numbers of its items), PROBAST+AI (Moons et al. 2025, doi:10.1136/bmj-2024-082505) and CLAIM (Tejani et al. 2024,
doi:10.1148/ryai.240300, without numbers). They help to complete the original checklists and do not replace them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectome_tl.report.text.standards_answers import answers_of
from connectome_tl.settings.records.explanations import ExplanationRecord
from connectome_tl.settings.records.results import RunRecord

OPEN = "open: for the authors"

# (number or section, topic, name of the answer; "" where a run cannot provide it)
_TRIPOD = (
    ("1", "Title names the model, its population and outcome", ""),
    ("2", "Structured abstract", ""),
    ("3", "Background: condition, intended use, known inequalities", ""),
    ("4", "Objectives: development, evaluation or both", "objective"),
    ("5", "Data sources, and when they were collected", "sources"),
    ("6", "Participants: setting, eligibility, treatment", "eligibility"),
    ("7", "Data preparation", "preparation"),
    ("8", "Outcome: definition, timing, assessors", "outcome"),
    ("9", "Predictors: choice, definition, timing", "predictors"),
    ("10", "Sample size", "sample_size"),
    ("11", "Missing data", "missing"),
    ("12", "Analysis: partition, model, tuning, measures", "analysis"),
    ("13", "Class imbalance", "imbalance"),
    ("14", "Fairness", "fairness"),
    ("15", "Output of the model", "output"),
    ("16", "Differences between development and evaluation data", "evaluation_data"),
    ("17", "Ethical approval", ""),
    ("18", "Open science: funding, conflicts, protocol, registration", ""),
    ("18", "Open science: code", "code"),
    ("18", "Open science: data", "data_hashes"),
    ("19", "Involvement of patients and the public", ""),
    ("20", "Flow and characteristics of participants", "flow"),
    ("21", "Numbers of participants and events in each analysis", "numbers"),
    ("22", "The full model, so that it can be applied", "model"),
    ("23", "Performance with intervals", "performance"),
    ("23", "Differences between clusters and groups", "fairness"),
    ("24", "Model updating", ""),
    ("25", "Interpretation", ""),
    ("26", "Limitations", "limitations"),
    ("27", "Use: input quality, users, next steps", ""),
)
_PROBAST = (
    ("Participants and data sources", "Suitable data sources", "sources"),
    ("Participants and data sources", "Inclusion and exclusion", "eligibility"),
    ("Participants and data sources", "Applicability to the intended users", ""),
    ("Predictors", "Defined and measured in the same way for all participants", "predictors"),
    ("Predictors", "Available when the model is used", ""),
    ("Predictors", "Assessed without knowledge of the outcome", ""),
    ("Outcome", "Defined and determined in the same way for all participants", "outcome"),
    ("Outcome", "Determined without knowledge of the predictors", ""),
    ("Outcome", "Time between predictors and outcome", ""),
    ("Analysis, development", "Enough participants with the outcome", "sample_size"),
    ("Analysis, development", "Missing data", "missing"),
    ("Analysis, development", "Class imbalance", "imbalance"),
    ("Analysis, development", "Overfitting and optimism", "analysis"),
    ("Analysis, evaluation", "Independence of evaluation data", "leakage"),
    ("Analysis, evaluation", "External evaluation", "external"),
    ("Analysis, evaluation", "Discrimination and calibration", "performance"),
    ("Analysis, evaluation", "Stability of single predictions", "robustness"),
    ("Analysis, evaluation", "Groups", "fairness"),
    ("Judgement", "Quality, risk of bias, applicability", ""),
)
_CLAIM = (
    ("Study design", "Prospective or retrospective", ""),
    ("Study design", "Goal", "objective"),
    ("Data", "Sources", "sources"),
    ("Data", "Eligibility", "eligibility"),
    ("Data", "Preprocessing", "preparation"),
    ("Data", "De-identification", ""),
    ("Data", "Missing data", "missing"),
    ("Data", "Acquisition of images", ""),
    ("Reference standard", "Definition", "outcome"),
    ("Reference standard", "Raters and their agreement", ""),
    ("Data partitions", "How data were assigned", "analysis"),
    ("Data partitions", "Disjoint at the level of the subject or family", "leakage"),
    ("Testing data", "Size", "sample_size"),
    ("Model", "Description", "analysis"),
    ("Model", "Software and versions", "code"),
    ("Training", "Details, choice of the final model, ensembles", "training"),
    ("Evaluation", "Metrics and intervals", "performance"),
    ("Evaluation", "Robustness", "robustness"),
    ("Evaluation", "Explanation", "explanation"),
    ("Evaluation", "Internal and external data", "external"),
    ("Evaluation", "Registration of a trial", ""),
    ("Results", "Flow of participants", "flow"),
    ("Results", "Characteristics of participants", "numbers"),
    ("Results", "Failure analysis", ""),
    ("Discussion", "Limitations", "limitations"),
    ("Discussion", "Implications for practice", ""),
    ("Other", "Protocol, funding", ""),
    ("Other", "Availability of data and model", "model"),
)


@dataclass(frozen=True)
class Checklist:
    """One checklist: rows of number or section, topic, answer."""

    name: str
    source: str
    rows: tuple[tuple[str, str, str], ...]

    @property
    def n_open(self) -> int:
        """Number of items that the authors have to fill in."""
        return sum(answer == OPEN for _, _, answer in self.rows)


def checklists(record: RunRecord, explained: ExplanationRecord | None = None) -> list[Checklist]:
    """The three checklists, completed as far as the record of the run allows."""
    known = answers_of(record, explained)

    def filled(topics: tuple[tuple[str, str, str], ...]) -> tuple[tuple[str, str, str], ...]:
        return tuple((where, topic, known.get(name, "") or OPEN) for where, topic, name in topics)

    return [
        Checklist(
            "TRIPOD+AI",
            "Topics of TRIPOD+AI 2024 (doi:10.1136/bmj-2023-078378, CC BY 4.0), paraphrased, with its numbers.",
            filled(_TRIPOD),
        ),
        Checklist(
            "PROBAST+AI",
            "Topics of PROBAST+AI 2025 (doi:10.1136/bmj-2024-082505), paraphrased. The reader judges the risk of bias.",
            filled(_PROBAST),
        ),
        Checklist("CLAIM 2024", "Topics of CLAIM 2024 (doi:10.1148/ryai.240300), paraphrased.", filled(_CLAIM)),
    ]


def shared_answers(lists: Sequence[Checklist]) -> list[tuple[str, ...]]:
    """One row per answer: its topics in each checklist, and the answer; open topics are the last row."""
    topics: dict[str, list[list[str]]] = {}
    for k, one in enumerate(lists):
        for where, topic, answer in one.rows:
            own = topics.setdefault(answer, [[] for _ in lists])[k]
            own.append(f"{where} {topic}" if where.isdigit() else topic)
    ordered = sorted(topics.items(), key=lambda item: item[0] == OPEN)
    return [(*("; ".join(own) for own in found), answer) for answer, found in ordered]
