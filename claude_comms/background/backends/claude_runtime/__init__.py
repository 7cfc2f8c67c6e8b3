"""What every backend that runs Claude Code on this machine shares: binaries, folders, sessions' files, processes."""
