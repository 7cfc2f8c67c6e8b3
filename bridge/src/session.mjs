/** One session: one `query()` of the Agent SDK held open, and the Claude Code process that it talks to. */

import { EventEmitter } from "node:events";

import { query } from "@anthropic-ai/claude-agent-sdk";

import { Confinement } from "./confinement.mjs";
import { BridgeError, cannotStart, closedError, crashed, unreached } from "./errors.mjs";
import { Inbox, userMessage } from "./inbox.mjs";
import { DRAIN_MS, LaunchedProcess } from "./launch.mjs";
import { optionsFor } from "./options.mjs";
import { kindOf } from "./paths.mjs";
import { shorten } from "./text.mjs";
import { UsageMeter } from "./usage.mjs";
import { deferred, LATE, sleep, within } from "./waiting.mjs";

/**
 * @typedef {import("./confinement.mjs").Decision} Decision
 * @typedef {object} Start  the parameters of `open` and `resume`
 * @property {string} session
 * @property {string} directory
 * @property {string} system
 * @property {string} model
 * @property {number} max_output_tokens
 * @property {string[]} tools
 * @property {string[]} directories
 * @property {Record<string, {definition: Record<string, unknown>, tools: string[] | null}>} mcp_servers
 * @property {Record<string, string>} environment
 * @property {string} scratch
 * @property {string} [binary]
 * @property {string} [transcript]
 * @property {string} [position]
 */

const START_MS = 30_000;
const SERVERS_TICK_MS = 50;
const CLEAR_MS = 10_000;
const CONTROL_MS = 500;
const GONE_MS = 2_000;
const NOT_RUN = 127;

/** Emits `died` with {how, stderr_tail} when its process ends that nobody has stopped. */
export class Session extends EventEmitter {
  /** @type {"starting" | "idle" | "busy" | "dead"} */
  state = "starting";
  turns = 0;
  /** What was decided in this turn, by the call's id. @type {Map<string, Decision>} */
  rulings = new Map();
  /** The running exchange. @type {import("./exchange.mjs").Exchange | null} */
  exchange = null;
  /** @type {LaunchedProcess | null} */
  process = null;
  /** Whether the session holds anything yet. */
  used;
  #closed = false;
  /** Settles once all that the process said has been taken. */
  #pumped = Promise.resolve();
  /** Why it was let go of; else its own end tells. @type {BridgeError | null} */
  #broken = null;
  #inbox = new Inbox();
  /** @type {import("@anthropic-ai/claude-agent-sdk").Query | null} */
  #query = null;
  /** @type {((message: Record<string, any>) => Promise<void>) | null} */
  #listener = null;
  #gone = /** @type {ReturnType<typeof deferred<BridgeError>>} */ (deferred());

  /**
   * `denied` for a grant that cannot be given.
   * @param {Start} start
   * @param {{launcher: string[], resumed: boolean}} options
   */
  constructor(start, { launcher, resumed }) {
    super();
    this.id = start.session;
    this.given = start;
    this.model = start.model;
    this.launcher = launcher;
    this.resumed = this.used = resumed;
    this.meter = new UsageMeter({ resumed });
    this.confinement = new Confinement({ ...start, servers: start.mcp_servers });
  }

  // --- start ---

  /** Start the process, shake hands, and wait for the granted MCP servers; their states. */
  async start() {
    try {
      this.#checkDirectory();
      const options = optionsFor(this.given, this.resumed, {
        rule: (useId, tool, given) => this.#rule(useId, tool, given),
        spawn: (spawned) => this.#spawn(spawned),
      });
      this.#query = query({ prompt: this.#inbox, options });
      this.#pumped = this.#pump(this.#query);
      const ready = this.guarded(this.#query.initializationResult());
      if ((await within(ready, START_MS)) === LATE) throw this.#unanswered();
      const servers = await this.#reachServers();
      if (this.#closed) throw closedError();
      this.state = "idle";
      return servers;
    } catch (error) {
      const tail = this.process?.stderrTail;
      // 127 is what a program is told by that cannot be run.
      const notRun = this.process?.exitCode === NOT_RUN;
      await this.close();
      throw error instanceof BridgeError && !notRun ? error : cannotStart(error, notRun ? "" : tail);
    }
  }

  #checkDirectory() {
    if (this.#closed) throw closedError();
    const { directory } = this.given;
    if (kindOf(directory) === "directory") return;
    throw new BridgeError("unavailable", `${directory} is no directory. Give one that exists.`);
  }

  #unanswered() {
    const tail = this.process?.stderrTail ?? "";
    const said = tail ? ` It said: ${shorten(tail, 500)}` : "";
    return crashed(`Claude Code did not answer within ${START_MS / 1000} s of its start.${said} Ask again.`, { stderrTail: tail });
  }

  /**
   * @param {import("@anthropic-ai/claude-agent-sdk").SpawnOptions} options
   */
  #spawn(options) {
    if (this.#closed) throw closedError();
    const launched = new LaunchedProcess(options, this.launcher);
    this.process = launched;
    launched.on("broken", (error) => this.#broke(error));
    launched.once("ended", () => {
      this.state = "dead";
      // What it said before comes first.
      void within(this.#pumped, 2 * DRAIN_MS).then(() => this.#gone.resolve(this.#broken ?? launched.crashed()));
      if (!launched.stopping) this.emit("died", { how: launched.how, stderr_tail: launched.stderrTail });
    });
    return launched;
  }

  /**
   * @param {BridgeError} error
   */
  #broke(error) {
    this.#broken = error;
    void this.lose("wrote something that is not its protocol");
  }

  /**
   * Decide, and put it on record.
   * @param {string | undefined} useId
   * @param {string} tool
   * @param {unknown} given
   */
  #rule(useId, tool, given) {
    const decision = this.confinement.rule(tool, given);
    if (useId !== undefined) this.rulings.set(useId, decision);
    return decision;
  }

  async #reachServers() {
    const waiting = new Set(Object.keys(this.given.mcp_servers));
    const until = Date.now() + START_MS;
    while (waiting.size) {
      for (const server of await this.#servers()) {
        if (server.status === "connected") waiting.delete(server.name);
        else if (server.status !== "pending" && waiting.has(server.name)) throw unreached(server.name, server.error || server.status);
      }
      if (!waiting.size) break;
      if (Date.now() > until) throw unreached([...waiting][0], "it did not answer in time");
      await sleep(SERVERS_TICK_MS);
    }
    return Object.keys(this.given.mcp_servers).map((name) => ({ name, status: "connected" }));
  }

