"""What `ear promote` chooses, measures again and writes, on sweeps whose numbers are written out.

Their results lie under the store's real keys, so that what is measured again is found where it would be computed.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import ear

from analysis.promotion.bounds import in_words, merged, parse_constraints
from analysis.promotion.final_config import scalar
from analysis.promotion.record import promotions
from analysis.promotion.transfer import place
from ear.config import RunConfig, config_hash, load_config
from ear.config.dotted import leaves, short_names
from ear.config.yaml_text import parse_yaml
from ear.errors import UserError
from ear.evaluation.result import Evaluation
from ear.files.writing import write_json, write_text
from ear.run import Run
from ear.store import Store
from sweeps.spec.search_schema import BoundConfig
from sweeps.spec.sweep_record import EVALUATION_SETTINGS, RecordedRun, SweepRecord

CFG, STEPS, ALPHA, WIDTH = "sampling.cfg", "sampling.steps", "scoring.alpha", "model.width"
OTHERS = dict.fromkeys(("is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null"), 0.7)


def publish(config: RunConfig, store: Store, fid: float | None, **metrics: float) -> RecordedRun:
    """Publishes a run that had this FID; None for one that diverged at step 7."""
    keys = Run(config, store).keys
    values = config.model_dump(mode="json")

    def training(folder: Path) -> None:
        (folder / "checkpoint.safetensors").touch()

    def evaluation(folder: Path) -> None:
        measured = Evaluation(
            {"fid": fid or 0.0, **OTHERS, **metrics}, "digits-classifier", 0.99, "e", "digits/train", 1297,
            config.evaluation.images, config.evaluation.null_images, 2.0, "r",
        )  # fmt: skip
        write_json(folder / "evaluation.json", asdict(measured))
        write_text(folder / "config.yaml", yaml.safe_dump(values))

    for key in keys.stages:
        details = {"step": 1200, "seconds": 40.0, "diverged_at": 7 if fid is None else None}
        store.publish(key, "training", training, details)
    if fid is not None:
        store.publish(keys.evaluation, "evaluation", evaluation, {"training": keys.training}, (keys.training,))
    settings = {name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name in EVALUATION_SETTINGS}
    return RecordedRun({}, config.seed, list(keys.stages), keys.evaluation, settings, {})


def configured(parameters: Mapping[str, Any], seed: int, images: int = 2000, evaluation_seed: int = 0) -> RunConfig:
    values = {**parameters, "seed": seed, "evaluation.images": images, "evaluation.seed": evaluation_seed}
    return load_config("digits", [f"{name}={json.dumps(value)}" for name, value in values.items()])


def sweep(
    root: Path,
    fids: Mapping[tuple[Any, ...], Sequence[float | None]],
    axes: Sequence[str],
    fixed: Mapping[str, Any] | None = None,
    **metrics: Mapping[tuple[Any, ...], float],
) -> None:
    """Records a grid: the axes' values -> FID by seed."""
    store, runs, fixed = Store(root), [], fixed or {}
    for point, values in fids.items():
        parameters = dict(zip(axes, point, strict=True))
        for seed, fid in enumerate(values):
            also = {name: of[point] for name, of in metrics.items() if point in of}
            run = publish(configured({**fixed, **parameters}, seed), store, fid, **also)
            runs.append(replace(run, parameters=parameters))
    space = {axis: sorted({point[number] for point in fids}) for number, axis in enumerate(axes)}
    seeds = list(range(max(map(len, fids.values()))))
    settings = {"base": "digits", "set": fixed, "space": space, "search": None, "seeds": seeds}
    SweepRecord("made", "0" * 32, list(axes), ["fid"], settings, 0, True, None, runs).write(root)


def again(root: Path, parameters: Mapping[str, Any], fids: Sequence[float], images: int = 4000) -> None:
    """Publishes evaluations with the next evaluation seed, one for each training seed."""
    for seed, fid in enumerate(fids):
        publish(configured(parameters, seed, images, evaluation_seed=1), Store(root), fid)


