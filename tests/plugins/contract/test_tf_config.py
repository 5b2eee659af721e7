import json

from toposieve_airflow.contract.tf_config import local_hosts, tf_config, worker_environments


def test_every_worker_knows_all_hosts_and_its_own_index() -> None:
    hosts = local_hosts([2001, 2002, 2003])
    configs = [json.loads(environment["TF_CONFIG"]) for environment in worker_environments(hosts)]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": index} for index in range(3)]
    assert all(config["cluster"] == {"worker": hosts} for config in configs)
    assert hosts[2] == "127.0.0.1:2003"


def test_a_worker_on_its_own_gets_no_tf_config() -> None:
    assert worker_environments(["127.0.0.1:2001"]) == [{}]


def test_tf_config_is_json_that_tensorflow_reads() -> None:
    assert json.loads(tf_config(["a:1"], 0)) == {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
