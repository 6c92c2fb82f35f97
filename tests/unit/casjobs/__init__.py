"""The catalogue in CasJobs, over real HTTP."""
