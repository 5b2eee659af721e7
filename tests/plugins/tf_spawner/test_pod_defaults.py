from typing import Any

from toposieve_airflow.tf_spawner.pod_defaults import hardened, spread, with_accelerator


def spec(**more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "base", "image": "a"}, {"name": "sidecar", "image": "b"}], **more}


def test_every_container_is_hardened_the_first_ones_too() -> None:
    result = hardened(spec(initContainers=[{"name": "stage", "image": "c"}]))
    for container in [*result["containers"], *result["initContainers"]]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_arguments_stay_as_they_are() -> None:
    given = spec(volumes=[{"name": "data"}])
    before = repr(given)
    spread(with_accelerator(hardened(given), "base", "gpu", 1), {"a": "b"})
    assert repr(given) == before


def test_empty_values_count_as_not_given() -> None:
    result = hardened(spec(securityContext={}, affinity={}, terminationGracePeriodSeconds=0))
    assert result["securityContext"]["runAsNonRoot"] is True
    assert "affinity" not in result
    assert result["terminationGracePeriodSeconds"] == 0


def test_only_the_training_container_gets_gpus() -> None:
    result = with_accelerator(spec(), "base", "gpu", 2)
    assert result["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "2"}}
    assert "resources" not in result["containers"][1]
    assert [each["key"] for each in result["tolerations"]] == ["nvidia.com/gpu"]


def test_no_gpu_for_a_cpu_gang() -> None:
    assert with_accelerator(spec(), "base", "cpu", 2) == spec()


def test_spreading_keeps_the_tasks_own_wishes() -> None:
    own = {"nodeAffinity": {"a": 1}, "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert spread(spec(affinity=own), {"a": "b"})["affinity"] == own
