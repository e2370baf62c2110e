"""Tests of lightning_module/."""
