/** What becomes of a turn when the process fails in the middle of it. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { Exchange } from "../src/exchange.mjs";
import { Session } from "../src/session.mjs";
import { Sessions } from "../src/sessions.mjs";
import { sleep } from "../src/waiting.mjs";
import { bounded, until } from "./support/real.mjs";

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

for (const [question, what] of [["talkative", "a process that has to wait for credit"], ["retrying", "a process that waits before it asks again"]]) {
  test(`${what} is not silent`, async (context) => {
    const { session } = await faulty(context);
    const exchange = new Exchange(session, { session: session.id, turn: "t", text: question, window: 1 }, (method) => {
      if (method === "turn.ready") setImmediate(() => exchange.allow(1));
    }, { stallMs: 150, tickMs: 20 });
    const running = bounded(exchange.run(), "end");
    setTimeout(() => exchange.interrupt(), 700);
    await assert.rejects(running, { type: "interrupted" });
  });
}

test("a process that answers is proved alive, with the time of it; one that does not is not", async (context) => {
  const { session } = await faulty(context);
  const before = session.process?.lastAliveAt.getTime() ?? 0;
  await sleep(20);
  await session.prove(5_000);
  assert.ok((session.process?.lastAliveAt.getTime() ?? 0) > before);
  const begun = new Promise((resolve) => session.listen(async () => resolve(undefined)));
  await session.ask("deaf", "m");
  await bounded(begun, "sign of life");
  await assert.rejects(session.prove(300), { type: "timeout" });
});

test("an interrupt that the process forgets is said again", async (context) => {
  const { session, died } = await faulty(context);
  const { error } = await failed(session, "forgetful", (exchange) => exchange.interrupt());
  assert.equal(error.type, "interrupted");
  assert.deepEqual([session.process?.alive, died], [true, []]);
});

/** Sessions of a faulty program. @param {import("node:test").TestContext} context @param {string} [binary] */
function several(context, binary = FAULTY) {
  const root = mkdtempSync(join(tmpdir(), "bridge-faults-"));
  const sessions = new Sessions({ launcher: [], notify: () => {} });
  context.after(async () => {
    await sessions.closeAll();
    rmSync(root, { recursive: true });
  });
  const open = () => sessions.open({
    session: randomUUID(), directory: root, system: "s", model: "m", max_output_tokens: 100, tools: [], directories: [],
    mcp_servers: {}, environment: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` }, scratch: join(root, "scratch"),
    binary: resolve(root, binary),
  });
  return { sessions, open, root };
}

test("a turn that comes while the one before is being interrupted waits for its end", async (context) => {
  const { sessions, open } = several(context);
  const { session } = await bounded(open(), "start");
  /** @type {string[]} */
  const told = [];
  const client = { notify: (/** @type {string} */ method, /** @type {any} */ { turn }) => void told.push(`${method} ${turn}`), exchanges: new Set() };
  const first = sessions.turn({ session, turn: "first", text: "slow", window: 9 }, client);
  sessions.credit({ session, turn: "first", pieces: 9 });
  await until(() => told.includes("turn.delta first"), "text");
  sessions.interrupt({ session, turn: "first" });
  const second = sessions.turn({ session, turn: "second", text: "silent", window: 9 }, client);
  second.catch(() => {});
  await assert.rejects(bounded(first, "end"), { type: "interrupted" });
  await until(() => told.includes("turn.ready second"), "the second turn");
  sessions.interrupt({ session, turn: "second" });
  await assert.rejects(bounded(second, "end"), { type: "interrupted" });
});

test("no more than four processes are starting at a time", async (context) => {
  const { sessions, open, root } = several(context, "mute.sh");
  writeFileSync(join(root, "mute.sh"), "#!/bin/sh\nsleep 600\n", { mode: 0o700 });
  const opening = Array.from({ length: 6 }, () => open().catch((error) => error));
  const started = () => sessions.list().sessions.filter(({ pid }) => pid !== null);
  await until(() => started().length >= 4, "four have been started");
  await sleep(200);
  assert.equal(started().length, 4);
  await sessions.close({ session: started()[0].session, discard: false });
  await until(() => started().length === 4, "another takes its place");
  await sessions.closeAll();
  for (const error of await Promise.all(opening)) assert.ok(["crashed", "unavailable"].includes(error.type), String(error));
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
