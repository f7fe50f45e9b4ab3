"""Trading gear for people who run their own machines."""
