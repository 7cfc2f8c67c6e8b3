/** All sessions of a bridge, and what a client may do with them. */

import { isDeepStrictEqual } from "node:util";

import { BridgeError, unknownSession } from "./errors.mjs";
import { Exchange } from "./exchange.mjs";
import { memoryOf } from "./processes.mjs";
import { Session } from "./session.mjs";
import { discardTranscript } from "./transcripts.mjs";
import { within } from "./waiting.mjs";

/**
 * @typedef {import("./session.mjs").Start} Start
 * @typedef {object} Client  one connection
 * @property {(method: string, params: Record<string, unknown>) => void} notify
 * @property {Set<Exchange>} exchanges  the turns that it has asked for and that are running
 */

const PROVE_MS = 5_000;
const MOST_STARTING = 4;
const STOPPING_MS = 2_000;

/** The methods of the protocol, by their names; `notify` tells all clients. */
export class Sessions {
  /** @type {Map<string, Session>} */
  #sessions = new Map();
  #starting = 0;
  /** @type {Array<() => void>} */
  #queue = [];
  #closed = false;

  /**
   * @param {object} options
   * @param {string[]} options.launcher
   * @param {(method: string, params: Record<string, unknown>) => void} options.notify
   */
  constructor({ launcher, notify }) {
    this.launcher = launcher;
    this.notify = notify;
  }

  // --- start ---

  /** @param {Start & {reuse?: string}} params */
  async open({ reuse, ...start }) {
    return reuse === undefined ? await this.#start(start, false) : await this.#reused(reuse, start);
  }

  /** @param {Start} params */
  async resume(params) {
    return await this.#start(params, true);
  }

  /**
   * @param {Start} start
   * @param {boolean} resumed
   */
  async #start(start, resumed) {
    const there = this.#sessions.get(start.session);
    if (there && there.state !== "dead") {
      throw new BridgeError("busy", `session ${start.session} is open here. Use it, or close it first.`);
    }
    const session = new Session(start, { launcher: this.launcher, resumed });
    this.#sessions.set(session.id, session);
    session.once("died", (/** @type {Record<string, unknown>} */ how) => this.notify("session.died", { session: session.id, ...how }));
    try {
      await this.#turnToStart();
      const servers = await session.start().finally(() => this.#started());
      return { session: session.id, pid: session.process?.pid ?? null, servers };
    } catch (error) {
      if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
      throw error;
    }
  }

  /** Many starting at once would all be late. */
  async #turnToStart() {
    if (this.#starting >= MOST_STARTING) await new Promise((resolve) => this.#queue.push(() => resolve(undefined)));
    this.#starting += 1;
    if (this.#closed) throw new BridgeError("unavailable", "the bridge is ending. Start it again.");
  }

  #started() {
    this.#starting -= 1;
    this.#queue.shift()?.();
  }

