"""What the services share: how a call is taken, answered, held back and told of errors."""
