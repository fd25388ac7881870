"""What is varied in a model's configuration, as text edits that keep the comments of a `.pbtxt`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import SetupError

_COUNT = re.compile(r"(?<=instance_group \[ \{ kind: KIND_CPU count: )\d+")
_BATCHING = re.compile(r"^dynamic_batching \{\n(?:[ ].*\n)*\}\n", re.MULTILINE)
_POLICY = re.compile(r"^  default_queue_policy .*\n", re.MULTILINE)
_NOTE = re.compile(r"^# Tuned: .*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to serve a model.

    Attributes:
        instances: how many run side by side, each a process with one thread.
        batching: whether Triton's dynamic batcher is on.
        preferred: batch sizes that it waits for; none means whatever has queued.
        delay_us: how long a request may wait for more, in microseconds.
    """

    instances: int = 1
    batching: bool = True
    preferred: tuple[int, ...] = ()
    delay_us: int = 0

    def __str__(self) -> str:
        plural = "s" if self.instances > 1 else ""
        if not self.batching:
            return f"{self.instances} instance{plural}, no batching"
        sizes = f" of {'/'.join(map(str, self.preferred))}" if self.preferred else ""
        return f"{self.instances} instance{plural}, batches{sizes}, delay {self.delay_us} µs"

    def apply(self, config: str) -> str:
        """`config` (the text of a `.pbtxt`) with this setting; what it says about queues and all else stays.

        Raises:
            SetupError: `config` has no instance group of the form that this repository uses.
        """
        config, found = _COUNT.subn(str(self.instances), config)
        if found != 1:
            raise SetupError("the configuration has no line `instance_group [ { kind: KIND_CPU count: N } ]`")
        block = _BATCHING.search(config)
        if block is None:  # a model whose batches its caller makes (speller_decoder)
            return config
        policy = _POLICY.search(block.group())
        return config.replace(block.group(), self._block(policy.group() if policy else "") if self.batching else "")

    def _block(self, policy: str) -> str:
        sizes = f"  preferred_batch_size: [ {', '.join(map(str, self.preferred))} ]\n" if self.preferred else ""
        return f"dynamic_batching {{\n{sizes}  max_queue_delay_microseconds: {self.delay_us}\n{policy}}}\n"


NAIVE = Setting(batching=False)
"""What a model gets when nobody thinks about it: one instance, one request at a time."""


def current(config: str) -> Setting:
    """The setting that `config` has. Raises SetupError when it has no instance group of this repository's form."""
    count = _COUNT.search(config)
    if count is None:
        raise SetupError("the configuration has no line `instance_group [ { kind: KIND_CPU count: N } ]`")
    block = _BATCHING.search(config)
    if block is None:
        return Setting(int(count.group()), batching=False)
    delay = re.search(r"max_queue_delay_microseconds: (\d+)", block.group())
    sizes = re.search(r"preferred_batch_size: \[([\d, ]+)\]", block.group())
    preferred = tuple(int(size) for size in sizes.group(1).split(",")) if sizes else ()
    return Setting(int(count.group()), True, preferred, int(delay.group(1)) if delay else 0)


def adopt(config: str, setting: Setting, note: str) -> str:
    """`config` with the setting and a comment above it that says where it comes from.

    Args:
        note: one line; replaces an earlier run's.
    """
    config = _NOTE.sub("", setting.apply(config))
    place = _BATCHING.search(config) or re.search(r"^instance_group", config, re.MULTILINE)
    assert place is not None  # `apply` has found the instance group
    return f"{config[: place.start()]}# Tuned: {note}\n{config[place.start() :]}"
