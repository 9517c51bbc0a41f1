"""Commands about repos."""
