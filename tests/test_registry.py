import pytest

from support.memory_store import S3, MemoryStore
from support.registry_data import write_base, write_folder
from toposieve import registry, schema
from toposieve.errors import InvalidInputError
from toposieve.io import store
from toposieve.io.store import Key
from toposieve.registry import Feature, Pointer


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path, hlf={}, inclusive={"auc": 0.97})


@pytest.fixture
def folder(base):
    """A registry with two versions: hlf, then inclusive."""
    assert [registry.register(base, "topology", "r", label) for label in ("hlf", "inclusive")] == [1, 2]
    return registry.registry_folder(base, "topology")


def test_a_version_has_all_that_it_takes_to_use_it(base, folder):
    version = registry.read_version(folder, 2)
    files = {file.path.rpartition("/")[2]: (folder / file.path).read_text() for file in version.files}
    assert files == {"model.keras": "weights of inclusive", "history.json": "{}", "scaling.json": "{}"}
    assert version.classes == schema.SAMPLES
    assert version.features["high_level"][0] == Feature(name="HT", unit="GeV")
    assert len(version.features["particles"]) == len(schema.LOW_LEVEL_FEATURES)
    assert version.thresholds["ttbar"][0]["threshold"] == 0.3
    assert version.metrics["auc"]["qcd"]["value"] == 0.97
    assert set(version.lineage) == {"datasets/d", "models/hlf/run-hlf", "models/inclusive/run-inclusive", "reports/r"}
    assert version.configuration["training"] == {"seed": 1}


def test_the_same_model_stays_the_version_that_it_is(base, folder):
    before = (folder / "versions/000001.json").read_bytes()
    assert registry.register(base, "topology", "r", "hlf") == 1
    assert (folder / "versions/000001.json").read_bytes() == before
    assert list(registry.versions(folder)) == [1, 2]


def test_the_newest_version_is_looked_at_first_and_no_other_read_beside_it(base, folder, monkeypatch):
    read, numbers = registry.read_version, []
    monkeypatch.setattr(registry, "read_version", lambda where, number: numbers.append(number) or read(where, number))
    assert registry.newest_version(folder) == 2
    assert numbers == []
    assert registry.register(base, "topology", "r", "inclusive") == 2
    assert numbers == [2]
    assert registry.register(base, "topology", "r", "hlf") == 1
    assert numbers == [2, 2, 1]


def test_a_version_that_another_run_registers_meanwhile_is_looked_at(base, folder, tmp_path, monkeypatch):
    write_base(tmp_path, gru={"auc": 0.98})
    append = registry._append

    def another_is_faster(where, number, record):
        monkeypatch.setattr(registry, "_append", append)
        append(where, number, record.model_copy(update={"label": "other"}))
        append(where, number + 1, record)
        return append(where, number, record)

    monkeypatch.setattr(registry, "_append", another_is_faster)
    assert registry.register(base, "topology", "r", "gru") == 4
    assert list(registry.versions(folder)) == [1, 2, 3, 4]


def test_a_label_that_the_report_lacks_is_named_with_those_it_has(base):
    with pytest.raises(InvalidInputError, match=r"reports/r has no model gru: choose of hlf, inclusive"):
        registry.register(base, "topology", "r", "gru")


@pytest.mark.parametrize("changed", ["models/hlf/run-hlf", "datasets/d"])
def test_what_was_made_anew_since_the_report_is_no_version(base, changed):
    write_folder(base / changed, "training", {"model.keras": "others", "scaling.json": "{}"}, config={"seed": 2})
    with pytest.raises(InvalidInputError, match=rf"{changed} was made anew since the report: evaluate again"):
        registry.register(base, "topology", "r", "hlf")


def test_the_last_publication_is_the_truth_and_all_are_kept(folder):
    assert registry.published(folder) is None
    assert registry.publish(folder, 1, "ada", "the first") == 1
    assert registry.publish(folder, 2, "bob", "a better one", after=1) == 2
    number, version, files = registry.open_published(folder)
    assert (number, version.label, files["model.keras"].read_text()) == (2, "inclusive", "weights of inclusive")
    acts = [act.pointer for act in registry.history(folder)]
    assert [(act.version, act.action, act.who, act.why) for act in acts] == [
        (1, "publish", "ada", "the first"),
        (2, "publish", "bob", "a better one"),
    ]
    assert acts[0].when < acts[1].when


def test_nothing_published_is_said_so(folder):
    with pytest.raises(InvalidInputError, match=r"registry/topology has nothing published"):
        registry.open_published(folder)


def test_of_two_publications_at_once_the_second_is_told(folder):
    registry.publish(folder, 1, "ada", "the first", after=0)
    with pytest.raises(InvalidInputError, match=r"ada has published version 1 meanwhile \(the first\): compare"):
        registry.publish(folder, 2, "bob", "mine", after=0)
    assert [act.pointer.who for act in registry.history(folder)] == ["ada"]


def test_a_number_that_is_taken_between_look_and_write_is_lost(folder, monkeypatch):
    append = registry._append

    def somebody_is_faster(where, number, record):
        append(where, number, record.model_copy(update={"who": "ada"}))
        return append(where, number, record)

    monkeypatch.setattr(registry, "_append", somebody_is_faster)
    with pytest.raises(InvalidInputError, match="ada has published version 2 meanwhile"):
        registry.publish(folder, 2, "bob", "mine")


