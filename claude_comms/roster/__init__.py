"""Which instances are to exist, across restarts of the process that runs them."""
