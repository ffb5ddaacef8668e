"""The verdicts as Markdown, CSV and JSON, beside the report of each sweep that they rest on."""

import csv
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any, get_args

from analysis.comparison import holm
from analysis.conditions import describe, differing
from analysis.notation import markdown_text
from analysis.page.content import PageVerdict
from analysis.page.report_page import PAGE, write_page
from analysis.paper.claims import Faster, Outcome, paper_claims
from analysis.paper.decisions import PairedTest, outcome_of
from analysis.paper.evidence import Evidence, Side, load_evidence
from analysis.paper.suite import on
from analysis.paper.verdicts import SECONDS, Verdict, judge
from analysis.report import write_report
from analysis.statistics import seed_range
from analysis.tables import COLUMNS
from ear.files.writing import may_write, require_writable, write_text
from sweeps.spec.confidence import half_width

FOLDER = "paper"  # ROOT/paper/BASE/; no sweep can have this name
KEYS_SHOWN = 6  # for each claim; verdicts.json has all
DECIMALS = dict(COLUMNS.values())


@dataclass(frozen=True)
class Written:
    """The written verdicts."""

    verdicts: list[Verdict]
    summary: str  # the table of verdicts and what it means, as Markdown
    json: str
    files: list[Path]


def write_verdicts(base: str, root: Path) -> Written:
    """Writes ROOT/paper/BASE/verdicts.{md,csv,json} and the report of each sweep that has run.

    A root that can't be written gets none of the reports, and the verdicts go to a temporary folder.

    Raises:
        UserError: no sweep of the suite has run, or its results were damaged.
    """
    claims = paper_claims()
    evidence = load_evidence(sorted({sweep for claim in claims for sweep in claim.sweeps}), base, root)
    folder = root / FOLDER / Path(base).stem
    if may_write(folder):
        require_writable(folder)
    else:  # an archive or another user's results
        folder = Path(tempfile.mkdtemp(prefix="ear-paper-"))
    written = {sweep: write_report(results.name, root) for sweep, results in sorted(evidence.results.items())}
    reports = {sweep: os.path.relpath(report.folder / "table.md", folder) for sweep, report in written.items()}
    verdicts = judge(claims, evidence)
    short = summary(verdicts, evidence)
    texts = {
        "md": "\n".join([short, *(line for verdict in verdicts for line in section(verdict, reports))]),
        "csv": as_csv(verdicts),
        "json": json.dumps([as_json(verdict) for verdict in verdicts], indent=2, ensure_ascii=False) + "\n",
    }
    for suffix, text in texts.items():
        write_text(folder / f"verdicts.{suffix}", text)
    anchors = {sweep: report.results.name for sweep, report in written.items()}
    page = write_page(
        folder / PAGE,
        f"The EAR paper on {Path(base).stem}",
        f"What reproduces of arXiv 2505.07812. {caption(evidence)}",
        list(written.values()),
        root,
        [page_verdict(verdict, anchors) for verdict in verdicts],
        " ".join([counted(verdicts), *together(verdicts)]),
    )
    files = [page, *(folder / f"verdicts.{suffix}" for suffix in texts)]
    return Written(verdicts, short, texts["json"], files)


def page_verdict(verdict: Verdict, anchors: dict[str, str]) -> PageVerdict:
    """Returns a verdict as the page shows it."""
    claim = verdict.claim
    facts = {
        "Ours": ours(verdict),
        "Paper": papers(verdict),
        "Test": verdict.test,
        "To decide it": to_decide(verdict),
        heading(verdict): verdict.todo,
        "Why": verdict.why,
    }
    return PageVerdict(
        claim.words,
        claim.source,
        verdict.outcome,
        [(name, text) for name, text in facts.items() if text],
        [anchors[sweep] for sweep in claim.sweeps if sweep in anchors],
    )


def summary(verdicts: Sequence[Verdict], evidence: Evidence) -> str:
    """Returns the table of verdicts and what it means."""
    incomplete = [f"{each.name}: {each.incomplete}" for each in evidence.results.values() if each.incomplete]
    lines = [
        f"# The paper's claims on {markdown_text(Path(evidence.base).stem)}",
        *incomplete,
        "\n".join(table(verdicts)),
        " ".join([counted(verdicts), *together(verdicts)]),
        markdown_text(caption(evidence)),
    ]
    return "\n\n".join(lines) + "\n"


