"""What every problem looks like."""

from __future__ import annotations

from typing import Any

import httpx2


def check(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, complete as RFC 9457 and the API's description want it."""
    sent = (response.request.method, response.request.url)
    assert response.status_code == status, (sent, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["code"]) == (status, code), sent
    assert problem["type"] == f"urn:steadyhand:problem:{code.replace('_', '-')}"
    assert problem["title"]
    assert len(problem["detail"]) > 10
    assert problem["request_id"] == response.headers["x-request-id"]
    assert set(problem) <= {"type", "title", "status", "detail", "code", "request_id", "errors", "run_id"}
    assert "Traceback" not in response.text
    return problem
