import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf

import evaluate
import import_dataset
from support.published_files import KINDS, as_published, write_file, write_published
from support.training_data import key_of, make_events
from toposieve import schema
from toposieve.config import ImportConfig, TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import fingerprint, read_manifest
from toposieve.io.publication import Publication
from toposieve.io.store import root_key
from toposieve.training import loop, published, results
from toposieve.training.gang import Gang
from toposieve.training.loop import Task
from toposieve.training.runs import run_directory
from toposieve.training.shards import open_dataset


def run_import(tmp_path, folder, config=None):
    """(units, how many events were written)"""
    sources = published.find_sources(
        root_key("--train", str(folder / "train")), root_key("--test", str(folder / "test"))
    )
    config = config or ImportConfig()
    with Publication(key_of(tmp_path / "datasets" / "new")) as publication:
        units, new = published.import_files(publication, sources, config)
        publication.publish(published.dataset_manifest(units, config))
        return units, new


def read_events(tmp_path, units):
    """Event id → split and record."""
    events = {}
    for unit in units:
        for record in tf.data.TFRecordDataset(str(tmp_path / "datasets" / "new" / unit.outputs[0].path)):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            event_id = feature[schema.RECORD_KEYS["event_id"]].bytes_list.value[0].decode()
            assert event_id not in events
            events[event_id] = unit.source.partition("/")[0], feature
    return events


def contents(folder):
    """Path → time and bytes of all that a folder holds, and of itself: not even a mark is to be left there."""
    paths = [folder, *folder.rglob("*")]
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in paths}


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_in_one_split_as_it_was(tmp_path, kind):
    write_published(tmp_path / "files", kind)
    before = contents(tmp_path / "files")
    units, new = run_import(tmp_path, tmp_path / "files")
    assert contents(tmp_path / "files") == before
    events = read_events(tmp_path, units)
    assert new == len(events) == 40 + 17 + 12
    suffix = ".gz" if kind == "gzip" else ""
    for number, (split, count) in enumerate([("train", 0), ("train", 40), ("train", 17), ("test", 12)]):
        for record, event in enumerate(make_events(count, seed=number)):
            found, feature = events[f"{split}/part-r-{number:05d}{suffix}:{record}"]
            assert found in (("train", "validation") if split == "train" else ("test",))
            for role, dtype in (("high_level", np.float32), ("particles", np.float32)):
                values = np.array(feature[schema.RECORD_KEYS[role]].float_list.value, dtype)
                np.testing.assert_array_equal(values, event[role].ravel())
            assert feature["label"].int64_list.value[0] == event["label"]
            assert feature["length"].int64_list.value[0] == event["length"]
            assert feature["weight"].float_list.value[0] == 1.0
    validation = sum(split == "validation" for split, _ in events.values())
    assert 4 <= validation <= 20  # of 57, .2


def test_a_second_run_writes_nothing_and_one_that_was_killed_goes_on(tmp_path):
    write_published(tmp_path / "files")
    units, _ = run_import(tmp_path, tmp_path / "files")
    assert run_import(tmp_path, tmp_path / "files") == (units, 0)
    for manifest in (tmp_path / "datasets" / "new").glob("manifest-*"):
        manifest.unlink()
    lost = tmp_path / "datasets" / "new" / units[0].outputs[0].path
    lost.unlink()
    again, new = run_import(tmp_path, tmp_path / "files")
    assert again == units
    assert new == sum(unit.counts["events"] for unit in units)  # records go once a manifest is there


def test_a_file_is_known_by_its_content(tmp_path):
    write_published(tmp_path / "files")
    units, _ = run_import(tmp_path, tmp_path / "files")
    folder, path = key_of(tmp_path / "datasets" / "new"), tmp_path / "files" / "train" / "part-r-00001"
    before, was = fingerprint(read_manifest(folder)), path.stat()
    events = [as_published(event) for event in make_events(40, seed=1)]
    write_file(path, [{**event, "high_level": event["high_level"] + 1} for event in events])
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size
    again, new = run_import(tmp_path, tmp_path / "files")
    assert new == 40
    assert len(again) == len(units)
    assert fingerprint(read_manifest(folder)) != before