def caption(evidence: Evidence) -> str:
    """Returns the conditions that all numbers share, and their seeds."""
    found = list(evidence.results.values())
    if apart := differing([each for results in found for each in results.conditions]):
        return f"The sweeps differ in {' and '.join(apart)}; no claim compares across them."
    counts = [results.finished["seed"].nunique() for results in found if len(results.finished)]
    conditions = [each for results in found for each in results.conditions]
    return f"Unless a claim says otherwise: {describe(conditions, seed_range(counts) if counts else '0')}"


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Returns the lines of the table of verdicts."""
    rows = [("claim", "verdict", "ours", "paper")]
    for verdict in verdicts:
        rows.append((verdict.claim.words, short_outcome(verdict), ours(verdict), papers(verdict)))
    cells = [[markdown_text(cell) for cell in row] for row in rows]
    head, *body = (f"| {' | '.join(row)} |" for row in cells)
    return [head, "|---|---|---|---|", *body]


def short_outcome(verdict: Verdict) -> str:
    """Returns the verdict for a table: with the seeds that would decide it, if undecided."""
    return f"{verdict.outcome} ({verdict.seeds_needed} seeds)" if verdict.seeds_needed else verdict.outcome


def ours(verdict: Verdict) -> str:
    """Returns our numbers, one for each side."""
    if not verdict.sides:
        return ""
    if verdict.quantity != SECONDS and not any(side.values for side in verdict.sides):
        return "; ".join(f"{side.label}: {ended(side)}" for side in verdict.sides)
    return f"{verdict.quantity} " + ", ".join(f"{number(verdict, side)} ({side.label})" for side in verdict.sides)


def number(verdict: Verdict, side: Side) -> str:
    """Returns the mean of a side and its interval."""
    if side.mean is None:
        return ended(side)
    if verdict.quantity == SECONDS:
        return f"{side.mean:.2g}"
    decimals = DECIMALS[verdict.quantity]
    interval = "" if side.half_width is None else f" ± {side.half_width:.{decimals}f}"
    return f"{side.mean:.{decimals}f}{interval}"


def ended(side: Side) -> str:
    """Returns how the runs of a side ended: `3 diverged`."""
    return ", ".join(f"{count} {outcome}" for outcome, count in side.ends.items())


def papers(verdict: Verdict) -> str:
    """Returns the paper's numbers as printed."""
    return "; ".join(
        f"{quantity} " + ", ".join(f"{text} ({label})" for label, text in numbers.items())
        for quantity, numbers in verdict.claim.paper.items()
    )


def counted(verdicts: Sequence[Verdict]) -> str:
    """States how many claims have which verdict."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in get_args(Outcome) if counts[outcome]) + "."


def together(verdicts: Sequence[Verdict]) -> list[str]:
    """States what multiple testing over the claims means: each verdict's error rate is its own."""
    tests = [test for verdict in verdicts for test in verdict.tests if test.p is not None]
    decided = [verdict for verdict in verdicts if verdict.tests and verdict.outcome in ("reproduces", "contradicted")]
    if not decided:
        return []
    finds = dict(zip(map(id, tests), holm([test.p for test in tests if test.p is not None]), strict=True))
    hold = [
        verdict.claim.id
        for verdict in decided
        if outcome_of([finds.get(id(test), False) for test in verdict.tests], [test.mean for test in verdict.tests])
        == verdict.outcome
    ]
    return [
        "Each verdict from tests is wrong with a probability of at most 5% where nothing differs, corrected for the "
        f"tests of its own claim. Corrected for all {len(tests)} tests on this page together, "
        f"{len(hold)} of these {len(decided)} verdicts {'remains' if len(hold) == 1 else 'remain'}"
        + (f": {', '.join(hold)}." if hold else "."),
    ]