  async #servers() {
    return (await this.guarded(this.#running().mcpServerStatus())) ?? [];
  }

  #running() {
    if (!this.#query) throw new BridgeError("unavailable", "the session has not been started.");
    return this.#query;
  }

  // --- what it says ---

  /**
   * @param {import("@anthropic-ai/claude-agent-sdk").Query} messages
   */
  async #pump(messages) {
    try {
      for await (const message of messages) await this.#listener?.(message);
    } catch {
      // its process tells how it ended
    }
  }

  /**
   * Have every message given to `listener`, until another is set; the next is read when it has returned.
   * @param {((message: Record<string, any>) => Promise<void>) | null} listener
   */
  listen(listener) {
    this.#listener = listener;
  }

  /** Settles when the process is gone, with the error that says why. */
  get gone() {
    return this.#gone.promise;
  }

  /** Let the process say no more, or go on; see Lines. @param {boolean} held */
  hold(held) {
    this.process?.lines.hold(held);
  }

  // --- asking ---

  /**
   * Put a question, which acts on nothing: no @path and no /command in it is looked at.
   * @param {string} text
   * @param {string} model
   */
  async ask(text, model) {
    if (model !== this.model) {
      await this.guarded(this.#running().setModel(model));
      this.model = model;
    }
    this.used = true;
    this.rulings.clear();
    this.meter.beginTurn();
    this.#inbox.put({ ...userMessage(text), client_composed: true });
  }

  /** Ask the process to stop its turn; the turn's result follows. Waits at most 0.5 s for the receipt. */
  async interrupt() {
    await within(this.guarded(this.#running().interrupt()).catch(() => {}), CONTROL_MS);
  }

  /** Return once the process has answered a control request; `timeout` after `ms`. @param {number} ms */
  async prove(ms) {
    if ((await within(this.#servers(), ms)) !== LATE) return;
    throw new BridgeError("timeout", `session ${this.id} did not answer within ${ms / 1000} s. Close it and resume it.`);
  }

  /** Begin a new session in the same process; false where that did not work. */
  async clear() {
    const cleared = /** @type {ReturnType<typeof deferred<string>>} */ (deferred());
    this.listen(async (message) => {
      if (message.type === "result") cleared.resolve(String(message.session_id));
    });
    // The one message that is meant to act: it is ours, and goes unmarked.
    this.#inbox.put(userMessage("/clear"));
    const id = await within(Promise.race([cleared.promise, this.gone]), CLEAR_MS);
    this.listen(null);
    if (typeof id !== "string" || id === this.id) return false;
    this.id = id;
    this.used = false;
    this.meter.cleared();
    return true;
  }

  /**
   * The SDK's call, with its exceptions as ours; `crashed` once the process is gone.
   * @template T
   * @param {Promise<T>} call
   * @returns {Promise<T>}
   */
  async guarded(call) {
    call.catch(() => {});
    const outcome = await Promise.race([call.then((value) => ({ value }), (error) => ({ error })), this.gone]);
    if (outcome instanceof BridgeError) throw outcome;
    if ("value" in outcome) return outcome.value;
    if (!this.process) throw cannotStart(outcome.error);
    if (!this.process.alive) {
      const why = await within(this.gone, GONE_MS);
      throw why === LATE ? this.process.crashed() : why;
    }
    const said = shorten(String(outcome.error?.message ?? outcome.error), 300);
    throw new BridgeError("failed", `Claude Code refused a request: ${said}. Ask again.`, { reason: "refused_request", retryable: true });
  }

  // --- end ---

  /**
   * Stop the process with all it started. Bounded; may be called twice.
   * @param {{gently?: boolean}} [how]
   */
  async close(how) {
    this.#closed = true;
    this.state = "dead";
    await this.process?.stop(how);
    this.#inbox.end();
    if (this.process) await within(this.gone, 3 * DRAIN_MS);
    else this.#gone.resolve(closedError());
    this.#query?.close();
  }

  /** Stop the process, which is of no use any more, and say so. @param {string} how */
  async lose(how) {
    if (this.process?.alive) this.emit("died", { how, stderr_tail: this.process.stderrTail });
    await this.close({ gently: false });
  }

  /** Let go of it without waiting. */
  abandon() {
    this.#closed = true;
    this.state = "dead";
    this.process?.abandon();
  }
}
