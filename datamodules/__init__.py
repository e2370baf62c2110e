"""Volumes in, batches of 2D slices out.

A Decathlon task is read, scaled, cut, stored, split by case and served.
"""