def test_an_answer_that_is_lost_is_no_lost_number(monkeypatch):
    memory = MemoryStore(S3, client=lambda: "a")
    monkeypatch.setattr(store, "_opened", lambda root, pid: memory)
    pointer = Pointer(version=1, action="publish", who="ada", when="now", why="x")
    assert registry._append(Key("memory://x", "published"), 1, pointer)
    assert not registry._append(Key("memory://x", "published"), 1, pointer.model_copy(update={"who": "bob"}))


def test_rollback_goes_to_what_was_published_before(folder):
    registry.publish(folder, 1, "ada", "the first")
    registry.publish(folder, 2, "ada", "a better one")
    assert registry.rollback(folder, "bob", "worse after all") == 3
    last = registry.published(folder).pointer
    assert (last.version, last.action, last.who) == (1, "rollback", "bob")


def test_a_second_rollback_goes_further_back(base, folder, tmp_path):
    write_base(tmp_path, gru={"auc": 0.98})
    assert registry.register(base, "topology", "r", "gru") == 3
    for version in (1, 2, 3):
        registry.publish(folder, version, "ada", "x")
    for _ in range(2):
        registry.rollback(folder, "bob", "worse")
    with pytest.raises(InvalidInputError, match=r"nothing was published before but what was left .*--version \(2, 3\)"):
        registry.rollback(folder, "bob", "worse")
    registry.rollback(folder, "bob", "it was good after all", version=3)
    registry.rollback(folder, "bob", "it was not")
    assert [act.pointer.version for act in registry.history(folder)] == [1, 2, 3, 2, 1, 3, 1]


def test_a_rollback_that_is_tried_again_does_not_swing_back(folder):
    for version in (1, 2):
        registry.publish(folder, version, "ada", "x")
    assert [registry.rollback(folder, "bob", "worse", order="run-1") for _ in range(2)] == [3, 3]
    registry.publish(folder, 2, "ada", "mended")
    assert registry.rollback(folder, "bob", "worse", order="run-1") == 3
    assert registry.published(folder).number == 4
    assert registry.rollback(folder, "bob", "worse", order="run-2") == 5
    assert [act.pointer.version for act in registry.history(folder)] == [1, 2, 1, 2, 1]


def test_a_rollback_beside_its_first_try_is_the_same(folder, monkeypatch):
    """The first try, which was given up, gets through between the second one's look and its writing."""
    for version in (1, 2):
        registry.publish(folder, version, "ada", "x")
    append = registry._append

    def first_try_is_faster(where, number, record):
        append(where, number, record.model_copy(update={"when": "before"}))
        return append(where, number, record)

    monkeypatch.setattr(registry, "_append", first_try_is_faster)
    assert registry.rollback(folder, "bob", "worse", order="run-1") == 3
    assert len(registry.history(folder)) == 3


def test_rollback_without_anything_before_is_refused(folder):
    registry.publish(folder, 1, "ada", "the first")
    with pytest.raises(InvalidInputError, match="nothing was published before; publish another version instead"):
        registry.rollback(folder, "ada", "x")


def test_rollback_to_what_was_never_published_is_refused(folder):
    registry.publish(folder, 1, "ada", "the first")
    registry.publish(folder, 2, "ada", "x")
    with pytest.raises(InvalidInputError, match="version 7 was not published before; choose of 1"):
        registry.rollback(folder, "ada", "x", version=7)


def test_rollback_to_what_is_gone_changes_nothing(folder):
    registry.publish(folder, 1, "ada", "the first")
    registry.publish(folder, 2, "ada", "x")
    (folder / registry.read_version(folder, 1).files[0].path).delete()
    with pytest.raises(InvalidInputError, match=r"version 1 cannot be published, for it is gone \(.* is missing"):
        registry.rollback(folder, "ada", "x")
    assert registry.published(folder).number == 2


def test_a_version_that_was_never_registered_is_refused(folder):
    with pytest.raises(InvalidInputError, match=r"000007\.json is not there: choose one that is \(1, 2\)"):
        registry.publish(folder, 7, "ada", "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda features: features[::-1], "feature 0 is LepIsEle in 1, but hlf takes HT in GeV there"),
        (lambda features: (features[0].model_copy(update={"unit": "MeV"}), *features[1:]), "feature 0 is HT in MeV"),
        (lambda features: features[:-1], "13 features, but hlf takes 14"),
    ],
)
def test_features_in_another_order_or_unit_are_refused(folder, change, message):
    version = registry.read_version(folder, 1)
    registry.check_features(version, version.features)
    with pytest.raises(InvalidInputError, match=message):
        registry.check_features(version, {"high_level": change(version.features["high_level"])})


def test_a_published_model_that_takes_other_features_than_are_made_is_refused(folder, monkeypatch):
    registry.publish(folder, 1, "ada", "x")
    monkeypatch.setitem(registry.FEATURES, "high_level", schema.HIGH_LEVEL_FEATURES[::-1])
    with pytest.raises(InvalidInputError, match="feature 0 is LepIsEle in 1, but hlf takes HT in GeV there"):
        registry.open_published(folder)


def test_a_publication_that_is_tried_again_is_the_same(folder):
    assert [registry.publish(folder, 1, "ada", "the first", after=0) for _ in range(2)] == [1, 1]
    registry.publish(folder, 2, "bob", "a better one")
    assert registry.publish(folder, 1, "ada", "the first", after=0) == 1
    assert len(registry.history(folder)) == 2


def test_no_publication_after_one_that_never_was(folder):
    with pytest.raises(InvalidInputError, match="the last publication is 0, not 3: compare again"):
        registry.publish(folder, 1, "ada", "x", after=3)
    assert registry.published(folder) is None
