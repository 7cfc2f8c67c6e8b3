/** Real sessions for tests: the project's loopback API, a bridge that runs as a process, and a client of it. */

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { WebSocket } from "ws";

import { problemOf } from "../../src/schema.mjs";

export const BRIDGE = fileURLToPath(new URL("../../", import.meta.url));
/** A Python that has claude-agent-sdk and what claude_comms needs; without it no real session is tested. */
export const PYTHON = process.env.CLAUDE_COMMS_TEST_PYTHON;
export const SKIP = PYTHON ? false : "CLAUDE_COMMS_TEST_PYTHON names no Python: no real session is tested";
export const MODEL = "claude-sonnet-5-5";
const TOKEN = "test-token-0123456789";
const PATIENCE_MS = Number(process.env.PATIENCE ?? 20_000);

/** The loopback Messages API, in a process of its own. */
export class Loopback {
  /** @type {import("node:child_process").ChildProcess} */
  #child;
  /** @type {AsyncIterator<string>} */
  #lines;
  /** @type {{variables: Record<string, string>, binary: string, launcher: string[]}} */
  about = { variables: {}, binary: "", launcher: [] };

  constructor() {
    const script = join(BRIDGE, "test/support/loopback.py");
    const env = { PATH: process.env.PATH ?? "", PYTHONPATH: join(BRIDGE, "..") };
    this.#child = spawn(String(PYTHON), [script], { env, stdio: ["pipe", "pipe", "inherit"] });
    const stdout = /** @type {import("node:stream").Readable} */ (this.#child.stdout);
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  async start() {
    this.about = JSON.parse((await this.#lines.next()).value);
    return this;
  }

  /** @param {Record<string, unknown>} command */
  async tell(command) {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    return JSON.parse((await this.#lines.next()).value).told;
  }

  /** @param {string | Record<string, unknown>} answer */
  async answer(answer) {
    await this.tell({ answer: typeof answer === "string" ? { text: answer } : answer });
  }

  /** The bodies of the requests for messages. @returns {Promise<Record<string, any>[]>} */
  async requests() {
    return await this.tell({ requests: true });
  }

  async close() {
    this.#child.stdin?.end();
    await once(this.#child, "exit");
  }
}

/** A place on the disk with a module's directory; gone at the end. */
export class Place {
  root = mkdtempSync(join(tmpdir(), "bridge-test-"));
  module = join(this.root, "module");
  #scratches = 0;

  constructor() {
    for (const name of ["module", "home", "config", "tmp"]) mkdirSync(join(this.root, name), { mode: 0o700 });
    writeFileSync(join(this.module, "pages.py"), "def blocks(): ...\n");
  }

  /**
   * Parameters of `open` for a session here.
   * @param {Loopback} api
   * @param {Record<string, unknown>} [changes]
   */
  start(api, changes = {}) {
    return {
      session: randomUUID(),
      directory: this.module,
      system: "You are the module.",
      model: MODEL,
      max_output_tokens: 8192,
      tools: ["Read", "Grep", "Glob"],
      directories: [],
      mcp_servers: {},
      environment: this.environment(api),
      scratch: join(this.root, `scratch-${++this.#scratches}`),
      binary: api.about.binary,
      ...changes,
    };
  }

  /** @param {Loopback} api @returns {Record<string, string>} */
  environment(api) {
    return {
      ...api.about.variables,
      PATH: "/usr/bin:/bin",
      HOME: join(this.root, "home"),
      CLAUDE_CONFIG_DIR: join(this.root, "config"),
      TMPDIR: join(this.root, "tmp"),
      CLAUDE_CODE_MAX_RETRIES: "2",
      CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: "1",
      ENABLE_TOOL_SEARCH: "false",
      DISABLE_TELEMETRY: "1",
    };
  }

  remove() {
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** `serve` as a process. */
export class Bridge {
  /** @type {{port: number, pid: number, version: string, protocol: number}} */
  announced = { port: 0, pid: 0, version: "", protocol: 0 };
  stderr = "";

  /** @param {Place} place @param {string[]} launcher */
  constructor(place, launcher) {
    const token = join(place.root, "token");
    writeFileSync(token, TOKEN, { mode: 0o600 });
    const words = ["bin/claude-comms-bridge.mjs", "serve", "--token-file", token];
    if (launcher.length) words.push("--launcher", JSON.stringify(launcher));
    // The rest of its environment must not reach a session.
    const env = { PATH: process.env.PATH ?? "", BRIDGE_ONLY: "not-for-sessions", NODE_OPTIONS: "" };
    this.child = spawn(process.execPath, words, { cwd: BRIDGE, env, stdio: ["pipe", "pipe", "pipe"] });
    this.child.stderr.on("data", (data) => (this.stderr += data));
    this.exited = once(this.child, "exit");
  }

  async start() {
    const lines = createInterface({ input: this.child.stdout });
    const [line] = await Promise.race([once(lines, "line"), this.exited.then(() => [""])]);
    if (line === "") throw new Error(`the bridge did not start: ${this.stderr}`);
    this.announced = JSON.parse(line);
    return this;
  }

  /** @param {{hello?: boolean}} [options] */
  async connect({ hello = true } = {}) {
    const client = new Client(this.announced.port);
    await client.opened;
    if (hello) await client.call("hello", { protocols: [1], client: "test/1" });
    return client;
  }

  async close() {
    this.child.stdin.end();
    await this.exited;
  }
}

/** A client that takes nothing which is not valid under schema.json. */
export class Client {
  /** @type {Map<number, {method: string, resolve: (value: any) => void, reject: (error: any) => void}>} */
  #waiting = new Map();
  #ids = 0;
  /** @type {Array<{method: string, params: Record<string, any>}>} */
  told = [];
  /** @type {Array<() => void>} */
  #wakers = [];
  /** Credit for each turn that is ready; 0 gives none. */
  credit = 1_000_000;

  /** @param {number} port */
  constructor(port, token = TOKEN) {
    this.socket = new WebSocket(`ws://127.0.0.1:${port}/`, "claude-comms.bridge.v1", {
      headers: { authorization: `Bearer ${token}` },
    });
    this.opened = once(this.socket, "open");
    this.closed = once(this.socket, "close");
    this.socket.on("message", (data) => this.#take(JSON.parse(data.toString())));
  }

  /** @param {any} message */
  #take(message) {
    const problem = problemOf(message.method ? "ServerNotification" : "Response", message);
    if (problem) throw new Error(`the bridge sent what is not valid: ${JSON.stringify({ problem, message })}`);
    if (message.method) this.#note(message);
    else this.#answered(message);
  }

  /** @param {any} message */
  #note(message) {
    this.told.push(message);
    for (const wake of this.#wakers.splice(0)) wake();
    if (message.method === "turn.ready" && this.credit) this.allow(message.params, this.credit);
  }

  /** @param {any} message */
  #answered(message) {
    const request = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error) return request?.reject(Object.assign(new Error(message.error.message), message.error));
    const problem = problemOf(`${request?.method}.result`, message.result);
    if (problem) request?.reject(new Error(`not valid: ${JSON.stringify({ problem, message })}`));
    else request?.resolve(message.result);
  }

  /** @param {string} method @param {Record<string, unknown>} params @returns {Promise<any>} */
  call(method, params = {}) {
    const id = ++this.#ids;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { method, resolve, reject }));
    this.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return bounded(answer, method);
  }

  /** @param {Record<string, any>} turn @param {number} pieces */
  allow({ session, turn }, pieces) {
    this.socket.send(JSON.stringify({ jsonrpc: "2.0", method: "credit", params: { session, turn, pieces } }));
  }

  /** @param {string} session @param {string} text @param {Record<string, unknown>} [more] */
  ask(session, text, more = {}) {
    const turn = `t${++this.#ids}`;
    return this.call("turn", { session, turn, text, window: 1_000_000, ...more });
  }

  /** The text of a turn, or of all. @param {string} [turn] */
  text(turn) {
    return this.of("turn.delta").filter((params) => !turn || params.turn === turn).map((params) => params.text).join("");
  }

  /** The parameters of the notifications of that name. @param {string} method */
  of(method) {
    return this.told.filter((one) => one.method === method).map((one) => one.params);
  }

  /** Return once a notification of that name has come. @param {string} method @param {number} [count] */
  async heard(method, count = 1) {
    while (this.of(method).length < count) {
      await bounded(new Promise((resolve) => this.#wakers.push(() => resolve(undefined))), method);
    }
    return this.of(method)[count - 1];
  }

  close() {
    this.socket.terminate();
  }
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {string} what
 * @returns {Promise<T>}
 */
export async function bounded(promise, what) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = /** @type {Promise<never>} */ (
    new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`no ${what} in time`)), PATIENCE_MS)))
  );
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The command lines and ids of all processes that say `mark` in their environment. @param {string} mark */
export function marked(mark) {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "latin1").includes(mark)) return [];
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return [{ pid: Number(pid), argv }];
    } catch {
      return [];
    }
  });
}

/** Return once `done` holds. @param {() => boolean} done @param {string} what */
export async function until(done, what) {
  for (const end = Date.now() + PATIENCE_MS; !done(); ) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
