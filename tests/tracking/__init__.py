"""Tests of tracking/."""
