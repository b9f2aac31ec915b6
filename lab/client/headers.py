"""Headers that travel beside the payload. The routing key's own is ``lab.routing.keys.HEADER``."""

REQUEST_ID = "x-request-id"
# Beside an answer from a gateway, which decided for the caller: under which revision, and after how many attempts.
REVISION = "x-revision"
ATTEMPTS = "x-attempts"
