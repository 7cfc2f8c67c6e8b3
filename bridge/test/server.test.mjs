/** Who may connect, and what is said before any session exists. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmodSync, chownSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { WebSocket } from "ws";

import { problemOf, SCHEMA } from "../src/schema.mjs";
import { BridgeServer } from "../src/server.mjs";
import { readToken } from "../src/token.mjs";
import { sleep } from "../src/waiting.mjs";
import { bounded, BRIDGE, Client, until } from "./support/real.mjs";

const FAULTY = join(BRIDGE, "test/support/faulty_claude.mjs");
const TOKEN = "test-token-0123456789";
const ROOT = mkdtempSync(join(tmpdir(), "bridge-server-"));
const server = new BridgeServer({ token: TOKEN, launcher: [] });
let port = 0;

before(async () => {
  port = await server.listen(0);
});
after(async () => {
  await server.close();
  rmSync(ROOT, { recursive: true });
});

/** The status of an upgrade with these headers. @param {Record<string, string | undefined>} changes @param {string} [path] */
async function status(changes, path = "/") {
  const given = {
    host: `127.0.0.1:${port}`, authorization: `Bearer ${TOKEN}`, connection: "Upgrade", upgrade: "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13",
    "sec-websocket-protocol": "claude-comms.bridge.v1", ...changes,
  };
  const headers = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const asking = request({ host: "127.0.0.1", port, path, headers });
  asking.end();
  const [response] = await Promise.race([once(asking, "response"), once(asking, "upgrade")]);
  response.socket.destroy();
  return response.statusCode;
}

/** @returns {Promise<Client>} */
async function connected() {
  const client = new Client(port);
  await client.opened;
  return client;
}

/** What is answered to a message as it stands. @param {string | Buffer} text @returns {Promise<any>} */
async function answered(text) {
  const client = await connected();
  client.socket.removeAllListeners("message");
  const answer = once(client.socket, "message");
  client.socket.send(text);
  const [data] = await bounded(answer, "answer");
  client.close();
  const message = JSON.parse(data.toString());
  assert.equal(problemOf("Response", message), null);
  return message;
}

/** @param {Record<string, unknown>} params @param {string} [method] */
const asked = (params, method = "hello") => JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });

test("the right token, host and subprotocol open a connection", async () => {
  assert.equal(await status({}), 101);
  assert.equal(await status({ origin: `http://127.0.0.1:${port}` }), 101);
});

test("no token, another one, or another scheme is refused", async () => {
  for (const authorization of [undefined, "Bearer ", "Bearer wrong", `Bearer ${TOKEN}x`, `Basic ${TOKEN}`, TOKEN]) {
    assert.equal(await status({ authorization }), 401, String(authorization));
  }
});

test("a foreign origin or host is refused, whatever token it has", async () => {
  for (const origin of ["http://evil.example", "null", "https://127.0.0.1", `http://127.0.0.1:${port}.evil.example`]) {
    assert.equal(await status({ origin }), 403, origin);
  }
  assert.equal(await status({ host: `evil.example:${port}` }), 403);
});

test("another path or no subprotocol is refused, and plain HTTP gets no more than a status", async () => {
  assert.equal(await status({}, "/other"), 404);
  assert.equal(await status({ "sec-websocket-protocol": "other" }), 400);
  const asking = request({ host: "127.0.0.1", port, path: "/" });
  asking.end();
  const [response] = await once(asking, "response");
  response.resume();
  assert.equal(response.statusCode, 426);
});

test("hello tells the versions", async () => {
  const client = await connected();
  const told = await client.call("hello", { protocols: [1, 2], client: "test/1" });
  assert.deepEqual([told.protocol, told.bridge, told.sdk, told.node], [1, "0.1.0", "0.3.329", process.version]);
  assert.deepEqual(await client.call("list"), { sessions: [] });
  client.close();
});

