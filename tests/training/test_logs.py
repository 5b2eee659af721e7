from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from support.copying_store import copying_store
from toposieve.io.store import Key
from toposieve.training.logs import EpochLog


def losses_in(folder: Path) -> list[float]:
    events = EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()
    return [float(make_ndarray(event.tensor_proto)) for event in events.Tensors("loss")]


def event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def write_two_epochs(run: Key, folder: Path) -> None:
    with EpochLog(run) as log:
        for epoch, loss in enumerate((0.5, 0.25), start=1):
            log.write(epoch, {"loss": loss})
            assert losses_in(folder) == [0.5, 0.25][:epoch]  # after each epoch, not only in the end
    assert len(event_files(folder)) == 1


def test_a_local_log_grows_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    with EpochLog(Key(str(tmp_path))) as log:
        log.write(1, {"loss": 0.5})
        (first,) = event_files(folder)
        before = first.stat()
        log.write(2, {"loss": 0.25})
        assert first.stat().st_ino == before.st_ino
        assert first.stat().st_size > before.st_size
    assert losses_in(folder) == [0.5, 0.25]


def test_logs_are_seen_after_each_epoch_wherever_the_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_two_epochs(Key(str(tmp_path / "local")), tmp_path / "local" / "tensorboard")
    root, _ = copying_store(tmp_path / "remote", monkeypatch)
    write_two_epochs(root, tmp_path / "remote" / "tensorboard")
