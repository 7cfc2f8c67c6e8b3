/** What becomes of a turn when the process fails in the middle of it. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { Exchange } from "../src/exchange.mjs";
import { Session } from "../src/session.mjs";
import { bounded } from "./support/real.mjs";

const FAULTY = fileURLToPath(new URL("support/faulty_claude.mjs", import.meta.url));

/** @param {import("node:test").TestContext} context */
async function faulty(context) {
  const root = mkdtempSync(join(tmpdir(), "bridge-faults-"));
  const start = {
    session: randomUUID(), directory: root, system: "s", model: "m", max_output_tokens: 100, tools: [], directories: [],
    mcp_servers: {}, environment: { PATH: dirname(process.execPath) }, scratch: join(root, "scratch"), binary: FAULTY,
  };
  const session = new Session(start, { launcher: [], resumed: false });
  /** @type {string[]} */
  const died = [];
  session.on("died", ({ how }) => died.push(how));
  context.after(async () => {
    await session.close();
    rmSync(root, { recursive: true });
  });
  await bounded(session.start(), "start");
  return { session, died };
}

/**
 * How a turn with that question ends, and what it said. `then` is called once it has begun.
 * @param {Session} session @param {string} text @param {(exchange: Exchange) => void} [then] @param {number} [stallMs]
 */
async function failed(session, text, then = () => {}, stallMs = 15_000) {
  /** @type {string[]} */
  const said = [];
  const exchange = new Exchange(session, { session: session.id, turn: "t", text, window: 10 }, (method, params) => {
    if (method === "turn.ready") setImmediate(() => exchange.allow(10));
    if (method === "turn.delta") said.push(String(params.text)), then(exchange);
  }, { stallMs, tickMs: 50 });
  /** @type {any} */
  let error = null;
  await bounded(exchange.run().catch((/** @type {unknown} */ one) => (error = one)), "end");
  return { error, said };
}

for (const [fault, type, data] of /** @type {[string, string, Record<string, unknown>][]} */ ([
  ["torn", "protocol", { line: '{"type":"assistant","mess' }],
  ["noise", "protocol", { line: "what?" }],
  ["exit", "crashed", { exit_code: 3, signal: null, stderr_tail: "out of luck" }],
  ["vanish", "crashed", { exit_code: 0, signal: null, stderr_tail: "" }],
  ["half", "crashed", { exit_code: 0, signal: null, stderr_tail: "" }],
  ["endless", "protocol", {}],
])) {
  test(`a process that fails so: ${fault}, ends the turn as ${type}, and the session`, async (context) => {
    const { session, died } = await faulty(context);
    const { error, said } = await failed(session, fault);
    assert.equal(error.type, type);
    assert.deepEqual(said, ["Begun"]);
    for (const [name, value] of Object.entries(data)) assert.deepEqual(error.data[name], value, name);
    assert.deepEqual([error.data.pieces, error.data.usage.input_tokens, error.data.usage.cost_usd], [1, 5, null]);
    assert.equal(session.state, "dead");
    assert.equal(died.length, 1);
  });
}

test("a process that says nothing for too long has its turn stopped, and can be asked again", async (context) => {
  const { session, died } = await faulty(context);
  const { error } = await failed(session, "silent", () => {}, 300);
  assert.deepEqual([error.type, error.data.reason, error.data.retryable], ["failed", "stalled", true]);
  assert.deepEqual([session.process?.alive, died], [true, []]);
});

test("a process that does not stop its turn is stopped itself", async (context) => {
  const { session, died } = await faulty(context);
  const { error } = await failed(session, "deaf", (exchange) => exchange.interrupt());
  assert.equal(error.type, "interrupted");
  assert.equal(session.state, "dead");
  assert.deepEqual(died, ["did not stop its turn, and was stopped"]);
});

test("nothing is put to a process before the first credit, however long that takes", async (context) => {
  const { session } = await faulty(context);
  /** @type {string[]} */
  const told = [];
  const exchange = new Exchange(session, { session: session.id, turn: "t", text: "silent", window: 1 }, (method) => told.push(method));
  const running = exchange.run();
  await session.prove(5_000); // a question of its state goes there and back
  assert.deepEqual([session.used, told], [false, ["turn.ready"]]);
  exchange.interrupt();
  await assert.rejects(bounded(running, "end"), (/** @type {any} */ error) => error.type === "interrupted" && error.data.pieces === 0);
  assert.equal(session.used, false);
});

test("a process that is killed before the question was let go asks nothing, and says so", async (context) => {
  const { session } = await faulty(context);
  const exchange = new Exchange(session, { session: session.id, turn: "t", text: "silent", window: 1 }, () => {});
  const running = exchange.run();
  session.process?.kill("SIGKILL");
  await assert.rejects(bounded(running, "end"), { type: "crashed" });
  assert.equal(session.used, false);
});