def test_what_an_unpublished_run_has_written_is_taken_over(tmp_path):
    write_published(tmp_path / "files")
    folder = tmp_path / "files"
    sources = published.find_sources(
        root_key("--train", str(folder / "train")), root_key("--test", str(folder / "test"))
    )
    with Publication(key_of(tmp_path / "datasets" / "new")) as publication:
        published.import_files(publication, sources[:1], ImportConfig())
    _, new = run_import(tmp_path, folder)
    assert new == 17 + 12


def test_another_seed_cuts_another_validation_split(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    write_published(tmp_path / "files")
    chosen = [
        {
            event
            for event, (split, _) in read_events(
                base, run_import(base, tmp_path / "files", ImportConfig(seed=seed))[0]
            ).items()
            if split == "validation"
        }
        for seed, base in ((1, tmp_path / "a"), (2, tmp_path / "b"))
    ]
    assert chosen[0] != chosen[1]


def broken(**changes):
    event = as_published(make_events(1)[0])
    return {**event, **{role: change(np.array(event[role])) for role, change in changes.items()}}


def with_nan(values):
    values.flat[3] = np.nan
    return values


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"particles": with_nan}, "part-0: record 1 has a number that is not finite"),
        ({"high_level": with_nan}, "part-0: record 1 has a number that is not finite"),
        ({"label": lambda values: values + 1}, "record 1 has a label not one-hot"),
        ({"label": lambda values: values * 0}, "record 1 has a label not one-hot"),
        ({"particles": lambda values: values * 0}, "record 1 has no particles"),
        ({"particles": lambda values: np.ones((802, 19))}, "record 1 has no particles, or more than 801"),
        ({"particles": lambda values: np.ones(20)}, "record 1 has particles of other than 19 numbers"),
        ({"high_level": lambda values: values[:13]}, "part-0"),
    ],
)
def test_a_bad_event_is_named(tmp_path, kind, changes, message):
    events = [as_published(make_events(1)[0]), broken(**changes)]
    if kind == "parquet" and "particles" in changes:  # columns have one depth
        events = [{**event, "particles": np.asarray(event["particles"]).ravel()} for event in events]
    write_file(tmp_path / "files" / "train" / "part-0", events, kind)
    write_file(tmp_path / "files" / "test" / "part-0", events[:1], kind)
    with pytest.raises(InvalidInputError, match=message):
        run_import(tmp_path, tmp_path / "files")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short_is_named(tmp_path, kind):
    write_published(tmp_path / "files", kind, train=(20,))
    path = next((tmp_path / "files" / "train").glob("part-*"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InvalidInputError, match=r"part-r-00000.* cannot be read"):
        run_import(tmp_path, tmp_path / "files")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_key_is_named_beside_those_that_are_there(tmp_path, kind):
    write_published(tmp_path / "files", kind)
    with pytest.raises(InvalidInputError, match=r"has no labels, but .*encoded_label.*: set high_level_key"):
        run_import(tmp_path, tmp_path / "files", ImportConfig(label_key="labels"))


def test_an_empty_folder_is_named(tmp_path):
    write_published(tmp_path / "files", train=(0,))
    with pytest.raises(InvalidInputError, match="train has no files: give --train"):
        run_import(tmp_path, tmp_path / "files")


def test_the_chain_from_import_to_report_runs_on_published_files(tmp_path):
    write_published(tmp_path / "files", "parquet", train=(90,), test=30)
    base, folders = tmp_path / "base", [f"--{split}={tmp_path / 'files' / split}" for split in ("train", "test")]
    import_dataset.main(import_dataset.arg_parser().parse_args(["--base", str(base), "--dataset", "cern", *folders]))
    dataset = open_dataset(root_key("--base", str(base)) / "datasets" / "cern")
    config = TrainingConfig(model="inclusive", epochs=1, batch_size=8)
    task = Task(config, dataset, Gang(), run_directory(root_key("--base", str(base)), dataset.fingerprint, config))
    results.publish(task, loop.train(task, tf.distribute.get_strategy(), lambda: None))
    labels = ["--labels", f"ours=models/inclusive/{task.run_directory.name}"]
    options = ["--report", "cern", *labels, "--set", "bootstrap_samples=2"]
    evaluate.main(evaluate.arg_parser().parse_args(["--base", str(base), "--dataset", "cern", *options]))
    report = (base / "reports" / "cern" / "report.html").read_text()
    assert "on 30 test events" in report
    assert report.count("The dataset was imported: it does not say.") == 2  # cutflow and features in physical units
