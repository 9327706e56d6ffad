"""TLS of the command's own connections."""

import ssl


def tls_context(insecure: bool) -> ssl.SSLContext:
    """Return what connections are made with.

    Args:
        insecure: Whether any certificate is accepted.

    """
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
