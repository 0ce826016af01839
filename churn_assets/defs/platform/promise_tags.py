"""Tag of a run with an asset that the daemon requested because it is past its promise.

The daemon stores the evaluation of every condition before it submits the runs. So a step finds in
the evaluation of its run why its asset was requested, as the UI shows it.
"""

import dagster as dg

from churn_assets.defs.platform.dagster_internals import ASSET_EVALUATION_ID_TAG

PAST_ITS_PROMISE = "past_its_promise"
"""Label of the condition of such a request."""

TAG = f"churn/{PAST_ITS_PROMISE}"
"""Tag of the run: the names of the assets."""


def tag_past_promise(context: dg.AssetExecutionContext) -> None:
    """Adds the step's assets to the tag of the run where they were past their promise."""
    tags = context.run.tags
    if ASSET_EVALUATION_ID_TAG not in tags:
        return
    partition = context.partition_key if context.has_partition_key else None
    evaluation_id = int(tags[ASSET_EVALUATION_ID_TAG])
    late = [
        key.to_user_string()
        for key in sorted(context.selected_asset_keys)
        if _was_past_its_promise(context.instance, evaluation_id, key, partition)
    ]
    if late:
        run = context.instance.get_run_by_id(context.run.run_id)
        known = run.tags.get(TAG, "").split(", ") if run else []
        names = dict.fromkeys(name for name in (*known, *late) if name)
        context.instance.add_run_tags(context.run.run_id, {TAG: ", ".join(names)})


def _was_past_its_promise(
    instance: dg.DagsterInstance, evaluation_id: int, key: dg.AssetKey, partition: str | None
) -> bool:
    storage = instance.schedule_storage
    assert storage is not None
    for record in storage.get_auto_materialize_evaluations_for_evaluation_id(evaluation_id):
        if record.key != key:
            continue
        for node in record.get_evaluation_with_run_ids().evaluation.iter_nodes():
            if node.condition_snapshot.label == PAST_ITS_PROMISE:
                subset = node.true_subset
                return subset.bool_value if partition is None else partition in subset.subset_value
    return False