test("without a common protocol the error says which side to upgrade", async () => {
  for (const [protocols, advice] of /** @type {[number[], RegExp][]} */ ([[[2, 3], /Upgrade claude-comms-bridge\.$/]])) {
    const { error } = await answered(asked({ protocols, client: "test/1" }));
    assert.deepEqual([error.code, error.data], [-32000, { type: "version", supported: [1], bridge: "0.1.0" }]);
    assert.match(error.message, advice);
  }
});

test("any first request but hello is refused", async () => {
  const { error } = await answered(asked({}, "list"));
  assert.equal(error.data.type, "version");
});

for (const [name, text, code] of /** @type {[string, string, number][]} */ ([
  ["no JSON", "{", -32700],
  ["NaN", '{"jsonrpc":"2.0","id":1,"method":"health","params":{"prove":NaN}}', -32700],
  ["a batch", `[${asked({})}]`, -32600],
  ["a number", "1", -32600],
  ["another version", '{"jsonrpc":"1.0","id":1,"method":"list","params":{}}', -32600],
  ["no id", '{"jsonrpc":"2.0","method":"list","params":{}}', -32600],
  ["an id that no double holds", '{"jsonrpc":"2.0","id":9007199254740993,"method":"list","params":{}}', -32600],
  ["a fraction as id", '{"jsonrpc":"2.0","id":1.5,"method":"list","params":{}}', -32600],
  ["an unknown method", asked({}, "turn.ready"), -32601],
  ["a method of every object", asked({}, "toString"), -32601],
  ["no params", '{"jsonrpc":"2.0","id":1,"method":"list"}', -32602],
  ["a parameter too many", asked({ protocols: [1], client: "x", more: 1 }), -32602],
  ["a parameter of the wrong type", asked({ protocols: ["1"], client: "x" }), -32602],
  ["a window beyond all bounds", asked({ session: "x", turn: "t", text: "", window: 2 ** 53 }, "turn"), -32602],
  ["a session that is no UUID", asked({ session: "../x", discard: true }, "close"), -32602],
])) {
  test(`${name} is answered with ${code}`, async () => {
    const { error } = await answered(text);
    assert.equal(error.code, code);
    if (code === -32602) assert.match(error.message, new RegExp(`^${error.data.path || "the request"} `));
  });
}

/** Parameters of `open` that would be right. */
function start() {
  return {
    session: randomUUID(), directory: ROOT, system: "s", model: "m", max_output_tokens: 1, tools: [],
    directories: [], mcp_servers: {}, environment: {}, scratch: join(ROOT, "scratch"), binary: "/nowhere/claude",
  };
}

for (const [name, changes] of /** @type {[string, Record<string, unknown>][]} */ ([
  ["a big integer in a server's definition", { mcp_servers: { a: { definition: { n: 2 ** 60 }, tools: null } } }],
  ["a relative directory", { directory: "here" }],
  ["a tool that cannot be granted", { tools: ["Task"] }],
  ["a variable without a name", { environment: { "": "x" } }],
  ["a variable with NUL", { environment: { A: "x\0y" } }],
  ["a server whose name would end another's", { mcp_servers: { a__b: { definition: { command: "x" }, tools: null } } }],
])) {
  test(`open refuses ${name}`, async () => {
    assert.equal((await answered(asked({ ...start(), ...changes }, "open"))).error.code, -32602);
  });
}

test("an infinite number, which JSON can write, is refused", async () => {
  const text = asked({ ...start(), mcp_servers: { a: { definition: { n: 0.5 }, tools: null } } }, "open");
  assert.equal((await answered(text.replace("0.5", "1e999"))).error.code, -32602);
});

test("a session that cannot be started is unavailable, with what to do", async () => {
  const client = await connected();
  await client.call("hello", { protocols: [1], client: "test/1" });
  await assert.rejects(client.call("open", start()), { data: { type: "unavailable" } });
  await assert.rejects(client.call("open", { ...start(), directory: "/nowhere" }), { data: { type: "unavailable" } });
  await assert.rejects(client.call("open", { ...start(), directories: ["/nowhere"] }), { data: { type: "denied", grant: "directory:/nowhere" } });
  assert.deepEqual(await client.call("list"), { sessions: [] });
  client.close();
});

