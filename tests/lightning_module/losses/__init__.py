"""Tests of lightning_module/losses/."""
