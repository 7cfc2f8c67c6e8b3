/** What a turn's messages mean. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Confinement } from "../src/confinement.mjs";
import { TurnReader } from "../src/turn.mjs";
import { UsageMeter } from "../src/usage.mjs";

/** @typedef {Record<string, any>} Message */

const RESULT = { type: "result", subtype: "success", is_error: false, stop_reason: "end_turn", result: "" };

function reading() {
  /** @type {string[]} */
  const said = [];
  /** @type {Array<[string, Record<string, any>]>} */
  const told = [];
  const listener = {
    say: async (/** @type {string} */ text) => void said.push(text),
    tell: async (/** @type {string} */ method, /** @type {Record<string, any>} */ params) => void told.push([method, params]),
  };
  const confinement = new Confinement({ directory: "/nowhere/module", tools: ["Read", "Grep"] });
  /** @type {Map<string, import("../src/confinement.mjs").Decision>} */
  const rulings = new Map();
  const reader = new TurnReader(listener, confinement, rulings, new UsageMeter({ resumed: false }));
  /** @param {string} name */
  const of = (name) => told.filter(([method]) => method === name).map(([, params]) => params);
  return { reader, said, of, rulings, confinement };
}

/** @param {Message} event */
const event = (event) => ({ type: "stream_event", event, parent_tool_use_id: null });
const started = (id = "m1") => event({ type: "message_start", message: { id, usage: { input_tokens: 3 } } });
/** @param {string} text */
const delta = (text) => event({ type: "content_block_delta", delta: { type: "text_delta", text } });
/** @param {string} reason */
const stopped = (reason) => event({ type: "message_delta", delta: { stop_reason: reason }, usage: { output_tokens: 2 } });
/** @param {Message[]} content */
const assistant = (content, id = "m1") => ({
  type: "assistant", uuid: `row-${id}`, parent_tool_use_id: null, message: { id, model: "claude-x", content },
});
/** @param {string} id @param {Message} input */
const call = (id, input, name = "Read") => ({ type: "tool_use", id, name, input });
/** @param {string} id */
const ended = (id, { is_error = false, content = "", result = {} } = {}) => ({
  type: "user", tool_use_result: result, message: { content: [{ type: "tool_result", tool_use_id: id, is_error, content }] },
});

/** @param {TurnReader} reader @param {Message[]} messages */
async function taken(reader, ...messages) {
  for (const message of messages) await reader.take(message);
}

test("streamed text is said as it comes, once; a later message begins a paragraph", async () => {
  const { reader, said } = reading();
  await taken(reader, started(), delta("Hel"), delta("lo"), assistant([{ type: "text", text: "Hello" }]), stopped("tool_use_is_not"));
  await taken(reader, started("m2"), delta("More"), assistant([{ type: "text", text: "More" }], "m2"), stopped("end_turn"));
  assert.deepEqual(said, ["Hel", "lo", "\n\nMore"]);
  assert.equal(await reader.take(RESULT), true);
  assert.deepEqual([reader.failure(RESULT), reader.model, reader.position], [null, "claude-x", "row-m2"]);
});

test("text that was never streamed is said when its message comes", async () => {
  const { reader, said } = reading();
  await taken(reader, assistant([{ type: "text", text: "whole" }]));
  assert.deepEqual(said, ["whole"]);
});

test("a stream that broke off after text was shown is cut, and is not patched together", async () => {
  const { reader } = reading();
  await taken(reader, started(), delta("Hel"));
  await assert.rejects(reader.take(started("m2")), { type: "failed", data: { reason: "cut", retryable: true } });
});

test("a stream that broke off before any text goes on with the next try", async () => {
  const { reader, of } = reading();
  await taken(reader, started(), { type: "system", subtype: "api_retry", attempt: 2, error: "overloaded", error_status: 529, retry_delay_ms: 1500 });
  assert.equal(reader.pauseMs, 1500);
  assert.deepEqual(of("turn.retried"), [{ attempt: 2, reason: "529 overloaded", wait_s: 1.5 }]);
  await taken(reader, started("m2"));
});

for (const [stop, reason] of [["max_tokens", "max_tokens"], ["refusal", "refusal"], ["model_context_window_exceeded", "context_window"], ["pause_turn", "pause_turn"], ["tool_use", "cut"]]) {
  test(`an answer that stopped with ${stop}, without a call, is not whole: ${reason}`, async () => {
    const { reader } = reading();
    await taken(reader, started(), delta("x"));
    await assert.rejects(reader.take(stopped(stop)), { type: "failed", data: { reason, retryable: reason === "cut" } });
  });
}

