"""The verdicts as Markdown, CSV and JSON, beside the report of each sweep that they rest on."""

import csv
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from analysis.comparison import holm
from analysis.conditions import describe, differing
from analysis.notation import markdown_text
from analysis.page.content import PageVerdict
from analysis.page.report_page import PAGE, write_page
from analysis.paper.claims import Outcome, paper_claims
from analysis.paper.decisions import outcome_of
from analysis.paper.evidence import Evidence, load_evidence
from analysis.paper.verdicts import Verdict, judge
from analysis.paper.wording import brief, brief_paper, difference, ours, papers, short_outcome, to_decide
from analysis.report import write_report
from analysis.statistics import seed_range
from ear.files.writing import may_write, require_writable, write_text

FOLDER = "paper"  # ROOT/paper/BASE/; no sweep can have this name
KEYS_SHOWN = 6  # for each claim; verdicts.json has all


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
        rows.append((verdict.claim.words, short_outcome(verdict), brief(verdict), brief_paper(verdict)))
    cells = [[markdown_text(cell) for cell in row] for row in rows]
    head, *body = (f"| {' | '.join(row)} |" for row in cells)
    return [head, "|---|---|---|---|", *body]


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
