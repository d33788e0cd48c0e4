"""What ackd records, and how: the recorder, journald, and the sinks without journald."""
