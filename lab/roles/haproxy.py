"""The one HAProxy that all callers share, which routes their requests by the header."""

from __future__ import annotations

from lab.roles._rendered import rendered

ROLE = rendered("haproxy", "HAProxy", stage="proxies")
