"""Every sentence that a person reads, made from facts. Nothing below this room knows English.

`sentences` says any message of the policy; its tables stand in `causes`, `actions`, `gpus`, `events` and
`alerts`. `detail` says
how a run goes, `progress` where training is. Another language is another set of these tables.
"""

from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]
"""What a message knows; messages among its facts are sentences already."""
Words = str | Callable[[Facts], str]
"""A template whose fields are facts, or a function for what a template cannot say."""
