"""Tests of what may go in and what may come out."""