def promoted(root: Path, *options: object) -> tuple[str, dict[str, Any]]:
    """What `ear promote` prints, and the YAML that it writes."""
    out = root / "final.yaml"
    said = ear("promote", "made", "-o", out, "--root", root, *options).stdout
    return said, yaml.safe_load(out.read_text())


TIE = {(1.0, 8): [10.4, 12.3, 14.5], (3.0, 8): [10.1, 12.2, 14.3], (3.0, 4): [20.0, 22.0, 24.1], (1.0, 4): [30, 31, 33]}


def test_of_all_that_can_t_be_told_from_the_best_the_cheapest_is_promoted(tmp_path: Path) -> None:
    """Guidance samples every token twice. The best mean is guided, and its advantage is 0.20 ± 0.25."""
    sweep(tmp_path, TIE, [CFG, STEPS])
    again(tmp_path, {CFG: 1.0, STEPS: 8}, [11.0, 13.0, 15.0])
    said, written = promoted(tmp_path)
    assert "Winner: cfg=1.0 steps=8\n" in said
    assert "The best mean fid, 12.20 ± 5.22, is that of cfg=3.0 steps=8; 1 of the other 3 can't be told" in said
    assert " from it (paired t-tests over 3 seeds, each at 5%), this one with 12.40 ± 5.10" in said
    assert "among them (difference +0.20 ± 0.25)" in said
    assert (written["sampling"]["cfg"], written["sampling"]["steps"]) == (1.0, 8)
    assert "fid 12.40 ± 5.10  in the sweep: 3 trainings, 2,000 images each, evaluation seed 0" in said
    assert "fid 13.00 ± 4.97  again, the same trainings: 3 trainings, 4,000 images each, evaluation seed 1" in said
    assert "Difference, paired: +0.60 ± 0.25." in said  # of 0.6, 0.7, 0.5: t(2) 0.1 / sqrt(3)
    assert "the luck of training does not" in said
    assert "a part of the difference comes from 4,000 images against 2,000. --images 2000 leaves it out." in said


def test_a_tie_is_no_excuse_for_a_worse_one_among_many(tmp_path: Path) -> None:
    """Guidance is better by 7 ± 3.9. Corrected for the 19 tests of 20 configurations, that would not be significant."""
    fids = {(1.0, 8): [17.0, 19.0, 21.0], (3.0, 8): [10.0, 13.0, 13.0]}
    fids |= {(3.0, steps): [60.0, 61.0, 62.0] for steps in range(9, 27)}
    sweep(tmp_path, fids, [CFG, STEPS])
    again(tmp_path, {CFG: 3.0, STEPS: 8}, [11.0, 13.0, 15.0])
    said, written = promoted(tmp_path)
    assert written["sampling"]["cfg"] == 3.0
    assert "none ties with it" in said
    assert "Jointly, with 95% confidence, 1 more may truly be the best" in said


def test_what_is_significantly_better_wins_though_it_costs_more(tmp_path: Path) -> None:
    fids = {(1.0, 8): [20.4, 22.3, 24.5], (3.0, 8): [10.1, 12.2, 14.3]}
    sweep(tmp_path, fids, [CFG, STEPS])
    again(tmp_path, {CFG: 3.0, STEPS: 8}, [11.0, 13.0, 15.0])
    said, written = promoted(tmp_path)
    assert "is the best of 2 configurations, and none ties with it (paired t-tests over 3" in said
    assert "With 95% joint confidence it is truly the best." in said
    assert written["sampling"]["cfg"] == 3.0


def test_one_seed_is_no_statistics_and_says_so(tmp_path: Path) -> None:
    sweep(tmp_path, {(1.0,): [10.4], (1.5,): [10.3], (2.0,): [50.0]}, [CFG])
    again(tmp_path, {CFG: 1.5}, [14.0])
    said, written = promoted(tmp_path)
    assert "It has the best fid, 10.30, of 3 configurations. Each has one seed, so there are no statistics" in said
    assert "fid 14.00  again" in said
    assert written["sampling"]["cfg"] == 1.5


