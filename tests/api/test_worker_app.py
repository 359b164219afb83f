"""What a process answers that only executes runs."""

from __future__ import annotations

import httpx2
from prometheus_client import CollectorRegistry

from app.api.authentication import Access
from app.api.guards import Gate
from app.api.health import Readings
from app.api.schemas import CheckStatus
from app.domain.principals import ANONYMOUS
from app.main import create_worker_app
from app.telemetry.metrics import Metrics
from app.telemetry.setup import open_tracing
from tests.api.edge import Always
from tests.api.problems import check


async def test_health_and_metrics_and_nothing_else() -> None:
    status: CheckStatus = "ok"

    async def database() -> tuple[CheckStatus, str | None]:
        return status, None

    async def redis() -> tuple[CheckStatus, str | None]:
        return "degraded", "it is away"

    tracing = open_tracing({}, "test")
    readings = Readings(version="1.2", vital={"database": database}, others={"redis": redis})
    metrics = Metrics(registry=CollectorRegistry(), version="1.2")
    app = create_worker_app(
        readings=readings,
        metrics=metrics,
        tracing=tracing,
        gate=Gate("starting"),
        access=Access(authentication=Always(ANONYMOUS)),
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://worker") as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/health")).json() == {"status": "healthy", "version": "1.2"}
        ready = await client.get("/readiness")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["checks"]["redis"]["detail"] == "it is away"
        status = "failed"
        assert (await client.get("/readiness")).status_code == 503
        counted = await client.get("/metrics")
        assert 'steadyhand_build_info{version="1.2"} 1.0' in counted.text
        for method, path in (
            ("POST", "/chat"), ("GET", "/agents"), ("GET", "/v1/runs"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/"),
        ):  # fmt: skip
            check(await client.request(method, path, json={"message": "x"}), 404, "not_found")
        check(await client.post("/healthz"), 405, "method_not_allowed")
    await readings.aclose()
    await tracing.aclose()
