"""Home Assistant's own schemas and template engine against what edged announces.

Standard input: the device message, then a line each of a status, a stats and an answer, as the node publishes them.
"""

import asyncio
import importlib
import json
import sys
import tempfile

from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame
from homeassistant.helpers.template import Template

device, status, stats, *answers = sys.stdin.read().split("\n")
device = json.loads(device)


def check(hass, shared, config):
    platform = importlib.import_module("homeassistant.components.mqtt." + config["platform"])
    config = {k: v for k, v in config.items() if k not in ("platform", "default_entity_id")}  # the latter is of later versions
    clean = platform.DISCOVERY_SCHEMA({**shared, **config})
    lost = [k for k in config if k not in clean]
    assert not lost, f"fields that this version does not know: {lost}"
    for field, value in config.items():
        if not field.endswith("template"):
            continue
        topic = config["state_topic" if field == "value_template" else field.replace("_template", "_topic")]
        for payload in filter(None, [status] if topic.endswith("/status") else [stats] if topic.endswith("/stats") else answers):
            text = Template(value, hass).async_render_with_possible_json_value(payload, error_value="FAILED", parse_result=False)
            assert text and text != "FAILED" and "{{" not in text, f"{field}: {text!r}"
            if field == "value_template" and config.get("event_types"):
                event = json.loads(text)
                assert event["event_type"] in config["event_types"] and event["text"] == payload, event
            elif field == "value_template":
                assert len(text) <= 255, text
                assert "options" not in config or text in config["options"], text
            elif "attributes" in field:
                assert isinstance(json.loads(text), dict), text


async def main():
    hass = HomeAssistant(tempfile.mkdtemp())
    frame.async_setup(hass)
    # As the integration does it: what all entities share is laid under each.
    DEVICE_DISCOVERY_SCHEMA(json.loads(json.dumps(device)))
    shared = {k: device[k] for k in ("device", "origin", "availability", "qos")}
    failed = 0
    for name, config in device["components"].items():
        try:
            check(hass, shared, config)
        except Exception as e:
            failed += 1
            print("FAIL", name, repr(e))
    print(f"Home Assistant {__version__}: {len(device['components']) - failed} passed, {failed} failed")
    await hass.async_stop(force=True)
    return failed > 0


sys.exit(asyncio.run(main()))
