"""What a client of PyPI's `mcp` sees of the server of the conformance journey. Arguments: MODE PART URL TOKEN, where PART is `methods`,
`long`, `questions` or `changes`."""

import asyncio
import json
import sys
import warnings

import httpx2
import mcp.types as t
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

WATCHED = "test://watched-resource"
CALLS = {
    "test_simple_text": {},
    "test_image_content": {},
    "test_audio_content": {},
    "test_embedded_resource": {},
    "test_multiple_content_types": {},
    "test_error_handling": {},
    "json_schema_2020_12_tool": {"name": '\U0001f9f0 "\\\u2028', "address": {"city": "Z\u00fcrich"}, "email": "a@b"},
    "test_x_mcp_header": {"region": "=?base64?\u00fc\n"},
    "test_reconnection": {},
}
QUESTIONS = {
    "test_sampling": {"prompt": "What is it?"},
    "test_elicitation": {"message": "Who are you?"},
    "test_elicitation_by_url": {},
    "test_input_required_result_list_roots": {},
    "test_input_required_result_multiple_inputs": {},
    "test_input_required_result_multi_round": {},
    "test_streaming_elicitation": {},
    "test_elicitation_beside_the_call": {},
}


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Seen:
    """What the server asks, and what it says by itself."""

    def __init__(self):
        self.asked, self.logged, self.heard, self.more = [], [], [], asyncio.Event()

    def note(self, method, params):
        # Under which token progress is reported is each connection's own.
        given = plain(params) if params else {}
        given.pop("_meta", None)
        self.asked.append({"method": method, "params": given})

    async def sample(self, _, params):
        self.note("sampling/createMessage", params)
        text = t.TextContent(type="text", text="\U0001f9f0 Paris")
        return t.CreateMessageResult(role="assistant", content=text, model="a model", stop_reason="endTurn")

    async def elicit(self, _, params):
        self.note("elicitation/create", params)
        if params.mode == "url":
            return t.ElicitResult(action="accept")
        given = {"string": "Z\u00fcrich", "boolean": True}
        fields = params.requested_schema["properties"]
        return t.ElicitResult(action="accept", content={name: given[field["type"]] for name, field in fields.items()})

    async def roots(self, _):
        self.note("roots/list", None)
        return t.ListRootsResult(roots=[t.Root(uri="file:///a%20b", name="A")])

    async def log(self, params):
        self.logged.append(plain(params))

    async def message(self, message):
        self.heard.append(getattr(message, "method", ""))
        self.more.set()

    async def until(self, method):
        while method not in self.heard:
            self.more.clear()
            await self.more.wait()


async def methods(client, seen, is_modern):
    if not is_modern:
        await client.set_logging_level("info")
    progress = []

    async def on_progress(*reported):
        progress.append(reported)

    calls = {name: plain(await client.call_tool(name, given)) for name, given in CALLS.items()}
    calls["progress"] = plain(await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress))
    calls["logging"] = plain(await client.call_tool("test_tool_with_logging", {}))
    try:
        missing = plain(await client.read_resource("test://nothing"))
    except MCPError as error:
        missing = {"code": error.error.code, "message": error.error.message}
    reference = t.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
    given = {"arg1": "\u00e4", "arg2": ""}
    resources = ["test://static-text", "test://static-binary", "test://template/a%20b/data"]
    return {
        "tools": [plain(each) for each in (await client.list_tools()).tools],
        "prompts": [plain(each) for each in (await client.list_prompts()).prompts],
        "resources": [plain(each) for each in (await client.list_resources()).resources],
        "templates": [plain(each) for each in (await client.list_resource_templates()).resource_templates],
        "calls": calls,
        "progress": progress,
        "logged": seen.logged,
        "prompt": plain(await client.get_prompt("test_prompt_with_arguments", given)),
        "read": [plain(await client.read_resource(uri)) for uri in resources],
        "missing": missing,
        "completed": plain(await client.complete(reference, {"name": "arg1", "value": "pa"})),
    }


async def long(client, _, __):
    progress = []

    async def on_progress(*reported):
        progress.append(reported)

    result = await client.call_tool("test_long_call", {}, progress_callback=on_progress)
    return {"progress": progress, "result": plain(result)}


async def questions(client, seen, _):
    answers = {}
    for name, given in QUESTIONS.items():
        result = await client.call_tool(name, given)
        content = [plain(each) for each in result.content]
        # Several are asked at once, and answered in any order.
        asked = sorted(seen.asked, key=lambda one: one["method"])
        answers[name] = {"content": content, "asked": asked}
        seen.asked = []
    prompt = await client.get_prompt("test_input_required_result_prompt")
    answers["prompt"] = {"messages": [plain(each) for each in prompt.messages], "asked": seen.asked}
    return answers


async def changes(client, seen, is_modern):
    if is_modern:
        filters = {"prompts_list_changed": True, "resource_subscriptions": [WATCHED]}
        async with client.listen(**filters) as listening:
            await client.call_tool("test_trigger_resource_update", {})
            first = await anext(listening)
            await client.call_tool("test_trigger_prompt_change", {})
            second = await anext(listening)
            return [type(first).__name__, type(second).__name__]
    await client.subscribe_resource(WATCHED)
    await client.call_tool("test_trigger_resource_update", {})
    await seen.until("notifications/resources/updated")
    await client.call_tool("test_trigger_prompt_change", {})
    await seen.until("notifications/prompts/list_changed")
    await client.unsubscribe_resource(WATCHED)
    return ["ResourceUpdated", "PromptsListChanged"]


async def main(mode, part, url, token):
    seen = Seen()
    callbacks = {
        "sampling_callback": seen.sample,
        "elicitation_callback": seen.elicit,
        "list_roots_callback": seen.roots,
        "logging_callback": seen.log,
        "message_handler": seen.message,
    }
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, log_level="info", **callbacks) as client:
            revision = str(client.protocol_version)
            found = await globals()[part](client, seen, revision >= "2026")
            print(json.dumps({"revision": revision, "seen": found}))


# What one of the two eras does not have any more.
warnings.simplefilter("ignore")
asyncio.run(main(*sys.argv[1:]))
