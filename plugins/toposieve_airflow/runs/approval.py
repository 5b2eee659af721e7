"""The task that decides whether a candidate is published: somebody who is asked in Airflow, or the configured rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context

    from toposieve_airflow.contract.step import Step

RULES = "rules"
"""Who publishes where nobody is asked."""


class ApproveOperator(ApprovalOperator):
    """Show what would change, and wait without a slot; who does not answer in time keeps the published model.

    Its XCom ``publish`` is the step of the task that publishes: without an approval there is none, and that task is
    skipped.

    Args:
        comparison: What would change, as the job ``publish_model.py`` tells; None if there is no candidate. (templated)
        step: How to publish, less which version, who and why. (templated)
        by_rules: Let the configured rules decide.
        kwargs: As for ApprovalOperator.
    """

    template_fields: Sequence[str] = ("comparison", "step", "subject", "body")

    def __init__(self, *, comparison: Any, step: Any, by_rules: bool, **kwargs: Any) -> None:
        """Ask nobody yet."""
        super().__init__(subject="Publish?", defaults=self.REJECT, **kwargs)
        self.comparison: Mapping[str, Any] | None = comparison
        self.step: Step = step
        self.by_rules = by_rules

    def execute(self, context: Context) -> None:
        """Let the rules decide, or ask.

        Raises:
            AirflowSkipException: There is no candidate, or it is published already, or the rules refuse it.
        """
        found = self.comparison
        if found is None or found["version"] == found["published_version"]:
            raise AirflowSkipException("there is nothing to publish")
        if not self.by_rules:
            self.subject = f"Publish version {found['version']} ({found['label']}) of {found['name']}?"
            self.body = "\n".join(describe(found))
            super().execute(context)
            return
        unmet = [f"{rule['rule']} ({rule['found']})" for rule in found["rules"] if not rule["met"]]
        if unmet:
            raise AirflowSkipException(f"the published model stays: not met are {'; '.join(unmet)}")
        self._allow(context, RULES, "all rules are met")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer; no answer in time is a rejection."""
        answer = super().execute_complete(context, event)
        if answer["chosen_options"] == [self.APPROVE]:
            user = answer["responded_by_user"] or {}
            self._allow(context, user.get("name") or user.get("id") or "Airflow", answer["params_input"].get("why"))
        return answer

    def _allow(self, context: Context, who: str, why: str | None) -> None:
        assert self.comparison is not None
        known = [each for key in ("version", "after", "newest") for each in (f"--{key}", str(self.comparison[key]))]
        chosen = [*known, "--who", who, "--why", why or "approved"]
        step = {**self.step, "arguments": [*self.step["arguments"], *chosen]}
        context["ti"].xcom_push(key="publish", value=step)


def describe(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown: what would change, what got worse and which rules are met."""
    yield from ("| | candidate | published | difference |", "|---|---|---|---|")
    for row in comparison["changes"]:
        cells = [_number(row[key]) for key in ("candidate", "published", "difference")]
        error = "" if row.get("error") is None else f" ± {row['error']:.2g}"
        yield f"| {row['what']} | {' | '.join(cells)}{error} |"
    yield ""
    yield from (f"- worse: {each}" for each in comparison["worse_slices"])
    yield from (
        f"- {'met' if rule['met'] else '**not met**'}: {rule['rule']} ({rule['found']})" for rule in comparison["rules"]
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
