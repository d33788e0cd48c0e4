"""The log: all records that ackd has taken over, in order, until the journal keeps them."""
