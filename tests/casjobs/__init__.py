"""A local CasJobs for tests: real HTTP, real tables, and the errors of the real one."""
