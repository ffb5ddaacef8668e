"""What EAR uses of Optuna's private parts is there and does what it did."""

import optuna
from optuna.trial import TrialState

from sweeps.search.optuna_private import storage_id


def test_a_trial_is_resumed_and_set_back_by_its_storage_id() -> None:
    storage = optuna.storages.InMemoryStorage()
    for name in ("first", "second"):  # so that ids and numbers differ
        study = optuna.create_study(storage=storage, study_name=name)
        study.ask()
        study.ask()
    frozen = study.get_trials()[1]
    resumed = optuna.Trial(study, storage_id(frozen))
    assert resumed.number == frozen.number == 1
    resumed.set_user_attr("role", "extra")
    assert study.get_trials()[1].user_attrs == {"role": "extra"}
    storage.set_trial_state_values(storage_id(frozen), TrialState.WAITING)
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING, TrialState.WAITING]
