"""All that ackctl prints: lines, sentences, a status line, JSON, tables and figures."""
