"""Parts for testing modules without a key: a loopback Messages API, a scripted backend, conformance suites."""
