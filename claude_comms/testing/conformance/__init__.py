"""What every implementation of a protocol must do, as pytest classes to subclass."""

from claude_comms.testing.conformance.backends import BackendConformance, make_request

__all__ = ["BackendConformance", "make_request"]
