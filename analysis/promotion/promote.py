"""Promotes a sweep: chooses its best configuration, measures it again, writes its YAML and the record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.promotion.again import (
    CONFIRMED,
    SAMPLED,
    TRAINED,
    Measured,
    measure,
    measured_before,
    sampled_again,
    trained_again,
)
from analysis.promotion.bounds import in_words, merged
from analysis.promotion.choice import Choice, choose, figure, signed
from analysis.promotion.final_config import other_scale, same_scale
from analysis.promotion.record import Figure, Promotion, write_promotion
from analysis.results import SweepResults, load_results
from analysis.search import broken
from ear.config import config_hash
from ear.errors import UserError
from ear.files.writing import require_file_place, write_text
from ear.store import Store
from ear.store.recorded_config import recorded_config
from sweeps.spec.search_schema import BoundConfig
from sweeps.spec.sweep_record import SweepRecord, load_records

OWN_OF_A_SCALE = "data, tokenizer, model, head, batch, lengths, learning rates, steps of sampling, evaluation"
SHOWN = "The luck of sampling, and of selecting by one set of images, shows in it; the luck of training does not"
SHOWN_BY_TRAINING = "The luck of sampling and the luck of training both show in it"


@dataclass(frozen=True)
class Request:
    """What is asked of a promotion."""

    sweep: str
    metric: str | None  # by default the sweep's own
    constraints: Mapping[str, BoundConfig]
    scale: str | None
    images: int | None
    seeds: int | None  # fresh trainings; None to measure the sweep's own again
    out: Path
    force: bool


@dataclass(frozen=True)
class Promoted:
    """What a promotion found and wrote."""

    promotion: Promotion
    lines: list[str]  # for people
    record: Path


def load(sweep: str, root: Path) -> tuple[SweepResults, SweepRecord]:
    """Returns a sweep's results and its record.

    Raises:
        UserError: there is no such sweep, none of its runs has ended, or it has no record.
    """
    results, records = load_results(sweep, root), load_records(root, sweep)
    if not records:
        raise UserError(
            f"{sweep!r} has no record in {root / sweep}, only runs in MLflow: run the sweep again, which writes the "
            "record and computes nothing again."
        )
    return results, records[0]


def promote(request: Request, root: Path, say: Callable[[str], object]) -> Promoted:
    """Chooses, measures again, and writes the final configuration and the record.

    Args:
        say: told what is computed.

    Raises:
        UserError: nothing can be promoted, the file is there already or can't be written, or the scale does not fit.
    """
    if request.out.suffix not in (".yaml", ".yml"):
        raise UserError(f"-o {request.out}: give a file whose name ends in .yaml.")
    if request.out.exists() and not request.force:
        raise UserError(f"{request.out} is there already: give another name with -o, or replace it with --force.")
    require_file_place(request.out, "-o")
    results, record = load(request.sweep, root)
    if request.metric is None and len(results.objectives) > 1:
        say(f"{request.sweep} has several objectives: promoting by the first, {results.objective}. --metric chooses.")
    if results.incomplete:
        say(f"warning: {results.incomplete} The best so far is promoted.")
    metric = request.metric or results.objective
    choice = choose(results, metric, merged(results.constraints, request.constraints), root)
    config, swept = recorded_config(Store(root, reading=True), choice.trainings[0]["key"]), record.settings
    final = (  # before anything is computed, since the scale may not fit
        other_scale(request.scale, config, choice.winner.parameters, swept)
        if request.scale
        else same_scale(config, choice.winner.parameters, swept)
    )
    before, again, how = measured(request, choice, results, root, say)
    promotion = Promotion(
        request.sweep,
        request.out.stem,
        choice.winner.parameters,
        metric,
        {name: bound.model_dump(exclude_none=True) for name, bound in choice.constraints.items()},
        choice.reason,
        figure_of(before, metric),
        figure_of(again, metric),
        how,
        [row["stages"][-1] for row in choice.trainings],
        request.scale,
        [each.words for each in final.carried],
        [f"{each.words}: {each.kept}" for each in final.kept],
        str(request.out.absolute()),
        config_hash(final.config),
    )
    lines = words(promotion, choice, before, again)
    write_text(request.out, final.text([*heading(promotion, lines), *carried_words(promotion)]))
    return Promoted(promotion, lines, write_promotion(root, promotion))


def measured(
    request: Request,
    choice: Choice,
    results: SweepResults,
    root: Path,
    say: Callable[[str], object],
) -> tuple[Measured, Measured, str]:
    """Returns what the winner was chosen by, what it measures again, and how."""
    before = measured_before(choice.trainings)
    if choice.confirmed and request.seeds is None and request.images is None:
        return before, measured_before(choice.winner.rows), CONFIRMED
    used = [int(run["evaluation.seed"]) for run in results.all_runs]
    store = Store(root, reading=True)
    if request.seeds is None:
        configs = sampled_again(choice, used, request.images, store)
        return before, measure(configs, root, request.sweep, train=False, say=say), SAMPLED
    trained = [int(run["seed"]) for run in results.all_runs]
    configs = trained_again(choice, request.seeds, trained, used, request.images, store)
    return before, measure(configs, root, request.sweep, train=True, say=say), TRAINED


def figure_of(found: Measured, metric: str) -> Figure:
    """Returns the figure of a metric for the record."""
    return Figure(
        found.mean(metric), found.half_width(metric), found.seeds, found.images, found.evaluation_seeds, found.keys
    )


def words(promotion: Promotion, choice: Choice, before: Measured, again: Measured) -> list[str]:
    """Says what was chosen, why, and what it measures again."""
    metric = promotion.metric
    lines = [f"Winner: {choice.winner.name}", choice.reason]
    if choice.constraints:
        lines.append(f"Chosen among those with {in_words(choice.constraints)}.")
    if choice.left_out:
        lines.append(f"Not to choose from: {'; '.join(choice.left_out)}.")
    shows = SHOWN if promotion.again_how == SAMPLED else SHOWN_BY_TRAINING
    values = [figure(metric, each.mean(metric), each.half_width(metric)) for each in (before, again)]
    width = max(map(len, values))
    lines += [
        "",
        f"{metric} {values[0]:<{width}}  in the sweep: {before.how}",
        f"{metric} {values[1]:<{width}}  again, {promotion.again_how}: {again.how}",
        f"{difference(metric, before, again)}{shows}.",
    ]
    if again.images != before.images and metric in ("fid", "fid_null"):
        lines.append(
            f"FID is too high with few images: a part of the difference comes from {again.images:,} images against "
            f"{before.images:,}."
            + ("" if promotion.again_how == CONFIRMED else f" --images {before.images} leaves it out.")
        )
    if promotion.again_how == CONFIRMED and choice.compared > 1:
        lines.append(
            f"Of the {choice.compared} that were confirmed it was chosen by this value, so that some luck is left: "
            "--seeds K trains others."
        )
    means = {name: again.mean(name) for name in choice.constraints if again.values.get(name)}
    kept = {name: bound for name, bound in choice.constraints.items() if name in means}
    if violated := broken(means, kept):
        lines.append(f"warning: measured again, it violates a constraint: {violated}.")
    return lines


def difference(metric: str, before: Measured, again: Measured) -> str:
    """Says how far two measurements of a configuration are apart; paired where they share their trainings."""
    if before.seeds != again.seeds:
        return f"Difference: {signed(metric, [again.mean(metric) - before.mean(metric)])}. "
    pairs = zip(again.values[metric], before.values[metric], strict=True)
    return f"Difference, paired: {signed(metric, [one - other for one, other in pairs])}. "


def heading(promotion: Promotion, lines: Sequence[str]) -> list[str]:
    """Returns the comments at the head of the YAML."""
    return [
        f"The best configuration of the sweep {promotion.sweep}, chosen by `ear promote`.",
        *lines,
        "Each value's comment says where it comes from. Train it:",
        f"  ear train {Path(promotion.file).name} --evaluate",
    ]


def carried_words(promotion: Promotion) -> list[str]:
    """Says what a scale has from the sweep, and what it has not."""
    if promotion.scale is None:
        return []
    carried = ", ".join(promotion.carried) or "nothing that the sweep varied or set"
    kept = [f"  {each}" for each in promotion.kept]
    return [
        f"Carried over to {promotion.scale}: {carried}.",
        *([f"Not carried over; these stay those of {promotion.scale}:", *kept] if kept else []),
        f"All else is {promotion.scale}'s own: {OWN_OF_A_SCALE}.",
    ]