def test_constraints_and_whole_configurations_only(tmp_path: Path) -> None:
    """The best FIDs have a recall that is too low, a diverged seed, and a missing seed."""
    fids = {(1.0,): [1.0, 2.0, 3.0], (1.2,): [1.0, 2.0, None], (1.4,): [1.0, 2.0], (1.6,): [7.0, 8.1, 9.0]}
    sweep(tmp_path, fids, [ALPHA], recall={(1.0,): 0.4})
    again(tmp_path, {ALPHA: 1.6}, [7.0, 8.0, 9.0])
    given = ear("promote", "made", "--constraint", "recall>=0.5", "-o", tmp_path / "f.yaml", "--root", tmp_path)
    assert "Winner: alpha=1.6" in given.stdout
    assert "1 of 4 diverged, failed or were stopped early; 1 of 4 have fewer finished" in given.stdout
    assert "1 of 4 violate recall >= 0.5" in given.stdout
    assert "warning: Incomplete: 11 of 12 runs have ended. The best so far is promoted." in given.stderr
    none = ear("promote", "made", "--constraint", "recall>=0.9", "-o", tmp_path / "g.yaml", "--root", tmp_path, code=2)
    assert "No configuration of 'made' can be promoted:" in none.stderr
    assert not (tmp_path / "g.yaml").exists()


def test_the_yaml_says_where_each_value_comes_from_and_is_the_winner_s_configuration(tmp_path: Path) -> None:
    sweep(tmp_path, {(1.0,): [10.4, 10.0], (1.5,): [70.3, 80.0]}, [ALPHA], {"optimizer.clip_norm": 1.0})
    again(tmp_path, {ALPHA: 1.0, "optimizer.clip_norm": 1.0}, [10.4, 10.1])
    promoted(tmp_path)
    text = (tmp_path / "final.yaml").read_text()
    found = {line.split("#")[0].strip(): line.split("# ")[-1] for line in text.splitlines() if not line.startswith("#")}
    assert found["alpha: 1.0"] == "winner"
    assert found["clip_norm: 1.0"] == "set in the sweep"
    assert found["width: 48"] == "base digits"
    assert found["weight_decay: 0.02"] == "default"
    assert "warmup_epochs" not in text  # not given
    config = load_config(str(tmp_path / "final.yaml"))
    assert config == configured({ALPHA: 1.0, "optimizer.clip_norm": 1.0}, 0)
    (record,) = promotions(tmp_path, "made")
    assert (record.config_hash, record.name, record.parameters) == (config_hash(config), "final", {ALPHA: 1.0})
    assert record.file == str(tmp_path / "final.yaml")
    assert record.fact[1] == (
        "scoring.alpha=1.0: fid 10.20 ± 2.54 in the sweep, 10.25 ± 1.91 measured again (the same trainings)"
    )
    before = text, (tmp_path / "made" / "promotions" / "final.json").read_bytes()
    assert "is there already" in ear("promote", "made", "-o", record.file, "--root", tmp_path, code=2).stderr
    promoted(tmp_path, "--force")
    assert before == (
        (tmp_path / "final.yaml").read_text(),
        (tmp_path / "made" / "promotions" / "final.json").read_bytes(),
    )
    (tmp_path / "made" / "promotions" / "other.json").write_text("{}")
    with pytest.raises(UserError, match=r"other\.json is damaged"):
        promotions(tmp_path, "made")


