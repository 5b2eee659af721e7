from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import evaluation_data
from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io import manifests, scores
from toposieve.io.event_tables import read_tables
from toposieve.io.scores import (
    SCORED_SPLITS,
    PermutedScores,
    Scores,
    publish_scores,
    read_permuted_scores,
    read_scores,
)


@pytest.fixture
def stored(tmp_path):
    """Base, dataset and a run on it."""
    dataset = evaluation_data.write_dataset(tmp_path)
    run = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"))
    base = evaluation_data.base_key(tmp_path)
    return base, base / "datasets" / "demo", base / "models" / "hlf" / run.name


def made_scores(dataset):
    """Scores of every event, each another number."""
    made = {}
    for split in SCORED_SPLITS:
        table = pa.concat_tables(read_tables(dataset, manifests.read_manifest(dataset), split))
        logits = np.arange(3 * table.num_rows, dtype=np.float32).reshape(-1, 3)
        ids = table["event_id"].combine_chunks()
        made[split] = Scores(ids, table["label"].to_numpy().astype(np.int64), logits)
    return made


@pytest.fixture
def made(stored):
    return made_scores(stored[1])


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in folder.list() if not name.startswith("_")}


def test_what_is_published_is_read_again(stored, made):
    folder = publish_scores(*stored, made)
    assert (
        str(folder)
        == f"{stored[0]}/scores/demo/hlf/{stored[2].name}"
        == str(scores.scores_folder(stored[0], "demo", stored[2]))
    )
    for split in SCORED_SPLITS:
        found = read_scores(folder, split)
        assert found.event_ids.equals(made[split].event_ids)
        np.testing.assert_array_equal(found.labels, made[split].labels)
        np.testing.assert_array_equal(found.logits, made[split].logits)
        assert found.logits.dtype == np.float32
    manifest = manifests.read_manifest(folder)
    assert set(manifest.inputs) == {"datasets/demo", f"models/hlf/{stored[2].name}"}
    assert [unit.source for unit in manifest.units] == list(SCORED_SPLITS)


def test_columns_are_named_by_class(stored, made):
    folder = publish_scores(*stored, made)
    [path] = (name for name in folder.list() if name.startswith("test-"))
    table = pq.read_table(str(folder / path))
    assert table.column_names == ["event_id", "label", *(f"score_{sample}" for sample in schema.SAMPLES)]
    np.testing.assert_array_equal(table["score_wjets"].to_numpy(), made["test"].logits[:, 2])


def test_what_is_there_is_not_made_again(stored, made):
    folder = publish_scores(*stored, made)
    before = files_of(folder)
    publish_scores(*stored, {})  # nothing is asked for
    assert files_of(folder) == before


def test_a_killed_run_goes_on_with_the_split_that_lacks(stored, made):
    with pytest.raises(KeyError):
        publish_scores(*stored, {"validation": made["validation"]})
    folder = publish_scores(*stored, {"test": made["test"]})
    np.testing.assert_array_equal(read_scores(folder, "validation").logits, made["validation"].logits)


def test_recompute_makes_all_anew(stored, made):
    publish_scores(*stored, made)
    with pytest.raises(KeyError):
        publish_scores(*stored, {}, recompute=True)


def change(scores_of_split, what):
    ids, labels, logits = scores_of_split.event_ids, scores_of_split.labels, scores_of_split.logits
    return {
        "events": lambda: replace(scores_of_split, event_ids=pa.concat_arrays([ids[1:], ids[:1]])),
        "labels": lambda: replace(scores_of_split, labels=(labels + 1) % 3),
        "rows": lambda: Scores(ids[1:], labels[1:], logits[1:]),
        "classes": lambda: replace(scores_of_split, logits=logits[:, :2]),
        "nan": lambda: replace(scores_of_split, logits=np.where(logits == 7, np.nan, logits)),
    }[what]()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("events", "demo's test split are of other events"),
        ("labels", "demo's test split are of other events"),
        ("rows", "demo's test split are 53, not 54"),
        ("classes", r"gives scores of 2 classes, but .*/demo has 3 \(qcd, ttbar, wjets\): train on that dataset"),
        ("nan", "demo's test split are NaN or infinite for 1 events, the first "),
    ],
)
def test_scores_that_do_not_fit_are_refused(stored, made, what, message):
    with pytest.raises(InvalidInputError, match=f"hlf.*{message}"):
        publish_scores(*stored, made | {"test": change(made["test"], what)})


def test_scores_of_another_dataset_are_refused(stored, made):
    folder = publish_scores(*stored, made)
    path = Path(str(stored[1]))
    manifest = manifests.read_manifest(stored[1])
    evaluation_data.save_manifest(path, manifest.model_copy(update={"config": {"preparation": {"seed": 2}}}))
    with pytest.raises(InvalidInputError, match="scores of another datasets/demo than is there now"):
        read_scores(folder, "test")


def test_another_split_is_refused(stored, made):
    folder = publish_scores(*stored, made)
    with pytest.raises(InvalidInputError, match="no scores of the train split"):
        read_scores(folder, "train")


def test_a_missing_class_is_named(stored, made):
    folder = publish_scores(*stored, made)
    [unit] = (unit for unit in manifests.read_manifest(folder).units if unit.source == "test")
    path = Path(str(folder / unit.outputs[0].path))
    pq.write_table(pq.read_table(path).drop_columns("score_wjets"), path)
    changed = unit.model_copy(update={"outputs": (manifests.describe_file(path, unit.outputs[0].path),)})
    manifest = manifests.read_manifest(folder).model_copy(update={"units": (changed,)})
    evaluation_data.save_manifest(Path(str(folder)), manifest)
    with pytest.raises(InvalidInputError, match="columns score_wjets are not as expected"):
        read_scores(folder, "test")


def permuted_scores():
    rows = np.array([1, 5, 9, 50])
    return PermutedScores(rows, {name: np.full((4, 3), place, np.float32) for place, name in enumerate(("MET", "HT"))})


def test_scores_of_permuted_events_are_beside_those_of_the_splits(stored, made):
    folder = publish_scores(*stored, made)
    assert read_permuted_scores(folder) is None
    before = files_of(folder)
    publish_scores(*stored, {}, permuted_scores)  # the splits are not asked for again
    found, expected = read_permuted_scores(folder), permuted_scores()
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert list(found.logits) == ["MET", "HT"]
    for name, logits in expected.logits.items():
        np.testing.assert_array_equal(found.logits[name], logits)
    kept = files_of(folder)
    assert all(kept[name] == content for name, content in before.items() if name.endswith(".parquet"))


def test_permuted_scores_that_are_not_finite_are_refused(stored, made):
    bad = permuted_scores()
    bad.logits["HT"][2, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"permuted demo HT are NaN .* for 1 events, the first in row 9"):
        publish_scores(*stored, made, lambda: bad)
