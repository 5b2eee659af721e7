"""Every parameter of KubernetesPodOperator, and what it means for a gang: one that an upgrade brings fails a test."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


POD = _names("""
    affinity annotations arguments automount_service_account_token base_container_name cmds configmaps
    container_resources container_security_context dns_config dnspolicy env_from env_vars full_pod_spec host_aliases
    hostnetwork image image_pull_policy image_pull_secrets init_containers labels namespace node_selector
    pod_runtime_info_envs pod_template_dict pod_template_file ports priority_class_name runtime_class_name schedulername
    secrets security_context service_account_name termination_grace_period termination_message_policy tolerations
    volume_mounts volumes
""")
"""What each worker's pod is, as there."""

AIRFLOW = _names("""
    active_deadline_seconds cluster_context config_file deferrable in_cluster kubernetes_conn_id poll_interval
    startup_timeout_seconds
""")
"""How the task reaches the cluster, and how long the gang may take."""

REFUSED = _names("""
    base_container_status_polling_interval callbacks container_logs container_name_log_prefix_enabled do_xcom_push
    durable get_logs hostname init_container_logs is_delete_operator_pod log_events_on_failure log_events_on_startup
    log_formatter log_pod_spec_on_failure logging_interval name on_finish_action on_kill_action progress_callback
    random_name_suffix reattach_on_restart schedule_timeout_seconds skip_on_exit_code startup_check_interval_seconds
    subdomain trigger_kwargs xcom_sidecar_container_security_context
""")
"""What a gang does in another way, or has not."""


def refused(given: Mapping[str, Any]) -> list[str]:
    """Those of the given parameters that a gang would ignore, unless they say what is so anyway."""
    defaults = signature(KubernetesPodOperator.__init__).parameters
    return sorted(name for name in REFUSED & given.keys() if given[name] != defaults[name].default)
