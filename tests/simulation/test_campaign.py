"""What a run finds, keeps, adopts and publishes; no event is generated."""

import errno
import json
from contextlib import ExitStack
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from support.on_spark import run_here
from toposieve.config import SimulationConfig
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import OutputFile, Unit, read_manifest, read_manifest_if_any
from toposieve.io.names import RECORDS
from toposieve.io.publication import Publication
from toposieve.io.store import Key
from toposieve.simulation import campaign as module
from toposieve.simulation import files
from toposieve.simulation.campaign import Campaign, file_index, open_sample, simulate_samples

CONFIG = SimulationConfig(samples=("wjets", "qcd"), selected_events=50, events_per_file=100)
SPARK = Mock(sparkContext=Mock(defaultParallelism=1))


@pytest.fixture
def raw(tmp_path):
    return Key(str(tmp_path))


@pytest.fixture
def campaign(raw):
    return Campaign(raw, "2026-01-01", CONFIG)


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Samples and numbers of the files that are made, each with 30 selected events."""
    tasks = []

    def fake_file(task, path):
        path.write_text(f"content of {task.name}")
        tasks.append((task.sample, task.index))
        counts = {"generated": 500, "events": 100, "selected": 30}
        return Unit(source=task.source, source_checksum="", entry_start=0, entry_stop=100, counts=counts, outputs=())

    monkeypatch.setattr(module, "run_on_spark", run_here)
    monkeypatch.setattr(module, "ensure_library", lambda *_, **__: None)
    monkeypatch.setattr(files, "simulate_file", fake_file)
    return tasks


def open_all(campaign: Campaign, stack: ExitStack, *, replace: bool = False):
    return [
        open_sample(campaign, sample, stack.enter_context(Publication(campaign.directory(sample))), replace=replace)
        for sample in campaign.samples
    ]


def simulate(campaign: Campaign, *, replace: bool = False) -> int:
    with ExitStack() as stack:
        samples = open_all(campaign, stack, replace=replace)
        return simulate_samples(SPARK, campaign, [sample for sample in samples if sample.progress.files() is None])


def missing(campaign: Campaign, *, replace: bool = False) -> dict[str, int | None]:
    """Sample → the next file to make."""
    with ExitStack() as stack:
        samples = open_all(campaign, stack, replace=replace)
        return {sample.sample: sample.progress.start_next() for sample in samples}


def key_of(campaign: Campaign, sample: str, index: int) -> Key:
    """The file of that number."""
    return campaign.directory(sample) / campaign.task(sample, index, None).name


def contents(folder: Key) -> dict[str, bytes]:
    """Manifests and files: all but how long they took, and records, which the next manifest that changes removes."""
    names = [name for name in folder.list() if name != "timing.json" and not name.startswith(RECORDS)]
    return {name: (folder / name).read_bytes() for name in names}


def test_everything_is_missing_at_first_slow_samples_first(campaign):
    assert list(missing(campaign).items()) == [("qcd", 0), ("wjets", 0)]


def test_published_samples_are_complete(campaign):
    assert simulate(campaign) == 400
    assert missing(campaign) == {"qcd": None, "wjets": None}
    manifest = read_manifest(campaign.directory("qcd"))
    assert manifest.stage == "simulation"
    assert manifest.total("selected") == 60
    assert manifest.extra["pileup_library"].startswith("_pileup/")
    assert [file_index(unit) for unit in manifest.units] == [0, 1]
    assert json.loads((campaign.directory("qcd") / "timing.json").read_text())["events"] == 200


def test_only_what_a_manifest_lists_is_left(campaign):
    simulate(campaign)
    names = set(campaign.directory("qcd").list())
    listed = {file.path for file in read_manifest(campaign.directory("qcd")).outputs()}
    assert names == {*listed, "manifest-000001.json", "timing.json"}


def test_only_a_file_that_is_lost_or_cut_short_is_made_again(campaign, made):
    simulate(campaign)
    before = contents(campaign.directory("qcd"))
    key_of(campaign, "qcd", 0).delete()
    key_of(campaign, "wjets", 1).write_text("cut")
    assert missing(campaign) == {"qcd": 0, "wjets": 1}
    made.clear()
    assert simulate(campaign) == 200
    assert made == [("qcd", 0), ("wjets", 1)]
    assert contents(campaign.directory("qcd")) == before


def full_disk_at(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make = files.simulate_file

    def limited(task, path):
        if task.index == index:
            raise OSError(errno.ENOSPC, "No space left on device")
        return make(task, path)

    monkeypatch.setattr(files, "simulate_file", limited)


def test_files_that_a_run_left_which_did_not_end_are_adopted(campaign, made, monkeypatch, caplog):
    only = Campaign(campaign.raw, campaign.partition, CONFIG.model_copy(update={"selected_events": 100}))
    with monkeypatch.context() as patch:
        full_disk_at(2, patch)
        with pytest.raises(OSError, match="No space left"):
            simulate(only)
    assert read_manifest_if_any(only.directory("qcd")) is None
    assert made == [("qcd", 0), ("qcd", 1)]
    with caplog.at_level("INFO"):
        assert simulate(only) == 600
    assert made == [(sample, index) for sample in ("qcd", "wjets") for index in range(4)]
    assert "qcd: 2 of 4 files were left by an earlier run" in caplog.text
    assert "wjets: 4 of" not in caplog.text
    undisturbed = Campaign(campaign.raw / "undisturbed", only.partition, only.config)
    simulate(undisturbed)
    assert contents(only.directory("qcd")) == contents(undisturbed.directory("qcd"))


def test_nothing_is_kept_or_adopted_if_all_is_to_be_made_anew(campaign, made, monkeypatch):
    simulate(campaign)
    made.clear()
    anew = Campaign(campaign.raw, campaign.partition, CONFIG, recompute=True)
    with monkeypatch.context() as patch:
        full_disk_at(1, patch)
        with pytest.raises(OSError, match="No space left"):
            simulate(anew)
    assert made == [("qcd", 0)]
    assert simulate(anew) == 400
    assert made == [("qcd", 0), ("qcd", 0), ("qcd", 1), ("wjets", 0), ("wjets", 1)]
    names = {file.path for file in read_manifest(campaign.directory("qcd")).outputs()}
    assert {name for name in campaign.directory("qcd").list() if name.endswith(".root")} == names


def test_other_code_makes_other_files(campaign, made, monkeypatch):
    simulate(campaign)
    before = {file.path for file in read_manifest(campaign.directory("qcd")).outputs()}
    monkeypatch.setitem(module.CODE_NUMBERS, "simulate", 1000)
    assert simulate(campaign) == 400
    manifest = read_manifest(campaign.directory("qcd"))
    assert manifest.code == 1000
    assert before.isdisjoint(file.path for file in manifest.outputs())


def test_of_two_runs_at_once_the_loser_publishes_nothing_else(campaign, monkeypatch):
    def overtaken(*arguments, **options):
        monkeypatch.setattr(module, "run_on_spark", run_here)
        simulate(campaign)
        return run_here(*arguments, **options)

    monkeypatch.setattr(module, "run_on_spark", overtaken)
    simulate(campaign)
    assert list(campaign.directory("qcd").list("manifest")) == ["manifest-000001.json"]


def test_a_sample_does_not_depend_on_the_others(campaign, raw):
    simulate(campaign)
    alone = CONFIG.model_copy(update={"samples": ("qcd",)})
    assert missing(Campaign(raw, "2026-01-01", alone)) == {"qcd": None}


def test_how_qcd_is_made_matters_to_qcd_alone(campaign, raw):
    simulate(campaign)
    fast = Campaign(raw, "2026-01-01", CONFIG.model_copy(update={"qcd_fast": True}))
    assert missing(fast, replace=True) == {"qcd": 0, "wjets": None}


def test_each_sample_tells_its_own_time(campaign, monkeypatch):
    """One file at a time, and two a sample: the second sample starts when the first is complete."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    simulate(campaign)
    timings = [json.loads((campaign.directory(name) / "timing.json").read_text()) for name in ("qcd", "wjets")]
    assert [timing["seconds"] for timing in timings] == [20, 20]


def test_another_configuration_is_refused_or_replaces(campaign, raw):
    simulate(campaign)
    other = Campaign(raw, "2026-01-01", CONFIG.model_copy(update={"pileup": 5.0}))
    with pytest.raises(InvalidInputError, match="pass --replace"):
        missing(other)
    assert missing(other, replace=True) == {"qcd": 0, "wjets": 0}


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InvalidInputError, match="cannot be made"):
        missing(Campaign(Key(str(tmp_path / "file")), "2026-01-01", CONFIG))


def test_files_of_qcd_hold_fewer_events(campaign):
    assert campaign.task("wjets", 0, None).events == 100
    assert campaign.task("qcd", 0, None).events == 40


def test_number_of_a_file():
    output = OutputFile(path="simulated/qcd-000017-0123456789ab.root", bytes=1, checksum="")
    unit = Unit(source="", source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=(output,))
    assert file_index(unit) == 17
