"""Result records of an audit."""

from __future__ import annotations

from typing import Literal

from connectome_tl.settings.base import Record


class Finding(Record):
    """Result of one check. `warning` needs a human decision; `skipped` states why the check was not made."""

    check: str
    status: Literal["passed", "failed", "warning", "skipped"]
    what: str
    remedy: str = ""


class AuditRecord(Record):
    """All checks of one run."""

    title: str
    findings: tuple[Finding, ...]

    @property
    def accused(self) -> bool:
        """Whether a check failed."""
        return any(finding.status == "failed" for finding in self.findings)