test("10 MB, lone surrogates and line separators come through a request unharmed", async () => {
  const client = await connected();
  await client.call("hello", { protocols: [1], client: "test/1" });
  const session = randomUUID();
  for (const text of ["x".repeat(10_000_000), "\ud800 \udfff", "a\u2028b\u0000c"]) {
    await assert.rejects(client.call("turn", { session, turn: "t", text, window: 1 }), { data: { type: "unknown_session" } });
  }
  client.close();
});

test("a message of more than 32 MiB, or a binary one, ends the connection", async () => {
  for (const message of ["x".repeat(33 * 1024 * 1024), Buffer.from("{}")]) {
    const client = await connected();
    client.socket.send(message);
    const [code] = await bounded(client.closed, "end");
    assert.ok([1003, 1009].includes(code), String(code));
  }
});

test("credit for what does not run, or a wrong one, changes nothing", async () => {
  const client = await connected();
  await client.call("hello", { protocols: [1], client: "test/1" });
  client.allow({ session: randomUUID(), turn: "t" }, 1);
  client.allow({ session: "nonsense", turn: "t" }, -1);
  assert.deepEqual(await client.call("list"), { sessions: [] });
  client.close();
});

test("health tells about the bridge itself", async () => {
  const client = await connected();
  await client.call("hello", { protocols: [1], client: "test/1" });
  const health = await client.call("health");
  assert.equal(health.pid, process.pid);
  assert.ok(health.rss_bytes > 1_000_000);
  await assert.rejects(client.call("health", { prove: randomUUID() }), { data: { type: "unknown_session" } });
  client.close();
});

test("a peer that is silent is gone", async () => {
  const impatient = new BridgeServer({ token: TOKEN, launcher: [], times: { pingMs: 10, silentMs: 50 } });
  const client = new WebSocket(`ws://127.0.0.1:${await impatient.listen(0)}/`, "claude-comms.bridge.v1", {
    headers: { authorization: `Bearer ${TOKEN}` }, autoPong: false,
  });
  const closed = once(client, "close");
  await bounded(closed, "end");
  await impatient.close();
});

