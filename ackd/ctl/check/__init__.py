"""`ackctl check`: sends one payload, and reports to a monitoring system."""
