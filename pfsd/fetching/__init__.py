"""Reading what URLs point to: the web, object stores of users, other daemons."""
