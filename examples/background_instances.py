"""Instances that outlive the program that asks them: a daemon keeps them, and everybody sees the same ones.

    python examples/background_instances.py

It starts the daemon of your home where none runs, asks an instance by its name, follows what happens meanwhile, leaves
a question behind as a job, and comes back for the answer. Without ANTHROPIC_API_KEY the offline backend quotes
arangodb's descriptor. Stop the daemon with: claude-comms daemon stop
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from claude_comms import Background, InstanceManager
from claude_comms.errors import InstanceNotFoundError
from claude_comms.events import Event, EventFilter
from claude_comms.text import printable, shorten

if TYPE_CHECKING:
    from claude_comms.types import InstanceInfo

NAME = "marker_arangodb"


def instance_of(manager: InstanceManager) -> InstanceInfo:
    """The instance of that name: the one of an earlier run, or a new one."""
    try:
        return manager.get(NAME)
    except InstanceNotFoundError:
        return manager.start("marker", "arangodb", name=NAME)


def watch(background: Background, instance_id: str) -> None:
    """Print what is stored of the instance's turns, until one is complete."""
    with background.follow(EventFilter(instance_id=instance_id)) as events:
        following.set()
        for event in events:
            if isinstance(event, Event) and event.type == "message.stored":
                print(f"  seen elsewhere: {event.data['speaker']} said {shorten(printable(event.data['text']), 60)!r}")
            if isinstance(event, Event) and event.type == "turn.completed":
                return


following = threading.Event()


def main() -> None:
    """Start or find the instance, ask it, and leave a job behind."""
    with InstanceManager(use_background=True) as manager, Background() as background:
        instance = instance_of(manager)
        print(f"{instance.instance_id} is {instance.state}, after {instance.turns} turns")

        watcher = threading.Thread(target=watch, args=(background, instance.instance_id))
        watcher.start()
        following.wait()
        reply = manager.query(NAME, "How should I store my page blocks?")
        watcher.join()
        print(f"answered over {reply.backend} in conversation {reply.thread_id}")

        job = background.start_job("arangodb", "And which indexes do I need?", source="marker")
        print(f"job {job.job_id} is {job.state}; this program could end now")
        done = background.wait_job(job.job_id, timeout_s=600)
        answer = done.reply["response"] if done.reply else done.error
        print(f"job {done.job_id} is {done.state}: {shorten(printable(str(answer)), 100)}")


if __name__ == "__main__":
    main()
