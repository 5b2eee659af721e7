"""Searches in this process; with Spark, see tests/jobs/test_train_trees.py."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import tensorflow as tf
from optuna.distributions import FloatDistribution

from support.copying_store import copying_store
from support.on_spark import run_here
from support.training_data import key_of, write_dataset
from toposieve.config import SearchConfig, TrainingConfig, load_config
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.training import loop
from toposieve.training.gang import gang_from_environment
from toposieve.training.order import Share
from toposieve.training.runs import BEST_FILE
from toposieve.training.shards import Dataset, open_dataset
from toposieve.tuning import fits, study, trials
from toposieve.tuning.fits import fold_of
from toposieve.tuning.spaces import Space, space_of, training_config
from toposieve.tuning.study import Candidate, Search
from toposieve.tuning.trials import Fitted, Group, Trial

CONFIG = SearchConfig(trials=4, batch_trials=4, epochs=(1, 2))
VALUES = {"learning_rate": 0.003, "learning_rate_schedule": "cosine", "batch_size": 32, "hlf_units": [8]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    directory = tmp_path_factory.mktemp("base") / "datasets" / "demo"
    return open_dataset(key_of(write_dataset(directory, train=150, validation=60, lengths=(2, 4))))


@pytest.fixture(autouse=True)
def small_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two graphs to compile, in this process."""
    monkeypatch.setattr(study, "run_on_spark", run_here)
    small = {"learning_rate": (3e-4, 1e-2), "learning_rate_schedule": ["constant", "cosine"], "batch_size": [32]}
    monkeypatch.setattr("toposieve.tuning.spaces._COMMON", small)
    monkeypatch.setattr("toposieve.tuning.spaces._MODEL_AXES", {"hlf_units": [[8]]})


def search(folder: Path, dataset: Dataset, config: SearchConfig = CONFIG) -> list[Candidate]:
    made = Search(Key(str(folder)), dataset, config)
    made.claim()
    return made.run(lambda: None)  # type: ignore[arg-type, return-value]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json")}


