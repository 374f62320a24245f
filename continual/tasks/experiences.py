"""What an Avalanche experience says of its task: its label, and where it begins and ends.

An online stream cuts an experience into smaller ones. Either it marks the first and the last one of
a task, or it keeps these boundaries to itself; then a task is what its samples say, and lasts until
samples of another one come.
"""

from __future__ import annotations

from typing import Any

from sparse_core.checks import InputError


def labels_of(experience: Any) -> list[int]:
    """Return the labels of an experience's tasks, ascending.

    An experience without labels is a task itself, named by its place in the stream; one of an
    online stream that keeps boundaries to itself has those that its samples carry.

    Raises:
        ValueError: If neither stream nor samples tell tasks apart, or nobody will say which sample
            is of which task.
    """
    if _marked(experience):
        experience = experience.origin_experience
    if hasattr(experience, "task_labels"):
        return sorted({int(label) for label in experience.task_labels})
    if not is_online(experience):
        return [int(experience.current_experience)]
    carried = getattr(experience.dataset, "targets_task_labels", None)
    if carried is None:
        raise InputError(
            "online stream without task boundaries: its samples carry no task labels, so nothing "
            "tells its tasks apart; give it access_task_boundaries=True, or its data task labels"
        )
    labels = sorted({int(label) for label in carried.uniques})
    if len(labels) > 1:
        raise InputError(
            f"tasks {labels} in one experience of an online stream without task boundaries: "
            "strategies do not pass on the labels of its samples; with_task_labels(stream) lets "
            "them"
        )
    return labels


def tasks_in_stream(experience: Any) -> int:
    """Return how many tasks the stream of an experience has; 1 where it does not say."""
    if _marked(experience):
        experience = experience.origin_experience
    stream: Any = getattr(experience, "origin_stream", None)
    if is_online(experience) or not hasattr(stream, "__len__"):
        return 1
    return len({label for part in stream for label in labels_of(part)})


def is_online(experience: Any) -> bool:
    """Whether an experience is a part of a larger one."""
    return hasattr(experience, "access_task_boundaries")


def begins(experience: Any, label: int) -> bool:
    """Whether the task in training, of this label, is over when an experience comes."""
    if not is_online(experience):
        return False
    if _marked(experience):
        return bool(experience.is_first_subexp)
    return label not in labels_of(experience)


def ends(experience: Any) -> bool:
    """Whether the task in training is over when an experience is; in doubt it goes on."""
    return not is_online(experience) or (_marked(experience) and bool(experience.is_last_subexp))


def _marked(experience: Any) -> bool:
    return bool(getattr(experience, "access_task_boundaries", False))
