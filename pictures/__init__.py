"""Figures from arrays and snapshots; knows no run and no network."""
