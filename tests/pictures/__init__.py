"""Tests of pictures/."""
