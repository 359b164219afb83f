"""Every span attribute and span name by its current convention: a rename upstream is one line here.

GenAI: open-telemetry/semantic-conventions-genai, 2026-10 (development status, the latest only). HTTP: semantic
conventions 1.42 (stable). `steadyhand.*` are our own.
"""

from __future__ import annotations

from typing import Final

SPAN_AGENT: Final = "invoke_agent"
SPAN_CHAT: Final = "chat"
SPAN_TOOL: Final = "execute_tool"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_VERSION: Final = "gen_ai.agent.version"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_REASONING: Final = "gen_ai.request.reasoning.level"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_FINISH: Final = "gen_ai.response.finish_reasons"
RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
ERROR_TYPE: Final = "error.type"

CONTENT_INPUT: Final = "gen_ai.input.messages"
CONTENT_OUTPUT: Final = "gen_ai.output.messages"
CONTENT_SYSTEM: Final = "gen_ai.system_instructions"
CONTENT_TOOLS: Final = "gen_ai.tool.definitions"
CONTENT_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
CONTENT_RESULT: Final = "gen_ai.tool.call.result"

RUN_ID: Final = "steadyhand.run.id"
SESSION_ID: Final = "steadyhand.session.id"
ATTEMPT: Final = "steadyhand.attempt"
CONFIGURED_PROVIDER: Final = "steadyhand.provider"
ROUTE: Final = "steadyhand.route"
TRIMMED_TOKENS: Final = "steadyhand.context.trimmed_tokens"
COST_USD: Final = "steadyhand.cost_usd"
ITERATIONS: Final = "steadyhand.iterations"
STATUS: Final = "steadyhand.status"
STOP_REASON: Final = "steadyhand.stop_reason"
TOOL_STATUS: Final = "steadyhand.tool.status"

HTTP_METHOD: Final = "http.request.method"
HTTP_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
PROTOCOL_VERSION: Final = "network.protocol.version"
USER_AGENT: Final = "user_agent.original"
REQUEST_ID: Final = "steadyhand.request.id"
