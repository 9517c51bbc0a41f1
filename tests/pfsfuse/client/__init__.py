"""Tests of `pfsfuse.client`."""