test("a peer that says nothing but answers pings stays", async (context) => {
  const impatient = new BridgeServer({ token: TOKEN, launcher: [], times: { pingMs: 20, silentMs: 1000 } });
  const client = new WebSocket(`ws://127.0.0.1:${await impatient.listen(0)}/`, "claude-comms.bridge.v1", {
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  context.after(async () => {
    client.terminate();
    await impatient.close();
  });
  let pings = 0;
  const begun = Date.now();
  await bounded(new Promise((resolve) => {
    client.on("ping", () => ++pings > 10 && Date.now() - begun > 1300 && resolve(undefined));
    client.on("close", resolve);
  }), "ping");
  assert.equal(client.readyState, client.OPEN);
});

test("idle sessions are closed once nobody has been there for a while, and not before", async () => {
  const lonely = new BridgeServer({ token: TOKEN, launcher: [], times: { aloneMs: 100 } });
  const at = await lonely.listen(0);
  const client = new Client(at);
  await client.opened;
  await client.call("hello", { protocols: [1], client: "test/1" });
  await client.call("open", { ...start(), binary: FAULTY, environment: { PATH: dirname(process.execPath) } });
  for (let waited = 0; waited < 3; waited++) {
    await sleep(100);
    assert.equal((await client.call("list")).sessions.length, 1);
  }
  client.close();
  await until(() => lonely.sessions.list().sessions.length === 0, "its sessions are closed");
  await lonely.close();
});

test("nobody reaches it at another address than 127.0.0.1", async () => {
  const elsewhere = connect({ host: "127.0.0.2", port });
  const [error] = await Promise.race([once(elsewhere, "error"), once(elsewhere, "connect")]).catch((refusal) => [refusal]);
  elsewhere.destroy();
  assert.equal(/** @type {any} */ (error)?.code, "ECONNREFUSED");
});

test("dates are RFC 3339 in UTC", () => {
  for (const good of ["2026-11-21T18:00:00Z", "2026-11-21T18:00:00.123Z"]) assert.equal(problemOf("Time", good), null);
  for (const bad of ["2026-11-21", "2026-13-21T18:00:00Z", "2026-11-21T18:00:00+01:00", "2026-11-21 18:00:00Z", 1]) {
    assert.notEqual(problemOf("Time", bad), null, String(bad));
  }
});

test("every method and notification is defined", () => {
  for (const method of SCHEMA.$defs.Request.properties.method.enum) {
    assert.ok(SCHEMA.$defs[`${method}.params`] && SCHEMA.$defs[`${method}.result`], method);
  }
  for (const kind of ["ServerNotification", "ClientNotification"]) {
    for (const method of SCHEMA.$defs[kind].properties.method.enum) assert.ok(SCHEMA.$defs[`${method}.params`], method);
  }
});

test("a token is read only from a private file of ours", () => {
  const path = join(ROOT, "token");
  writeFileSync(path, `${TOKEN}\n`, { mode: 0o600 });
  assert.equal(readToken(path), TOKEN);
  for (const mode of [0o640, 0o604, 0o660, 0o400, 0o700]) {
    chmodSync(path, mode);
    assert.throws(() => readToken(path), /chmod 600/, mode.toString(8));
  }
  chmodSync(path, 0o600);
  symlinkSync(path, join(ROOT, "link"));
  assert.throws(() => readToken(join(ROOT, "link")));
  writeFileSync(path, "short");
  assert.throws(() => readToken(path), /holds no token/);
});

test("a token in somebody else's file is not taken", { skip: process.getuid?.() === 0 ? false : "only root can give a file away" }, () => {
  const path = join(ROOT, "given-away");
  writeFileSync(path, TOKEN, { mode: 0o600 });
  chownSync(path, 1, 1);
  assert.throws(() => readToken(path), /belongs to somebody else/);
});

/** Run the command with these words. @param {string[]} words */
function run(words) {
  return spawn(process.execPath, ["bin/claude-comms-bridge.mjs", ...words], { cwd: BRIDGE, env: {}, stdio: ["pipe", "pipe", "pipe"] });
}

test("serve tells one line, and ends with its standard input", async () => {
  const path = join(ROOT, "serve-token");
  writeFileSync(path, TOKEN, { mode: 0o600 });
  const child = run(["serve", "--token-file", path]);
  const exited = once(child, "exit");
  const [line] = await bounded(once(createInterface({ input: child.stdout }), "line"), "line");
  const told = JSON.parse(line);
  assert.deepEqual([told.pid, told.version, told.protocol], [child.pid, "0.1.0", 1]);
  const client = new Client(told.port);
  await client.opened;
  await client.call("hello", { protocols: [1], client: "test/1" });
  child.stdin.end();
  assert.deepEqual(await bounded(exited, "exit"), [0, null]);
  await bounded(client.closed, "end");
});

test("serve ends on SIGTERM, too", async () => {
  const child = run(["serve", "--token-file", join(ROOT, "serve-token")]);
  const exited = once(child, "exit");
  await bounded(once(child.stdout, "data"), "line");
  child.kill("SIGTERM");
  assert.deepEqual(await bounded(exited, "exit"), [0, null]);
});

test("a wrong command line is told, with the usage", async () => {
  for (const words of [[], ["other"], ["serve"], ["serve", "--token-file", "/nowhere"], ["serve", "--odd"], ["mcp", "--tools", "Task"]]) {
    const child = run(words);
    const [code] = await bounded(once(child, "exit"), "exit");
    assert.equal(code, 2, words.join(" "));
  }
  const child = run(["--version"]);
  const [version] = await once(child.stdout, "data");
  assert.equal(String(version), "0.1.0\n");
});