def test_a_scale_takes_what_has_a_meaning_there_and_keeps_its_own_size(tmp_path: Path) -> None:
    axes = [ALPHA, "training.stages.-1.train_temperature", WIDTH]
    fixed = {STEPS: 4, "sampling.infer_temperature": 0.7, "optimizer.ema_decay": 0.9}
    sweep(tmp_path, {(1.25, 0.95, 32): [10.4, 10.0], (1.5, 1.0, 48): [70.3, 80.0]}, axes, fixed)
    again(tmp_path, {**fixed, **dict(zip(axes, (1.25, 0.95, 32), strict=True))}, [10.4, 10.1])
    said, written = promoted(tmp_path, "--scale", "imagenet256_large")
    assert (written["scoring"]["alpha"], written["sampling"]["infer_temperature"]) == (1.25, 0.7)
    assert [stage["train_temperature"] for stage in written["training"]["stages"]] == [1.0, 0.95]
    expected = load_config(
        "imagenet256_large",
        ["scoring.alpha=1.25", "sampling.infer_temperature=0.7", "training.stages.1.train_temperature=0.95"],
    )
    assert load_config(str(tmp_path / "final.yaml")) == expected
    text = (tmp_path / "final.yaml").read_text()
    assert re.search(r"train_temperature: 0.95 +# winner", text)
    for words in (
        "model.width=32 (winner): the model's size",
        "sampling.steps=4 (set in the sweep): depends on the number of tokens",
        "optimizer.ema_decay=0.9 (set in the sweep): depends on the batch and the length of training",
    ):
        assert f"  {words}\n" in said
        assert f"# {words}\n" in text
    wrong = ear("promote", "made", "--scale", "imagenet256", "-o", tmp_path / "x.yaml", "--root", tmp_path, code=2)
    assert "There is no configuration 'imagenet256'" in wrong.stderr


def test_of_a_search_the_confirmed_winner_is_promoted(tmp_path: Path) -> None:
    """The search's best is worse than its runner-up with fresh seeds; trial 2 was not confirmed."""
    store, runs = Store(tmp_path), []
    for trial, (alpha, fid, fresh) in enumerate(
        [(1.0, 10.0, [30.0, 31.0]), (1.5, 11.0, [20.1, 21.0]), (1.9, 60.0, [])]
    ):
        parameters, tags = {ALPHA: alpha}, {"ear.trial": str(trial)}
        found = [(configured(parameters, 0), fid, "proposal")]
        found += [
            (configured(parameters, 1000 + number, 4000, evaluation_seed=1), value, "confirmation")
            for number, value in enumerate(fresh)
        ]
        for config, value, role in found:
            run = publish(config, store, value)
            runs.append(replace(run, parameters=parameters, tags={**tags, "ear.role": role}))
    space = {"space": {ALPHA: {"uniform": [1.0, 1.9]}}, "trials": 3, "constraints": {}}
    settings = {"base": "digits", "set": {}, "space": {}, "search": space, "seeds": [0]}
    SweepRecord("made", "0" * 32, [ALPHA], ["fid"], settings, 0, True, None, runs).write(tmp_path)
    said, written = promoted(tmp_path)
    assert "Winner: alpha=1.5" in said
    assert "fid 11.00         in the sweep: 1 training, 2,000 images each, evaluation seed 0" in said
    assert "fid 20.55 ± 5.72  again, the search's confirmation: 2 trainings, 4,000 images" in said
    assert "The luck of sampling and the luck of training both show in it." in said
    assert "Of the 2 that were confirmed it was chosen by this value" in said
    assert (written["scoring"]["alpha"], written["seed"], written["evaluation"]["images"]) == (1.5, 0, 2000)
    # Seeds that have no part in the choice: not those of the confirmation, which are 1000 and 1001.
    publish(configured({ALPHA: 1.5}, 2001, 4000, evaluation_seed=2), store, 25.0)
    fresh_seed = promoted(tmp_path, "--seeds", 1, "--force")[0]
    assert "fid 25.00  again, fresh trainings: 1 training, 4,000 images each, evaluation seed 2" in fresh_seed


@pytest.mark.parametrize(
    ("path", "stages", "own", "target", "why"),
    [
        ("training.stages.1.train_temperature", 2, 3, "training.stages.2.train_temperature", ""),  # last to last
        ("training.stages.0.train_temperature", 2, 2, "training.stages.0.train_temperature", ""),
        ("training.stages.1.train_temperature", 3, 2, "training.stages.1.train_temperature", "no such stage"),
        ("training.stages.0.steps", 2, 2, "training.stages.0.steps", "lengths"),
        ("scoring.generator.width", 2, 2, "scoring.generator.width", "head's size"),
        ("scoring.samples", 2, 2, "scoring.samples", ""),
        ("seed", 2, 2, "seed", "own"),
    ],
)
def test_where_a_parameter_goes(path: str, stages: int, own: int, target: str, why: str) -> None:
    found = place(path, stages, own)
    assert found[0] == target
    assert why in found[1]
    assert bool(why) == bool(found[1])


