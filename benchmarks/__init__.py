"""Measurements: each figure is a ratio of two things timed in turn in one run."""

from commands.freed_memory import keep_freed_memory

# As main.py does: both sides of a comparison have it.
keep_freed_memory()
