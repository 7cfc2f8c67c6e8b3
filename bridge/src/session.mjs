/** One session: one `query()` of the Agent SDK held open, and the Claude Code process that it talks to. */

import { EventEmitter } from "node:events";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { query } from "@anthropic-ai/claude-agent-sdk";

import { Confinement, denyRules } from "./confinement.mjs";
import { BridgeError, crashed } from "./errors.mjs";
import { LaunchedProcess } from "./launch.mjs";
import { kindOf } from "./paths.mjs";
import { oneLine, shorten } from "./text.mjs";
import { UsageMeter } from "./usage.mjs";
import { deferred, LATE, sleep, within } from "./waiting.mjs";

/**
 * @typedef {import("@anthropic-ai/claude-agent-sdk").SDKUserMessage} UserMessage
 * @typedef {import("@anthropic-ai/claude-agent-sdk").McpServerConfig} ServerConfig
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
      const options = this.#options(writeSettings(this.given.scratch));
      this.#query = query({ prompt: this.#inbox, options });
      this.#pump(this.#query);
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
   * @param {string} settings  the file with the deny rules
   * @returns {import("@anthropic-ai/claude-agent-sdk").Options}
   */
  #options(settings) {
    const { directory, system, tools, directories, mcp_servers, environment, binary, position } = this.given;
    const servers = Object.entries(mcp_servers).map(([name, { definition }]) => [name, definition]);
    return {
      cwd: directory,
      env: { ...environment, CLAUDE_CODE_MAX_OUTPUT_TOKENS: String(this.given.max_output_tokens) },
      model: this.model,
      // In the initialize request, like the servers: every user of the machine can read a command line.
      systemPrompt: { type: "custom", prompt: system, snapshot: false },
      mcpServers: /** @type {Record<string, ServerConfig>} */ (Object.fromEntries(servers)),
      mcpServersDelivery: "initialize",
      settings,
      settingSources: [],
      strictMcpConfig: true,
      extraArgs: { restricted: null },
      permissionMode: "default",
      tools,
      additionalDirectories: directories,
      includePartialMessages: true,
      canUseTool: async (tool, given, { toolUseID }) => {
        const decision = this.#rule(toolUseID, tool, given);
        return decision.allowed ? { behavior: "allow", updatedInput: given } : { behavior: "deny", message: decision.reason };
      },
      hooks: { PreToolUse: [{ hooks: [this.#beforeTool], onFailure: "block" }] },
      ...(binary === undefined ? {} : { pathToClaudeCodeExecutable: binary }),
      ...(this.resumed ? { resume: this.given.transcript ?? this.id } : { sessionId: this.id }),
      ...(this.resumed && position !== undefined ? { resumeSessionAt: position } : {}),
      spawnClaudeCodeProcess: (options) => this.#spawn(options),
    };
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
      this.#gone.resolve(launched.crashed());
      if (!launched.stopping) this.emit("died", { how: launched.how, stderr_tail: launched.stderrTail });
    });
    return launched;
  }

  /**
   * @param {BridgeError} error
   */
  #broke(error) {
    this.#gone.resolve(error);
    void this.lose("wrote something that is not its protocol");
  }

  /** @type {import("@anthropic-ai/claude-agent-sdk").HookCallback} */
  #beforeTool = async (input, useId) => {
    const call = /** @type {{tool_name?: unknown, tool_input?: unknown}} */ (input);
    const decision = this.#rule(useId, String(call.tool_name), call.tool_input ?? {});
    return {
      hookSpecificOutput: {
        hookEventName: "PreToolUse",
        permissionDecision: decision.allowed ? "allow" : "deny",
        permissionDecisionReason: decision.reason,
      },
    };
  };

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
    if (!this.process?.alive) throw this.process?.crashed() ?? cannotStart(outcome.error);
    const said = shorten(String(outcome.error?.message ?? outcome.error), 300);
    throw new BridgeError("failed", `Claude Code refused a request: ${said}. Ask again.`, { reason: "refused_request", retryable: true });
  }

  // --- end ---

  /** Stop the process with all it started. Bounded; may be called twice. */
  async close() {
    this.#closed = true;
    this.state = "dead";
    await this.process?.stop();
    this.#gone.resolve(closedError());
    this.#inbox.end();
    this.#query?.close();
  }

  /** Stop the process, which is of no use any more, and say so. @param {string} how */
  async lose(how) {
    if (this.process?.alive) this.emit("died", { how, stderr_tail: this.process.stderrTail });
    await this.close();
  }

  /** Let go of it without waiting. */
  abandon() {
    this.#closed = true;
    this.state = "dead";
    this.process?.abandon();
  }
}

/** The messages for the process, as the SDK takes them. */
class Inbox {
  /** @type {UserMessage[]} */
  #messages = [];
  #ended = false;
  #wake = () => {};

  /** @param {UserMessage} message */
  put(message) {
    this.#messages.push(message);
    this.#wake();
  }

  end() {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    while (!this.#ended) {
      const message = this.#messages.shift();
      if (message) yield message;
      else await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
  }
}

function closedError() {
  return crashed("the session was closed. Resume it, or open a new one.");
}

/**
 * @param {string} text
 * @returns {UserMessage}
 */
function userMessage(text) {
  return { type: "user", message: { role: "user", content: text }, parent_tool_use_id: null };
}

/**
 * Write the deny rules, for the owner's eyes alone.
 * @param {string} scratch
 */
function writeSettings(scratch) {
  const path = join(scratch, "settings.json");
  mkdirSync(scratch, { recursive: true, mode: 0o700 });
  writeFileSync(path, JSON.stringify({ permissions: { deny: denyRules() } }), { mode: 0o600 });
  chmodSync(path, 0o600);
  return path;
}

/**
 * @param {string} name
 * @param {string} reason
 */
function unreached(name, reason) {
  const said = shorten(reason, 300);
  return new BridgeError("unavailable", `the MCP server ${JSON.stringify(name)}, which was granted, cannot be used: ${said}. Correct its definition.`);
}

/**
 * @param {unknown} error
 * @param {string} [tail]
 */
function cannotStart(error, tail = "") {
  const said = oneLine(error instanceof Error ? error.message : String(error));
  const more = tail ? ` It said: ${shorten(tail, 500)}` : "";
  return new BridgeError("unavailable", `cannot start Claude Code: ${shorten(said, 500)}.${more} Check the directory and the binary.`);
}
