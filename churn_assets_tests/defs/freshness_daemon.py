"""Dagster's freshness daemon without its process: it evaluates policies at any time."""

from typing import Any

import dagster as dg
from dagster._core.loader import LoadingContextForTest
from dagster._daemon.freshness import FreshnessDaemon


class _Context(LoadingContextForTest):
    """What the daemon reads of a workspace: the instance and the asset graph."""

    def __init__(self, instance: dg.DagsterInstance, graph: Any) -> None:
        super().__init__(instance)
        self.asset_graph = graph

    def create_request_context(self) -> "_Context":
        return self


def evaluate_freshness(instance: dg.DagsterInstance, graph: Any) -> None:
    """Evaluates the freshness policy of every asset once, and stores each state that changed."""
    context: Any = _Context(instance, graph)
    for _ in FreshnessDaemon().run_iteration(context):
        pass
