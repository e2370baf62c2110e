"""Losses: functional maths, terms, their registry, expressions and the compound of them."""
