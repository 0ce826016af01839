"""Runs and steps as Kubernetes Jobs, whose failures say what happened to their pods.

Dagster's own launcher and executor report only that a Job failed. Here the failure of a run or a
step names the reason: out of memory, an image that cannot be pulled, no node with room, a quota;
with the value of the chart `helm/churn-platform` to change.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import get_job_name_from_run_id

from churn_assets.defs.platform.dagster_internals import (
    CheckStepHealthResult,
    RetryMode,
    StepDelegatingExecutor,
)
from churn_assets.settings import Settings, SettingsError

NOT_PULLED = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
RUN_RESOURCES = "runs.resources"


class JobRunLauncher(K8sRunLauncher):
    """Dagster's launcher of a Job per run, which says why the run's pod ended."""

    def get_run_worker_debug_info(
        self, run: dg.DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        """Returns what happened to the run's pods, and Dagster's own description of them."""
        attempt = self._get_resume_attempt_number(run)
        job: str = get_job_name_from_run_id(run.run_id, resume_attempt_number=attempt)  # type: ignore[no-untyped-call]
        namespace = str(self.get_container_context_for_run(run).namespace)
        happened = pod_failures(self._api_client, job, namespace, RUN_RESOURCES)
        described = super().get_run_worker_debug_info(run, include_container_logs)
        return "\n".join([*happened, described or ""])


class JobStepHandler(K8sStepHandler):
    """Dagster's handler of a Job per step, which says why the step's pod ended."""

    def check_step_health(self, step_handler_context: Any) -> CheckStepHealthResult:
        """Returns the state of the step's Job, with what happened to its pods."""
        found: CheckStepHealthResult = super().check_step_health(step_handler_context)
        if found.is_healthy:
            return found
        job = self._get_k8s_step_job_name(step_handler_context)
        namespace = self._get_container_context(step_handler_context).namespace
        value = f"settings.step_resources.{self._get_step_key(step_handler_context)}"
        happened = pod_failures(self._api_client, job, str(namespace), value)
        return CheckStepHealthResult.unhealthy("; ".join([str(found.unhealthy_reason), *happened]))


def step_executor(settings: Settings, steps: set[str]) -> dg.ExecutorDefinition:
    """Returns the executor that runs each step in a pod of its own.

    The pods are configured as those of the runs, by the instance's launcher. Only the resources
    differ, by `settings.step_resources`.

    Args:
        steps: Names of the graph's steps.

    Raises:
        SettingsError: `step_resources` names a step that the graph does not have.
    """
    if unknown := sorted(settings.step_resources.keys() - steps):
        raise SettingsError(
            f"CHURN_STEP_RESOURCES names {', '.join(unknown)}: the steps are "
            f"{', '.join(sorted(steps))}"
        )
    resources = {
        step: {"container_config": {"resources": quantities}}
        for step, quantities in settings.step_resources.items()
    }

    @dg.executor(name="k8s", requirements=dg.multiple_process_executor_requirements())
    def k8s(init_context: dg.InitExecutorContext) -> StepDelegatingExecutor:
        launcher = init_context.instance.run_launcher
        if not isinstance(launcher, K8sRunLauncher):
            raise SettingsError(
                f"CHURN_EXECUTOR is 'k8s', but {type(launcher).__name__} starts the runs on this "
                "machine: unset it, or install helm/churn-platform"
            )
        handler = JobStepHandler(
            image=None,
            container_context=K8sContainerContext(),
            load_incluster_config=launcher.load_incluster_config,
            kubeconfig_file=launcher.kubeconfig_file,
            per_step_k8s_config=resources,
            # So that the steps of a run whose pod is deleted end with it.
            enable_owner_references=True,
        )
        return StepDelegatingExecutor(handler, RetryMode.ENABLED, should_verify_step=True)

    return k8s


def pod_failures(client: Any, job: str, namespace: str, resources: str) -> Iterator[str]:
    """Yields what keeps the pods of a Job from running, or has ended them.

    Args:
        client: dagster-k8s' client of the Kubernetes API, `DagsterKubernetesClient`.
        resources: The chart's value with the resources of these pods.
    """
    for pod in client.get_pods_in_job(job, namespace):
        status = pod.status
        for condition in status.conditions or ():
            if condition.type == "PodScheduled" and condition.status == "False":
                yield f"pod {pod.metadata.name} has no node: {condition.message}; see {resources}"
            if condition.type == "DisruptionTarget" and condition.status == "True":
                yield f"pod {pod.metadata.name} was taken away: {condition.message}"
        for container in status.container_statuses or ():
            ended, waits = container.state.terminated, container.state.waiting
            limit = _limit(pod, container.name)
            if ended and ended.reason == "OOMKilled":
                yield f"OOMKilled: more memory than {limit}; raise {resources}.limits.memory"
            elif ended and ended.exit_code:
                yield f"pod {pod.metadata.name} ended with {ended.exit_code} ({ended.reason})"
            if waits and waits.reason in NOT_PULLED:
                yield f"{waits.reason}: {waits.message}; see image"


def _limit(pod: Any, container: str) -> str:
    [spec] = [one for one in pod.spec.containers if one.name == container]
    return str((spec.resources.limits or {}).get("memory", "the node has"))
