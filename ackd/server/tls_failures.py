"""Failures of TLS in words, for the log. OpenSSL has names for them that only its authors know."""

import ssl

# X509_V_ERR_* in openssl/x509_vfy.h, about the client's certificate.
_CERTIFICATE = {
    2: "the client's certificate is of an authority that tls_client_ca does not have",
    9: "the client's certificate is not valid yet",
    10: "the client's certificate has expired",
    18: "the client has signed its certificate itself",
    23: "the client's certificate is revoked",
    26: "the client's certificate is not for clients",
}
_CERTIFICATE |= dict.fromkeys((19, 20, 21), _CERTIFICATE[2])
# OpenSSL's names of its own errors, and of the alerts that a client sends: RFC 8446, 6.2.
_OWN_CERTIFICATE = "the client rejects ackd's certificate"
_NO_VERSION = "the client and ackd have no version of TLS in common"
_NO_CIPHER = "the client and ackd have no cipher in common"
_DAMAGED = "a record from the client is damaged"
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client presents no certificate",
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "VERSION_TOO_LOW": _NO_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "NO_SHARED_CIPHER": _NO_CIPHER,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": _NO_CIPHER,
    "NO_SHARED_GROUPS": _NO_CIPHER,
    "NO_SUITABLE_KEY_SHARE": _NO_CIPHER,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NO_CIPHER,
    "TLSV1_ALERT_UNKNOWN_CA": f"{_OWN_CERTIFICATE}: it does not know the authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{_OWN_CERTIFICATE}: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"{_OWN_CERTIFICATE}: it is revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": _OWN_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _OWN_CERTIFICATE,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _OWN_CERTIFICATE,
    "TLSV1_ALERT_ACCESS_DENIED": _OWN_CERTIFICATE,
    "TLSV1_ALERT_DECRYPT_ERROR": _OWN_CERTIFICATE,
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": _DAMAGED,
    "RECORD_LAYER_FAILURE": _DAMAGED,  # from OpenSSL 3.2 on
    "SSLV3_ALERT_BAD_RECORD_MAC": "the client has received a damaged record",
    "WRONG_VERSION_NUMBER": "the client's bytes are not TLS",
}
_ALERTS = ("SSLV3_ALERT_", "TLSV1_ALERT_", "TLSV13_ALERT_")


def in_words(error: ssl.SSLError) -> str:
    """Return what an error of TLS on the side of the server means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        unusual = f"the client's certificate can't be verified: {error.verify_message}"
        return _CERTIFICATE.get(error.verify_code, unusual)
    if isinstance(error, ssl.SSLZeroReturnError):
        return "the client ends TLS"
    name = error.reason or ""
    if name in _REASONS:
        return _REASONS[name]
    for prefix in _ALERTS:
        if name.startswith(prefix):
            return f"the client ends TLS: {_plain(name.removeprefix(prefix))}"
    return f"the client's TLS is wrong{': ' if name else ''}{_plain(name)}"


def _plain(name: str) -> str:
    return name.lower().replace("_", " ")
