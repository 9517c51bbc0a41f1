"""Commands about commits and branches."""
