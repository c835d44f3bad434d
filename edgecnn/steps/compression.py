"""The stages that make the network what it is, from the recipe's steps."""

from __future__ import annotations

from edgecnn.recipe.steps import FinetuneStep, PruneStep, SearchStep
from edgecnn.stages import Stage
from edgecnn.steps.networks import Workshop, finetune_stage, prune_stage, train_stage
from edgecnn.steps.search import search_stage


def network_stages(shop: Workshop) -> tuple[Stage, ...]:
    """The train stage, then one stage for each prune, finetune and search step of the recipe, in order."""
    dense = train_stage(shop)
    stages = [dense]
    for position, step in enumerate(shop.recipe.compress, start=1):
        if isinstance(step, PruneStep):
            stages.append(prune_stage(shop, step, position, stages[-1]))
        elif isinstance(step, FinetuneStep):
            stages.append(finetune_stage(shop, step, position, stages[-1], dense))
        elif isinstance(step, SearchStep):
            stages.append(search_stage(shop, step.search, position, dense))
    return tuple(stages)
