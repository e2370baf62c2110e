"""Runs side by side: statistics, figures and the report, derived from the stored counts."""