def test_a_search_gives_up_what_is_worse_and_goes_on_after_a_kill(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(tmp_path / "whole", dataset)
    records = files(tmp_path / "whole")
    assert sorted(name[-9:] for name in records if "trials" in name) == 4 * ["0001.json"] + 2 * ["0002.json"]
    first = {n: json.loads(records[f"trials/{n:05d}-0001.json"]) for n in range(4)}
    losses = {n: record["histories"][0][0]["validation_loss"] for n, record in first.items()}
    assert {each.trial.number for each in whole} == set(sorted(losses, key=losses.__getitem__)[:2])
    assert whole[0].loss <= whole[1].loss
    summary = json.loads(records["search.json"])
    assert [(each["number"], each["epochs"]) for each in summary["trials"]] == [
        (n, 2 if n in {each.trial.number for each in whole} else 1) for n in range(4)
    ]
    assert min(each["loss"] for each in summary["trials"]) == whole[0].loss
    assert summary["importances"] == {}  # of two trials nothing can be said

    calls = []

    def killed(_: Any, function: Callable[[Any], Any], items: Any, **__: Any) -> None:
        calls.append(function(items[0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_on_spark", killed)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed", dataset)
    kept = files(tmp_path / "killed")
    assert 0 < len(kept) < len(records)
    monkeypatch.setattr(study, "run_on_spark", run_here)
    assert search(tmp_path / "killed", dataset) == whole
    assert files(tmp_path / "killed") == records

    # With other libraries other values may be drawn: what is of others, or damaged, is tried again.
    other = first[0] | {"values": first[0]["values"] | {"learning_rate": 0.001}, "histories": [[]]}
    (tmp_path / "killed" / "trials" / "00000-0001.json").write_text(json.dumps(other))
    (tmp_path / "killed" / "trials" / "00001-0001.json").write_text("")
    assert search(tmp_path / "killed", dataset) == whole
    assert files(tmp_path / "killed") == records


def test_a_trial_is_what_training_would_do(tmp_path: Path, dataset: Dataset) -> None:
    config = training_config(CONFIG, VALUES, 2)
    task = loop.Task(config, dataset, gang_from_environment({}), Key(str(tmp_path / "run")))
    trained = loop.train(task, tf.distribute.get_strategy(), lambda: None)
    trial, folder = Trial(0, VALUES), Key(str(tmp_path / "study"))

    def group(epochs: int, before: Fitted | None) -> Group:
        graph = config.model_copy(update={"learning_rate": 1.0})
        return Group(dataset, graph, 1, epochs, ((trial, before),), folder)

    [half] = trials.fit(group(1, None))
    [resumed] = trials.fit(group(2, half))
    [at_once] = trials.fit(group(2, None))
    assert list(at_once.histories[0]) == trained.progress.history
    assert resumed.histories == at_once.histories
    assert half.loss(1) == half.histories[0][0]["validation_loss"]
    assert group(2, half).events == group(2, None).events / 2


def test_particles_of_a_store_elsewhere_are_searched_alike(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingConfig(model="particle_sequence", batch_size=32, learning_rate=1.0, gru_units=2, seed=8)

    def fitted(of: Dataset) -> Fitted:
        fits._SOURCES.clear()  # they are known by what a dataset holds, not by where it lies
        fits._MACHINES.clear()
        [found] = trials.fit(Group(of, config, 1, 1, ((Trial(0, {}), None),), Key(str(tmp_path))))
        return found

    folder = Path(str(dataset.train.shards[0].key)).parents[2]
    root, store = copying_store(folder.parent, monkeypatch)
    elsewhere = open_dataset(root / folder.name)
    assert fitted(elsewhere).histories == fitted(dataset).histories
    assert store.fetched


def test_operations_of_a_trial_are_deterministic(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[bool] = []
    monkeypatch.setattr("tensorflow.config.experimental.enable_op_determinism", lambda: called.append(True))
    config = training_config(CONFIG, VALUES, 1).model_copy(update={"seed": 7})  # of no graph that there is already
    trials.fit(Group(dataset, config, 1, 1, ((Trial(0, VALUES), None),), Key(str(tmp_path))))
    assert called


def test_every_record_validates_in_one_fold(dataset: Dataset) -> None:
    parts = [fold_of(dataset.train, fold, 3) for fold in range(3)]
    assert sorted(n for _, validation in parts for n in validation.kept.tolist()) == list(range(150))
    for train, validation in parts:
        assert not set(train.kept.tolist()) & set(validation.kept.tolist())
        numbers = train.order(1, 0).batches(0, train.steps(32), Share(32)).ravel()
        assert sorted(numbers[numbers >= 0].tolist()) == train.kept.tolist()


def test_the_published_space_has_243_candidates() -> None:
    space = space_of(SearchConfig(space="published"))
    assert len(space.grid()) * len(space.epochs) == 243
    assert (space.folds, space.rungs) == (5, (50,))


def test_importances_are_shares_of_what_each_key_explains() -> None:
    """After the last epochs that five trials for each key have reached."""
    names = "early", "late"

    def importances(trials: int, reached: int, loss: Callable[[int, float, float], float]) -> tuple[int, Any]:
        asked, distributions = optuna.create_study(), {name: FloatDistribution(0, 1) for name in names}
        for number in range(trials):
            values = number / trials, number * 7 % trials / trials
            losses = {epochs: loss(epochs, *values) for epochs in ((1, 3) if number < reached else (1,))}
            trial = optuna.trial.create_trial(
                state=optuna.trial.TrialState.PRUNED,
                params=dict(zip(names, values, strict=True)),
                distributions=distributions,
                intermediate_values=losses,
            )
            asked.add_trial(trial)
        space = Space(dict.fromkeys(names, (0.0, 1.0)), epochs=(1, 3), folds=1, kept=1 / 3)
        return study._importances(asked, space, 1)

    def loss(epochs: int, early: float, late: float) -> float:
        return early**2 if epochs == 1 else late**2

    epochs, shares = importances(20, 10, loss)
    assert (epochs, sum(shares.values())) == (3, pytest.approx(1))
    assert shares["late"] > 0.9
    assert importances(20, 10, loss) == (epochs, shares)
    epochs, shares = importances(20, 9, loss)
    assert (epochs, shares["early"] > 0.9) == (1, True)
    assert importances(9, 9, loss) == (1, {})
    assert importances(20, 20, lambda _, early, __: 0.5 + 1e-9 * early) == (1, {})
    assert importances(20, 20, lambda epochs, early, _: math.inf if epochs == 3 else early)[0] == 1


def test_a_trial_that_diverges_counts_as_the_worst() -> None:
    histories = ([{"validation_loss": 1.0}, {"validation_loss": float("nan")}], [{"validation_loss": 3.0}] * 2)
    assert Fitted(histories).loss(1) == 2.0
    assert Fitted(histories).loss(2) == float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"space": "published"}, r"of another config \(space better, now published\)"), ({"seed": 2}, "seed 1, now 2")],
)
def test_a_study_of_something_else_is_refused(
    tmp_path: Path, dataset: Dataset, changes: dict[str, Any], message: str
) -> None:
    Search(Key(str(tmp_path)), dataset, CONFIG).claim()
    other = SearchConfig.model_validate(CONFIG.model_dump() | changes)
    with pytest.raises(InvalidInputError, match=message):
        Search(Key(str(tmp_path)), dataset, other).claim()


def test_a_study_with_a_key_that_is_no_more_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    Search(Key(str(tmp_path)), dataset, CONFIG).claim()
    recorded = Key(str(tmp_path), study.STUDY_FILE)
    known = json.loads(recorded.read_text())
    known["config"]["patience"] = 3
    recorded.write_text(json.dumps(known))
    with pytest.raises(InvalidInputError, match=r"of another config \(patience 3, now None\): give another --study"):
        Search(Key(str(tmp_path)), dataset, CONFIG).claim()


def test_another_study_is_replaced_whole_if_asked_for(tmp_path: Path, dataset: Dataset) -> None:
    folder, other = Key(str(tmp_path)), Search(Key(str(tmp_path)), dataset, CONFIG.model_copy(update={"seed": 2}))
    Search(folder, dataset, CONFIG).claim()
    of_before = [Trial(0, VALUES).record(folder, 1), folder / BEST_FILE]
    for key in of_before:
        key.write_text("{}")
    other.claim(replace=True)
    assert [key.stat() for key in of_before] == [None, None]
    of_before[0].write_text("{}")
    other.claim(replace=True)  # a retry: what is its own stays
    assert of_before[0].stat()
    with pytest.raises(InvalidInputError, match="seed 2, now 1"):
        Search(folder, dataset, CONFIG).claim()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model": "inclusive", "space": "published"}', "is of hlf, not of inclusive: set space to better"),
        ('{"model": "xgboost", "epochs": [1]}', "xgboost is trained at once: leave epochs empty"),
    ],
)
def test_a_search_that_its_model_cannot_have_is_refused(config: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_config(SearchConfig, config)
