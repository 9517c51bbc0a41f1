"""Commands about jobs, their datums and logs."""
