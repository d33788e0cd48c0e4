"""Lines that well-known servers send, and no ackd."""

# The beginnings of lines of other servers. An ackd sends them only if it is configured to.
_FOREIGN = (
    (b"SSH-", "an SSH server"),
    (b"HTTP/", "a web server"),
    (b"<!DOCTYPE", "a web server"),
    (b"<html", "a web server"),
    (b"\x15\x03", "a server that wants TLS"),
    (b"220 ", "a mail or FTP server"),
    (b"220-", "a mail or FTP server"),
    (b"421 ", "a mail or FTP server"),
    (b"500 ", "a mail or FTP server"),
    (b"502 ", "a mail or FTP server"),
    (b"554 ", "a mail server"),
    (b"* OK", "an IMAP server"),
    (b"+OK", "a POP3 server"),
    (b"-ERR", "a Redis or POP3 server"),
    (b"RFB ", "a VNC server"),
)


def foreign(data: bytes) -> str:
    """Return which well-known server sends such data, "" if it may be an ackd."""
    return next((server for start, server in _FOREIGN if data.startswith(start)), "")
