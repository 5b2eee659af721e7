"""What a run finds, keeps and publishes; no event is generated."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from toposieve.config import SimulationConfig
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import OutputFile, Unit, describe_file, read_manifest
from toposieve.simulation.campaign import Campaign, file_index, open_samples, publish_sample, simulate_samples

CONFIG = SimulationConfig(samples=("wjets", "qcd"), selected_events=50, events_per_file=100)


def fake_file(folder: Path, sample: str, index: int, selected: int) -> Unit:
    path = folder / f"{sample}-{index:06d}.root"
    path.write_text(f"content of {path.name}")
    counts = {"generated": 500, "events": 100, "selected": selected}
    return Unit(
        source=f"file {index}",
        source_checksum="",
        entry_start=0,
        entry_stop=100,
        counts=counts,
        outputs=(describe_file(path, folder),),
    )


def publish(campaign: Campaign) -> None:
    with ExitStack() as stack:
        for sample in open_samples(campaign, stack, replace=False):
            files = [fake_file(sample.publication.staging, sample.sample, i, 30) for i in range(2)]
            publish_sample(campaign, sample, files, files, seconds=1.0)


@pytest.fixture
def campaign(tmp_path):
    return Campaign(tmp_path, "2026-01-01", CONFIG)


def missing(campaign: Campaign, *, replace: bool = False) -> dict[str, int | None]:
    """Sample → the next file to make."""
    with ExitStack() as stack:
        samples = open_samples(campaign, stack, replace=replace)
        return {sample.sample: sample.progress.next_index() for sample in samples}


def test_everything_is_missing_at_first_slow_samples_first(campaign):
    assert list(missing(campaign).items()) == [("qcd", 0), ("wjets", 0)]


def test_published_samples_are_complete(campaign):
    publish(campaign)
    assert missing(campaign) == {"qcd": None, "wjets": None}
    manifest = read_manifest(campaign.directory("qcd"))
    assert manifest.stage == "simulation"
    assert manifest.total("selected") == 60
    assert manifest.extra["pileup_library"].startswith("raw/_pileup/")
    assert (campaign.directory("qcd") / "timing.json").exists()


def test_only_a_lost_or_damaged_file_is_made_again(campaign):
    publish(campaign)
    (campaign.directory("qcd") / "qcd-000000.root").unlink()
    (campaign.directory("wjets") / "wjets-000001.root").write_text("damaged")
    assert missing(campaign) == {"qcd": 0, "wjets": 1}


def test_a_sample_does_not_depend_on_the_others(campaign, tmp_path):
    publish(campaign)
    alone = CONFIG.model_copy(update={"samples": ("qcd",)})
    assert missing(Campaign(tmp_path, "2026-01-01", alone)) == {"qcd": None}


def test_how_qcd_is_made_matters_to_qcd_alone(campaign, tmp_path):
    publish(campaign)
    fast = Campaign(tmp_path, "2026-01-01", CONFIG.model_copy(update={"qcd_fast": True}))
    assert missing(fast, replace=True) == {"qcd": 0, "wjets": None}


def test_each_sample_tells_its_own_time(campaign, monkeypatch):
    """One file at a time, each of which takes 10 s: the second sample starts when the first is complete."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("toposieve.simulation.campaign.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("toposieve.simulation.campaign.ensure_library", lambda *_: None)
    monkeypatch.setattr(
        "toposieve.simulation.campaign._run_on_spark",
        lambda _spark, task: fake_file(task.folder, task.sample, task.index, 60),
    )
    with ExitStack() as stack:
        simulate_samples(
            Mock(sparkContext=Mock(defaultParallelism=1)), campaign, open_samples(campaign, stack, replace=False)
        )
    timings = [json.loads((campaign.directory(name) / "timing.json").read_text()) for name in ("qcd", "wjets")]
    assert [timing["seconds"] for timing in timings] == [10, 10]


def test_another_configuration_is_refused_or_replaces(campaign, tmp_path):
    publish(campaign)
    other = Campaign(tmp_path, "2026-01-01", CONFIG.model_copy(update={"pileup": 5.0}))
    with pytest.raises(InvalidInputError, match="pass --replace"):
        missing(other)
    assert missing(other, replace=True) == {"qcd": 0, "wjets": 0}


def test_a_base_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InvalidInputError, match="cannot be made"):
        missing(Campaign(tmp_path / "file", "2026-01-01", CONFIG))


def test_files_of_qcd_hold_fewer_events(campaign):
    assert campaign.task("wjets", 0, Path(), None).events == 100
    assert campaign.task("qcd", 0, Path(), None).events == 40


def test_number_of_a_file():
    output = OutputFile(path="qcd-000017.root", bytes=1, checksum="")
    unit = Unit(source="", source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=(output,))
    assert file_index(unit) == 17
