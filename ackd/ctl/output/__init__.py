"""What ackctl prints: figures, and what a terminal can show."""