test("a key that the API refuses is not tried again", async () => {
  const { reader } = reading();
  await assert.rejects(reader.take({ type: "system", subtype: "api_retry", error_status: 401 }), { type: "unavailable" });
});

for (const [message, result, type, reason] of /** @type {[Message, Message, string, string | undefined][]} */ ([
  [{ error: "authentication_failed" }, {}, "unavailable", undefined],
  [{ error: "rate_limit" }, { api_error_status: 429 }, "failed", "rate_limited"],
  [{ error: "invalid_request" }, {}, "failed", "invalid_request"],
  [{ error: "unknown" }, {}, "failed", "cut"],
  [{}, { subtype: "error_max_turns" }, "failed", "max_turns"],
  [{}, { stop_reason: null }, "failed", "cut"],
  [{}, { stop_reason: "max_tokens" }, "failed", "max_tokens"],
  [{}, { is_error: true, terminal_reason: "prompt_too_long" }, "failed", "context_window"],
  [{}, { is_error: true, api_error_status: 403 }, "unavailable", undefined],
  [{}, { is_error: true, api_error_status: 529 }, "failed", "overloaded"],
])) {
  test(`${JSON.stringify([message, result])} is ${type} ${reason ?? ""}`, async () => {
    const { reader } = reading();
    if (message.error) {
      await taken(reader, { ...assistant([{ type: "text", text: "Connection error." }]), ...message });
    }
    const failure = reader.failure({ ...RESULT, ...result });
    assert.equal(failure?.type, type);
    assert.equal(failure?.data.reason, reason);
  });
}

test("calls are told in their order, each once its outcome is known", async () => {
  const { reader, of, rulings, confinement } = reading();
  const [first, second] = [{ file_path: "a.py" }, { file_path: "/etc/passwd" }];
  await taken(reader, assistant([call("1", first), call("2", second)]));
  rulings.set("1", confinement.rule("Read", first)).set("2", confinement.rule("Read", second));
  await taken(reader, ended("2", { is_error: true, content: "outside" }));
  assert.deepEqual([of("turn.tool"), of("turn.refused")], [[], []]);
  await taken(reader, ended("1"));
  assert.deepEqual(of("turn.tool"), [{ tool: "Read", arguments: '{"file_path":"a.py"}' }]);
  assert.deepEqual(of("turn.refused"), [{ tool: "Read", target: "/etc/passwd", reason: "outside the module's path" }]);
  assert.deepEqual(reader.calls.files, ["/nowhere/module/a.py"]);
});

test("a call that Claude Code turned away before it asked us is told as refused", async () => {
  const { reader, of } = reading();
  await taken(reader, assistant([call("1", { file_path: ".env" })]));
  await taken(reader, ended("1", { is_error: true, content: "<tool_use_error>File is denied by your permission settings</tool_use_error>" }));
  assert.match(of("turn.refused")[0].reason, /secret/);
});

test("a call that was never decided did not happen; one that was, is told at the end", async () => {
  const { reader, of, rulings, confinement } = reading();
  await taken(reader, assistant([call("1", { file_path: "a" }), call("2", { file_path: "b" })]));
  rulings.set("1", confinement.rule("Read", { file_path: "a" }));
  await reader.calls.settle();
  assert.equal(of("turn.tool").length, 1);
});

test("a call that was refused is told so at the end, though its result never came", async () => {
  const { reader, of, rulings, confinement } = reading();
  await taken(reader, assistant([call("1", { file_path: "/etc/passwd" })]));
  rulings.set("1", confinement.rule("Read", { file_path: "/etc/passwd" }));
  await reader.calls.settleRunning();
  assert.deepEqual([of("turn.tool"), of("turn.refused").map(({ target }) => target)], [[], ["/etc/passwd"]]);
});

test("what a Grep with contents found counts as read", async () => {
  const { reader, rulings, confinement } = reading();
  const search = { pattern: "x", output_mode: "content" };
  await taken(reader, assistant([call("1", search, "Grep")]));
  rulings.set("1", confinement.rule("Grep", search));
  await taken(reader, ended("1", { result: { filenames: ["a.py", "b/c.py"] } }));
  assert.deepEqual(reader.calls.files, ["/nowhere/module/a.py", "/nowhere/module/b/c.py"]);
});

test("messages of another kind, or of a subagent, are passed over", async () => {
  const { reader, said } = reading();
  await taken(reader, { type: "system", subtype: "init" }, { type: "new_thing" }, { ...delta("x"), parent_tool_use_id: "t" }, event({}), { type: "user", message: { content: "text" } });
  assert.deepEqual(said, []);
});
