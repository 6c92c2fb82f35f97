"""The client ``kfdctl``: asks the daemon over its control socket and shows the answer."""
