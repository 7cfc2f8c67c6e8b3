/** A program that speaks Claude Code's protocol until it is asked something, and then does what the question says. */

import { createInterface } from "node:readline";

/** @param {unknown} message */
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const delta = { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Begun" } };
const INTERRUPTED = {
  type: "result", subtype: "error_during_execution", is_error: true, session_id: "s", uuid: "u", errors: [], usage: {},
  modelUsage: {}, permission_denials: [], num_turns: 1, duration_ms: 1, duration_api_ms: 1, total_cost_usd: 0, stop_reason: null,
};

/** @type {Record<string, () => void>} */
const FAULTS = {
  torn: () => process.stdout.write('{"type":"assistant","mess\n'),
  exit: () => process.stderr.write("out of luck\n", () => process.exit(3)),
  vanish: () => process.exit(0),
  half: () => process.stdout.write('{"type":"resu', () => process.exit(0)),
  noise: () => process.stdout.write("what?\n".repeat(200)),
  endless: () => process.stdout.write("{".repeat(33 * 1024 * 1024)),
  silent: () => {},
  forgetful: () => (forgotten = 1),
  slow: () => (stopMs = 400),
  retrying: () => say({ type: "system", subtype: "api_retry", attempt: 1, error_status: 529, error: "overloaded", retry_delay_ms: 60_000 }),
  talkative: () => say({ type: "stream_event", event: { ...delta, delta: { type: "text_delta", text: "x".repeat(100_000) } }, parent_tool_use_id: null, session_id: "s", uuid: "u" }),
  deaf: () => {},
};
/** How many interrupts are acknowledged and forgotten. */
let forgotten = 0;
/** How long the others take. */
let stopMs = 0;
let deaf = false;

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (message.type === "control_request" && !deaf) {
    const response = { hooks_applied: true, hook_on_failure_supported: true, commands: [], models: [], account: {}, mcpServers: [] };
    say({ type: "control_response", response: { subtype: "success", request_id: message.request_id, response } });
    if (message.request.subtype === "interrupt" && forgotten-- <= 0) setTimeout(() => say(INTERRUPTED), stopMs);
  } else if (message.type === "user") {
    deaf = message.message.content === "deaf";
    const event = (/** @type {unknown} */ inner) => say({ type: "stream_event", event: inner, parent_tool_use_id: null, session_id: "s", uuid: "u" });
    if (message.message.content !== "retrying") {
      event({ type: "message_start", message: { id: "m", usage: { input_tokens: 5 } } });
      event(delta);
    }
    FAULTS[message.message.content]();
  }
}
