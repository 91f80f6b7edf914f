"""Messages for tests in which only the words matter."""

from fred_supervisor.policy.message import Message, Topic, say


def said(text: str) -> Message:
    """A message whose sentence is `text`."""
    return say(Topic.GPU_DRIVER, text=text)
