"""Specs and what they are made of: inputs, datums, schedules, amounts. Pure."""
