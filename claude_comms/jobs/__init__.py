"""What is still to be asked: durable background questions. Light to import; the store is `claude_comms.jobs.store`."""

from claude_comms.jobs._job import Job, JobRequest, JobState

__all__ = ["Job", "JobRequest", "JobState"]
