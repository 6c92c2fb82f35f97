"""Configuration files of openmsistream and its predecessors, and what of them is kfd's: for
``kfdctl config import``."""
