from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from feedhandler_testing import MockWebSocketServer


@pytest.fixture
async def server() -> AsyncIterator[MockWebSocketServer]:
    async with MockWebSocketServer() as mock:
        yield mock