def section(verdict: Verdict, reports: dict[str, str]) -> list[str]:
    """Returns the lines on one claim: its words and source, the verdict, the numbers, the tests, what they rest on."""
    claim = verdict.claim
    lines = [f"## {claim.id}: {verdict.outcome}", "", markdown_text(claim.words), ""]
    facts = {"Source": claim.source, "Compared": claim.compared, "Ours": ours(verdict), "Paper": papers(verdict)}
    facts["Test"] = verdict.test
    if verdict.tests and verdict.seeds:
        facts["Difference"] = "; ".join(difference(test, verdict) for test in verdict.tests)
    if verdict.seeds:
        facts["Seeds"] = ", ".join(map(str, verdict.seeds))
    facts |= {"Why": verdict.why, "To decide it": to_decide(verdict), heading(verdict): verdict.todo}
    lines += [f"- {name}: {markdown_text(text)}" for name, text in facts.items() if text]
    links = [f"[{sweep}]({reports[sweep]})" for sweep in claim.sweeps if sweep in reports]
    if verdict.keys:
        short = ", ".join(key[:8] for key in verdict.keys)
        keys = f"keys {short}" if len(verdict.keys) <= KEYS_SHOWN else f"{len(verdict.keys)} keys, in verdicts.json"
        lines.append(f"- Rests on: {', '.join(links)}; {keys}")
    return [*lines, ""]


def heading(verdict: Verdict) -> str:
    """Returns what `todo` is: the configuration that the schema would have to accept, or a command."""
    return "Needs" if verdict.outcome == "not yet implemented" else "To test it"


def to_decide(verdict: Verdict) -> str:
    """States how many seeds would decide an undecided claim."""
    if verdict.outcome != "undecided":
        return ""
    if not verdict.seeds_needed:
        return "at least two seeds, to know how much the difference varies"
    if not verdict.tests:
        return f"{verdict.seeds_needed} seeds or more"
    count = verdict.seeds_needed
    more = f" (ear paper run{on(verdict.base)} --seeds {count})" if count.isdecimal() else ""
    return f"{count} seeds, with 80% power, if the differences are as they were seen{more}"


def difference(test: PairedTest, verdict: Verdict) -> str:
    """Returns what a test found: the mean difference in the claim's direction, its interval and p-value."""
    if test.p is None:
        return f"{test.words}: not tested"
    interval = half_width(list(test.differences))
    spread = "" if interval is None else f" ± {interval:.2g}"
    p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.2g}"
    if isinstance(verdict.claim.statistic, Faster):
        return f"{test.words}: {ratio(test)}, {p}"
    return f"{test.words}: {test.mean:+.3g}{spread}, {p}"


def ratio(test: PairedTest) -> str:
    """Returns a ratio of times and its interval, from the test of their logarithms."""
    spread = half_width(list(test.differences))
    if spread is None:
        return f"{exp(test.mean):.3g} times"
    return f"{exp(test.mean):.3g} times ({exp(test.mean - spread):.3g} to {exp(test.mean + spread):.3g})"


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Returns a verdict as JSON values."""
    claim = verdict.claim
    return {
        "id": claim.id,
        "words": claim.words,
        "source": claim.source,
        "compared": claim.compared,
        "base": verdict.base,
        "verdict": verdict.outcome,
        "test": verdict.test,
        "quantity": verdict.quantity,
        "ours": [
            {
                "label": side.label,
                "mean": side.mean,
                "half_width": side.half_width,
                "by_seed": {str(seed): value for seed, value in sorted(side.values.items())},
                "ends": side.ends,
                "keys": list(side.keys),
            }
            for side in verdict.sides
        ],
        "paper": claim.paper,
        "tests": [{"words": test.words, "differences": list(test.differences), "p": test.p} for test in verdict.tests],
        "seeds_needed": verdict.seeds_needed,
        "sweeps": claim.sweeps,
        "todo": verdict.todo,
        "why": verdict.why,
    }


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """Returns a line for each claim."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["id", "words", "source", "base", "verdict", "ours", "paper", "test", "seeds", "seeds_needed", "sweeps", "keys"]
    )
    for verdict in verdicts:
        claim = verdict.claim
        writer.writerow(
            [
                *(claim.id, claim.words, claim.source, verdict.base, verdict.outcome, ours(verdict), papers(verdict)),
                *(verdict.test, " ".join(map(str, verdict.seeds)), verdict.seeds_needed),
                *(" ".join(claim.sweeps), " ".join(verdict.keys)),
            ]
        )
    return text.getvalue()
