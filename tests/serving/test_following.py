import errno
import os
from types import SimpleNamespace

import pytest

from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.store import root_key
from toposieve.registry import PUBLISHED, Pointer, registry_folder
from toposieve.serving.following import FollowedModel
from toposieve.serving.metrics import Metrics


@pytest.fixture
def folder(tmp_path):
    return registry_folder(root_key("--base", str(tmp_path)), "topology")


def publish(folder, number, version):
    pointer = Pointer(version=version, action="publish", who="me", when="now", why="because")
    (folder / PUBLISHED / f"{number:06d}.json").write_bytes(pointer.to_bytes())


class Loader:
    """Gives a model of the version's number, or raises what it is told to."""

    def __init__(self):
        self.error, self.calls = None, 0

    def __call__(self, folder, version):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return SimpleNamespace(version=version)


def test_another_version_is_taken_when_it_is_asked_for(folder):
    publish(folder, 1, 3)
    loader, metrics = Loader(), Metrics()
    model = FollowedModel(folder, loader, metrics, 60)
    publish(folder, 2, 4)
    assert model.take().version == 3
    model.look()
    assert metrics.registry.get_sample_value("toposieve_model_version") == 3
    assert metrics.registry.get_sample_value("toposieve_published_version") == 4
    assert model.take().version == 4
    assert metrics.registry.get_sample_value("toposieve_model_version") == 4
    publish(folder, 3, 3)  # a rollback
    model.look()
    assert model.take().version == 3
    model.look()
    assert loader.calls == 3


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("version 4 cannot be used, for it is gone"),
        UnavailableError("store.example.org does not answer"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scratch"),
    ],
)
def test_what_cannot_be_loaded_leaves_the_model_in_use_and_is_said_once(folder, error, caplog):
    publish(folder, 1, 3)
    loader = Loader()
    model = FollowedModel(folder, loader, Metrics(), 60)
    publish(folder, 2, 4)
    loader.error = error
    for _ in range(3):
        model.look()
    assert model.take().version == 3
    assert [record.getMessage() for record in caplog.records] == [f"model: version 3 stays in use, for: {error}"]
    loader.error = None
    model.look()
    assert model.take().version == 4


def test_nothing_that_is_published_is_invalid_input(folder):
    with pytest.raises(InvalidInputError, match="nothing published"):
        FollowedModel(folder, Loader(), Metrics(), 60)


def test_a_first_model_that_cannot_be_loaded_is_no_model(folder):
    publish(folder, 1, 3)
    loader = Loader()
    loader.error = InvalidInputError("version 3 is gone")
    with pytest.raises(InvalidInputError, match="is gone"):
        FollowedModel(folder, loader, Metrics(), 60)


def test_an_error_of_our_own_ends_the_work(folder):
    publish(folder, 1, 3)
    loader = Loader()
    with FollowedModel(folder, loader, Metrics(), 0.001) as model:
        loader.error = ZeroDivisionError()
        publish(folder, 2, 4)
        model._thread.join(10)
        with pytest.raises(ZeroDivisionError):
            model.take()
