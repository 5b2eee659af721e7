import logging
from pathlib import Path

import numpy as np
import pytest

from toposieve.io.store import Key
from toposieve.training.checkpoints import (
    Checkpoint,
    ForeignCheckpointError,
    Progress,
    furthest,
    load_newest_checkpoint,
    save_checkpoint,
)

LAYERS = ["dense (Dense 14x3 3)", "probabilities (Softmax)"]


def checkpoint(epoch: int, step: int) -> Checkpoint:
    progress = Progress(
        epoch=epoch,
        step=step,
        sums=[1.5, 2.0, 3.0, 4.0],
        history=[{"loss": 0.1 + 0.2}] * epoch,
        epoch_seconds=[1.0] * epoch,
        running_seconds=0.5,
    )
    weights = [np.full((2, 3), epoch, np.float32), np.arange(12, dtype=np.float32)]
    return Checkpoint(progress, weights, [np.array(7, np.int64)], [] if epoch == 0 else weights[::-1], LAYERS)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = checkpoint(1, 20)
    save_checkpoint(Key(str(tmp_path)), saved)
    loaded = load_newest_checkpoint(Key(str(tmp_path)), LAYERS)
    assert loaded is not None
    assert loaded.progress == saved.progress
    for group in ("model", "optimizer", "best"):
        for was, now in zip(getattr(saved, group), getattr(loaded, group), strict=True):
            np.testing.assert_array_equal(was, now)
            assert was.dtype == now.dtype


def test_arrays_keep_their_order_beyond_ten(tmp_path: Path) -> None:
    arrays = [np.array(number) for number in range(25)]
    save_checkpoint(Key(str(tmp_path)), Checkpoint(Progress(), arrays, (), (), LAYERS))
    loaded = load_newest_checkpoint(Key(str(tmp_path)), LAYERS)
    assert loaded is not None
    assert [int(array) for array in loaded.model] == list(range(25))


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert load_newest_checkpoint(Key(str(tmp_path)) / "nowhere", LAYERS) is None


def test_the_newest_counts_and_old_ones_go(tmp_path: Path) -> None:
    for epoch, step in [(0, 200), (0, 1000), (1, 0), (1, 200), (10, 0)]:
        save_checkpoint(Key(str(tmp_path)), checkpoint(epoch, step))
        newest = load_newest_checkpoint(Key(str(tmp_path)), LAYERS)
        assert newest is not None
        assert (newest.progress.epoch, newest.progress.step) == (epoch, step)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_that_cannot_be_read_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_checkpoint(Key(str(tmp_path)), checkpoint(1, 0))
    newest = save_checkpoint(Key(str(tmp_path)), checkpoint(2, 0))
    newest.write_bytes(newest.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        loaded = load_newest_checkpoint(Key(str(tmp_path)), LAYERS)
    assert loaded is not None
    assert loaded.progress.epoch == 1
    assert newest.name in caplog.text


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(Key(str(tmp_path)), checkpoint(1, 0))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toposieve.io.store.file.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(Key(str(tmp_path)), checkpoint(2, 0))
    loaded = load_newest_checkpoint(Key(str(tmp_path)), LAYERS)
    assert loaded is not None
    assert loaded.progress.epoch == 1


def test_a_checkpoint_of_other_layers_is_refused_by_their_names(tmp_path: Path) -> None:
    save_checkpoint(Key(str(tmp_path)), checkpoint(1, 0))
    with pytest.raises(
        ForeignCheckpointError,
        match=r"epoch-000001\S+ is of another model: probabilities .* is now nothing; pass --rep",
    ):
        load_newest_checkpoint(Key(str(tmp_path)), LAYERS[:1])


@pytest.mark.parametrize("name", ["run", "progress"])
def test_a_checkpoint_of_another_version_is_refused_in_words(tmp_path: Path, name: str) -> None:
    """The first version had no number."""
    np.savez(tmp_path / "epoch-000001-step-000000000.npz", **{name: np.array('{"version": 7}')})
    number = 7 if name == "run" else 1
    with pytest.raises(ForeignCheckpointError, match=rf"another layout of checkpoints \({number}, .* pass --replace"):
        load_newest_checkpoint(Key(str(tmp_path)), LAYERS)


def test_the_furthest_of_several_runs_is_found(tmp_path: Path) -> None:
    folders = [Key(str(tmp_path)) / name for name in ("a", "b", "c")]
    assert furthest(folders) is None
    save_checkpoint(folders[0], checkpoint(1, 20))
    save_checkpoint(folders[1], checkpoint(2, 0))
    assert furthest(folders) == folders[1]
