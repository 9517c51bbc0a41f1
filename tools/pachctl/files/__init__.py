"""Commands about files and objects, and the ways that contents go."""
