/** JSON-RPC 2.0 on one connection: what comes in is checked, and answered by the methods. */

import { BridgeError } from "./errors.mjs";
import { lossyNumber, problemOf, SCHEMA } from "./schema.mjs";
import { PROTOCOLS, sdkVersion, VERSION } from "./versions.mjs";

/**
 * @typedef {import("./sessions.mjs").Sessions} Sessions
 * @typedef {import("./sessions.mjs").Client} Client
 * @typedef {{code: number, message: string, data?: Record<string, unknown>}} RpcError
 */

/** @type {string[]} */
const METHODS = SCHEMA.$defs.Request.properties.method.enum;

/** One connection's side of the conversation. @implements {Client} */
export class Peer {
  #sessions;
  #send;
  #greeted = false;
  /** @type {Set<unknown>} */
  #running = new Set();
  /** @type {Set<import("./exchange.mjs").Exchange>} */
  exchanges = new Set();

  /**
   * @param {Sessions} sessions
   * @param {(text: string) => void} send
   */
  constructor(sessions, send) {
    this.#sessions = sessions;
    this.#send = send;
  }

  /** Whether it has said hello. */
  get greeted() {
    return this.#greeted;
  }

  /**
   * @param {string} method
   * @param {Record<string, unknown>} params
   */
  notify = (method, params) => {
    this.#say({ jsonrpc: "2.0", method, params });
  };

  /** The client is gone: its turns have nobody to go to. */
  lost() {
    for (const exchange of this.exchanges) exchange.interrupt();
  }

  /**
   * Work in one message of the client's. Never throws.
   * @param {string} text
   */
  async take(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#fail(null, { code: -32700, message: "the message is not JSON." });
    }
    if (isObject(message) && message.jsonrpc === "2.0" && message.method === "credit" && !("id" in message)) {
      return this.#credit(message);
    }
    const invalid = this.#invalid(message);
    const id = isObject(message) && problemOf("RequestId", message.id) === null ? message.id : null;
    if (invalid) return this.#fail(id, invalid);
    await this.#answer(message);
  }

  /**
   * @param {any} message
   * @returns {RpcError | null}
   */
  #invalid(message) {
    if (!isObject(message) || message.jsonrpc !== "2.0" || typeof message.method !== "string") {
      return { code: -32600, message: "the message is not a request of JSON-RPC 2.0." };
    }
    if (problemOf("RequestId", message.id)) return { code: -32600, message: "the request has no id that can be answered." };
    if (this.#running.has(message.id)) return { code: -32600, message: "another request with that id is running." };
    if (!METHODS.includes(message.method)) return { code: -32601, message: `there is no method ${JSON.stringify(message.method)}.` };
    const problem = problemOf("Request", message) ?? lossyNumber(message.params, "/params");
    return problem && { code: -32602, message: `${problem.path || "the request"} ${problem.problem}.`, data: { ...problem } };
  }

  /** @param {any} message */
  #credit(message) {
    // A notification has no answer, not even that it is wrong.
    if (this.#greeted && problemOf("ClientNotification", message) === null) this.#sessions.credit(message.params);
  }

  /** @param {{id: string | number, method: string, params: any}} request */
  async #answer({ id, method, params }) {
    this.#running.add(id);
    try {
      this.#say({ jsonrpc: "2.0", id, result: await this.#call(method, params) });
    } catch (error) {
      this.#fail(id, rpcError(error));
    } finally {
      this.#running.delete(id);
    }
  }

  /**
   * @param {string} method
   * @param {any} params
   */
  async #call(method, params) {
    if (method === "hello") return this.#hello(params);
    if (!this.#greeted) throw mismatch("the first request must be hello.");
    switch (method) {
      case "open":
        return await this.#sessions.open(params);
      case "resume":
        return await this.#sessions.resume(params);
      case "turn":
        return await this.#sessions.turn(params, this);
      case "interrupt":
        return this.#sessions.interrupt(params);
      case "close":
        return await this.#sessions.close(params);
      case "list":
        return this.#sessions.list();
      default:
        return await this.#sessions.health(params);
    }
  }

  /** @param {{protocols: number[], client: string}} params */
  #hello({ protocols, client }) {
    const protocol = Math.max(...PROTOCOLS.filter((one) => protocols.includes(one)));
    if (!Number.isFinite(protocol)) throw mismatch(advice(protocols, client));
    this.#greeted = true;
    return { protocol, bridge: VERSION, sdk: sdkVersion(), node: process.version, pid: process.pid };
  }

  /**
   * @param {string | number | null} id
   * @param {RpcError} error
   */
  #fail(id, error) {
    this.#say({ jsonrpc: "2.0", id, error });
  }

  /** @param {Record<string, unknown>} message */
  #say(message) {
    this.#send(JSON.stringify(message));
  }
}

/**
 * @param {number[]} protocols
 * @param {string} client
 */
function advice(protocols, client) {
  const older = Math.max(...protocols) < Math.min(...PROTOCOLS);
  const both = `the client ${JSON.stringify(client)} speaks protocols ${protocols.join(", ")} and this bridge (${VERSION}) ${PROTOCOLS.join(", ")}`;
  return `${both}. Upgrade ${older ? "the client" : "claude-comms-bridge"}.`;
}

/** @param {string} message */
function mismatch(message) {
  return new BridgeError("version", message, { supported: PROTOCOLS, bridge: VERSION });
}

/**
 * An exception as it goes out. What nobody foresaw is told by its kind alone: its words may hold anything.
 * @param {unknown} error
 * @returns {RpcError}
 */
function rpcError(error) {
  if (error instanceof BridgeError) {
    return { code: -32000, message: error.message, data: { ...error.data, type: error.type } };
  }
  const kind = error instanceof Error ? error.name : typeof error;
  process.stderr.write(`internal error: ${kind}\n`);
  return { code: -32603, message: `the bridge failed (${kind}). Ask again; if it happens again, restart it.` };
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