  /**
   * The session whose process is taken for another. An error where it cannot be: then it stays as it is, or is gone.
   * @param {string} id
   * @param {Start} start
   */
  async #reused(id, start) {
    const session = this.#known(id);
    if (session.state === "busy" || session.state === "starting") throw busy(id);
    if (session.state !== "idle" || !sameProcess(session.given, start)) throw notReusable(id, "it was started otherwise, or is dead");
    session.state = "busy";
    if (session.used && !(await session.clear())) {
      await this.#end(session);
      throw notReusable(id, "Claude Code did not clear it, and was stopped");
    }
    session.state = "idle";
    session.given = start;
    session.turns = 0;
    this.#sessions.delete(id);
    this.#sessions.set(session.id, session);
    const servers = Object.keys(start.mcp_servers).map((name) => ({ name, status: "connected" }));
    return { session: session.id, pid: session.process?.pid ?? null, servers };
  }

  /** @param {string} id */
  #known(id) {
    const session = this.#sessions.get(id);
    if (!session) throw unknownSession(id);
    return session;
  }

  // --- turns ---

  /**
   * @param {{session: string, turn: string, text: string, model?: string, window: number}} params
   * @param {Client} client
   */
  async turn(params, client) {
    const session = this.#known(params.session);
    if (session.exchange?.stopping) await within(session.exchange.over, STOPPING_MS);
    if (session.state === "dead") throw session.process?.crashed() ?? unknownSession(params.session);
    if (session.state !== "idle") throw busy(params.session);
    const exchange = new Exchange(session, params, client.notify);
    session.state = "busy";
    session.exchange = exchange;
    client.exchanges.add(exchange);
    try {
      return await exchange.run();
    } finally {
      client.exchanges.delete(exchange);
      session.exchange = null;
      if (session.state === "busy") session.state = "idle";
      exchange.end();
    }
  }

  /** @param {{session: string, turn: string, pieces: number}} params */
  credit(params) {
    this.#running(params)?.allow(params.pieces);
  }

  /** Stop whatever turn is running. @param {string} session */
  interruptAny(session) {
    this.#known(session).exchange?.interrupt();
    return {};
  }

  /** @param {{session: string, turn: string}} params */
  interrupt(params) {
    this.#known(params.session);
    this.interruptIfRunning(params);
    return {};
  }

  /** Stop that turn; nothing where it does not run. @param {{session: string, turn: string}} params */
  interruptIfRunning(params) {
    this.#running(params)?.interrupt();
  }

  /** @param {{session: string, turn: string}} params */
  #running({ session, turn }) {
    const exchange = this.#sessions.get(session)?.exchange;
    return exchange?.turn === turn ? exchange : null;
  }

  // --- end ---

  /** @param {{session: string, discard: boolean}} params */
  async close({ session: id, discard }) {
    const session = this.#known(id);
    await this.#end(session);
    if (discard) discardTranscript(session);
    return {};
  }

  /** @param {Session} session */
  async #end(session) {
    await session.close();
    if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
  }

  /** Close the sessions in which nothing runs. */
  async closeIdle() {
    const idle = [...this.#sessions.values()].filter((session) => session.state === "idle" || session.state === "dead");
    await Promise.all(idle.map((session) => this.#end(session)));
  }

  /** Close all; for the end of the bridge. */
  async closeAll() {
    this.#closed = true;
    for (const wake of this.#queue.splice(0)) wake();
    await Promise.all([...this.#sessions.values()].map((session) => session.close()));
  }

  /** Let go of all without waiting. */
  abandonAll() {
    for (const session of this.#sessions.values()) session.abandon();
  }

  // --- looking ---

  list() {
    return {
      sessions: [...this.#sessions.values()].map((session) => ({
        session: session.id,
        state: session.state,
        pid: session.process?.pid ?? null,
        turns: session.turns,
        directory: session.given.directory,
        model: session.model,
      })),
    };
  }

  /** @param {{prove?: string}} params */
  async health({ prove }) {
    if (prove !== undefined) await this.#proved(this.#known(prove));
    const sessions = [...this.#sessions.values()];
    const memory = memoryOf(sessions.map((session) => session.process?.pid ?? null));
    return {
      pid: process.pid,
      rss_bytes: process.memoryUsage.rss(),
      uptime_s: process.uptime(),
      sessions: sessions.map((session, index) => ({
        session: session.id,
        state: session.state,
        pid: session.process?.pid ?? null,
        rss_bytes: memory[index],
        turns: session.turns,
        last_alive_at: session.process?.lastAliveAt.toISOString() ?? null,
      })),
    };
  }

  /** @param {Session} session */
  async #proved(session) {
    if (session.state === "dead" && session.process) throw session.process.crashed();
    // While its text waits for credit it can answer nothing; and a turn proves more than a question of its state.
    if (session.state === "busy") throw busy(session.id);
    await session.prove(PROVE_MS);
  }
}

/** @param {string} id */
function busy(id) {
  return new BridgeError("busy", `session ${id} is answering another question. Wait for it, or interrupt it.`);
}

/**
 * @param {string} id
 * @param {string} why
 */
function notReusable(id, why) {
  return new BridgeError("unavailable", `the process of session ${id} cannot be taken for another: ${why}. Close it, and open a new one.`);
}

/**
 * Whether a process started with `given` is what `start` asks for. Its model can be changed.
 * @param {Start} given
 * @param {Start} start
 */
function sameProcess(given, start) {
  /** @param {Start} one */
  const fixed = ({ session: _, model: __, transcript: ___, position: ____, ...rest }) => rest;
  return isDeepStrictEqual(fixed(given), fixed(start));
}