def test_the_leaves_of_a_value_have_dotted_paths() -> None:
    value = {"name": "x", "stages": [{"steps": 1}, {"steps": 2}], "betas": [0.9, 0.95]}
    assert dict(leaves(value, "a")) == {
        "a.name": "x",
        "a.stages.0.steps": 1,
        "a.stages.1.steps": 2,
        "a.betas": [0.9, 0.95],
    }

    names = ["scoring.alpha", "training.stages.0.steps", "training.stages.1.steps", "scoring.name"]
    assert list(short_names(names).values()) == ["alpha", *names[1:]]


@pytest.mark.parametrize("value", ["a: b # c", "1e3", "null", "a\nb", "é", 1e-6, 10**8, True, [0.9, 0.95], "- x", "'"])
def test_a_value_reads_as_it_was_written(value: Any) -> None:
    assert parse_yaml(f"{{x: {scalar(value)}}}  # why", "text") == {"x": value}
    assert "\n" not in scalar(value)


def test_constraints_are_read_and_the_asked_ones_replace_the_search_s() -> None:
    found = parse_constraints(["recall>=0.5", " fid <= 2e1", "recall<=.9"])
    assert found == {"recall": BoundConfig(at_least=0.5, at_most=0.9), "fid": BoundConfig(at_most=20)}
    assert in_words(found) == "recall >= 0.5, recall <= 0.9, fid <= 20"
    assert (
        merged({"recall": BoundConfig(at_least=0.2), "is": BoundConfig(at_least=3)}, found)["recall"] == found["recall"]
    )
    for text, message in (
        ("recall>0.5", "write it as METRIC>=NUMBER"),
        ("recall>=high", "write it as METRIC>=NUMBER"),
        ("recal>=0.5", r"not a metric \(did you mean 'recall'\?\)"),
    ):
        with pytest.raises(UserError, match=message):
            parse_constraints([text])
    with pytest.raises(UserError, match="has such a bound already"):
        parse_constraints(["fid<=1", "fid<=2"])


def test_best_names_the_first_training_of_what_is_promoted_with_its_settings(tmp_path: Path) -> None:
    """The guided configurations share their trainings with the others, which were recorded first."""
    from ear.cli.checkpoint import find_model

    sweep(tmp_path, {(1.0,): [40.4, 40.0], (3.0,): [10.3, 10.0]}, [CFG])
    found = find_model(Path("made:best"), tmp_path)
    assert found.config == configured({CFG: 3.0}, 0)
    assert found.checkpoint.parent.name == Run(found.config, Store(tmp_path)).keys.training
    assert find_model(Path(Run(found.config, Store(tmp_path)).keys.evaluation[:8]), tmp_path) == found
    for name, message in (("made:worst", "no package knows this name; known: NAME:best"),):
        with pytest.raises(UserError, match=message):
            find_model(Path(name), tmp_path)
    shutil.rmtree(found.checkpoint.parent)
    with pytest.raises(UserError, match=r"its training .* is no longer in .* Run the sweep again"):
        find_model(Path("made:best"), tmp_path)
    publish(found.config, Store(tmp_path), 10.3)
    again_there = ear("train", "--from", "made:best", "--set", "scoring.beta=1", "--root", tmp_path, code=2)
    assert "--from made:best: unknown key 'scoring.beta'" in again_there.stderr
    assert "Give either CONFIG or --from" in ear("train", "--root", tmp_path, code=2).stderr
    assert "Give either CONFIG or --from" in ear("train", "digits", "--from", "x", "--root", tmp_path, code=2).stderr
